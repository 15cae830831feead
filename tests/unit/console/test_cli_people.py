"""What the verbs for people, tokens and the audit log ask the board, and what they show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from callboard_console.cli import admin, audit
from callboard_console.cli.main import app
from callboard_console.cli.output import span
from callboard_core.errors import BadRequest


class FakeBoard:
    """Answers with what the test says, and notes what it was asked."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, Any]] = []

    def get(self, where: str, **query: Any) -> Any:
        self.asked.append(("GET", where, query))
        return self.answer

    def post(self, where: str, body: Any) -> Any:
        return self.send("POST", where, body)

    def send(self, method: str, where: str, body: Any = None, _query: Any = None) -> Any:
        self.asked.append((method, where, body))
        return self.answer


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> FakeBoard:
    made = FakeBoard()

    @contextmanager
    def open_board(_access: object, role: str) -> Iterator[FakeBoard]:
        assert role == "admin"
        yield made

    for module in (admin, audit):
        monkeypatch.setattr(module, "open_board", open_board)
    return made


def run(*words: str, typed: str = "") -> Any:
    return CliRunner().invoke(app, list(words), input=typed)


def made(password: str | None) -> dict[str, Any]:
    return {"user": {"name": "ann", "role": "operator"}, "password": password}


def test_a_password_that_was_made_is_all_that_goes_to_standard_output(board: FakeBoard):
    board.answer = made("made-for-ann")
    done = run("user", "add", "ann", "--role", "operator")
    assert done.stdout == "made-for-ann\n"
    assert board.asked == [("POST", "/api/v1/users", {"name": "ann", "role": "operator", "client_id": ""})]


def test_a_password_is_read_from_a_file_or_asked_for(board: FakeBoard, tmp_path: Path):
    board.answer = made(None)
    file = tmp_path / "secret"
    file.write_text("from a file\n")
    assert "made" not in run("user", "add", "ann", "--new-password-file", str(file)).stdout
    run("user", "add", "ann", "--ask", typed="typed twice\ntyped twice\n")
    assert [body["password"] for _, _, body in board.asked] == ["from a file", "typed twice"]


@pytest.mark.parametrize(
    "words",
    [
        ("user", "rm", "ann"),
        ("user", "disable", "ann"),
        ("user", "passwd", "ann"),
        ("role", "rm", "gardener"),
        ("token", "rm", "1a2b"),
    ],
)
def test_what_cannot_be_undone_asks_first(board: FakeBoard, words: tuple[str, ...]):
    board.answer = made("x")
    assert run(*words, typed="n\n").exit_code == 1
    assert board.asked == []
    assert run(*words, "--yes").exit_code == 0
    assert len(board.asked) == 1


@pytest.mark.parametrize("verb", ["passwd", "disable"])
@pytest.mark.parametrize(
    ("keep", "ended", "says"),
    [
        ((), 2, "2 of its API tokens ended (--keep-tokens keeps them)"),
        ((), 0, "it had no API tokens"),
        (("--keep-tokens",), 0, "its API tokens stay"),
    ],
)
def test_what_becomes_of_a_users_api_tokens_is_said(
    board: FakeBoard, verb: str, keep: tuple[str, ...], ended: int, says: str
):
    board.answer = made(None) | {"tokens_ended": ended}
    assert says in run("user", verb, "ann", "--yes", *keep).stdout
    assert board.asked[0][2]["keep_tokens"] is bool(keep)


def test_a_token_has_an_end_unless_it_is_never(board: FakeBoard):
    board.answer = {"id": "1a2b", "username": "ann", "token": "callboard_x"}
    assert run("token", "add", "--scope", "read").stdout == "callboard_x\n"
    run("token", "add", "--scope", "read", "--expires", "never")
    assert board.asked[0][2]["expires"] > 0
    assert board.asked[1][2]["expires"] is None


def test_the_audit_log_is_printed_oldest_first(board: FakeBoard):
    entry = {
        "t": 0.0,
        "who": "ann",
        "origin": "",
        "what": "login",
        "subject": "ann",
        "result": "ok",
        "detail": "",
        "count": 1,
    }
    board.answer = {"items": [entry | {"subject": "newer"}, entry | {"subject": "older"}]}
    shown = run("audit", "--who", "ann", "--since", "7d").stdout
    assert shown.index("older") < shown.index("newer")
    assert board.asked[0][2]["who"] == "ann"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1.5h", 5400), ("2d", 172_800), ("1w", 604_800)]
)
def test_a_while_is_a_number_and_a_unit(text: str, seconds: float):
    assert span(text) == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "1y", "1 d d"])
def test_what_is_no_while_says_what_is(text: str):
    with pytest.raises(BadRequest, match="12h"):
        span(text)


def test_the_start_of_the_log_is_a_while_ago_or_a_date():
    assert audit._start(None) is None
    assert audit._start("2026-05-31") is not None
    with pytest.raises(BadRequest, match="2026-05-31"):
        audit._start("31-05-2026x")


def test_an_export_goes_to_a_file_of_a_known_kind(board: FakeBoard, tmp_path: Path):
    done = run("audit", "--export", str(tmp_path / "log.txt"))
    assert isinstance(done.exception, BadRequest)
    assert not (tmp_path / "log.txt").exists()
