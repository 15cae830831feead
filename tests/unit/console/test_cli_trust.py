"""What `callboard trust` asks the board, and when it refuses to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from typer.testing import CliRunner

from callboard_console.cli import board_http, known
from callboard_console.cli.main import app
from callboard_core.errors import BadRequest

#: More names than anybody wants to see, each of which is a node that would be lost.
LATE = [f"node-{number}" for number in range(30)]
Asked = list[tuple[str, Any]]


class FakeBoard:
    """One with a rotation under way."""

    def __init__(self, late: list[str]) -> None:
        self.late = late
        self.asked: Asked = []

    def get(self, _where: str) -> dict[str, Any]:
        return {"fingerprint": "f", "old": "o", "ends": 0.0, "not_renewed": self.late, "update_key": "k"}

    def post(self, where: str, body: Any) -> dict[str, Any]:
        self.asked.append((where, body))
        return self.get(where)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> FakeBoard:
    made = FakeBoard([])

    @contextmanager
    def open_board(_access: object, _role: str) -> Iterator[FakeBoard]:
        yield made

    monkeypatch.setattr(board_http, "open_board", open_board)
    return made


def finish(*flags: str, typed: str = "") -> Any:
    return CliRunner().invoke(app, ["trust", "rotate", "--finish", *flags], input=typed)


@pytest.mark.parametrize("flags", [(), ("--yes",)])
def test_a_rotation_is_not_finished_while_it_would_lose_nodes_and_every_one_is_named(
    board: FakeBoard, flags: tuple[str, ...]
) -> None:
    board.late = LATE
    refused = finish(*flags, typed="y\n")
    assert (refused.exit_code, board.asked) == (1, [])
    assert "--give-up" in str(refused.exception)
    assert all(f"{name}," in f"{refused.exception};".replace(";", ",") for name in LATE)


def test_nodes_are_given_up_by_name_when_that_is_said(board: FakeBoard) -> None:
    board.late = LATE
    asked = finish("--give-up", typed="n\n")
    assert (asked.exit_code, board.asked) == (1, [])
    assert LATE[-1] in asked.stderr
    done = finish("--give-up", "--yes")
    assert (done.exit_code, board.asked) == (0, [("/api/v1/trust/finish", {"force": True})])
    assert LATE[-1] in done.stderr


def test_yes_is_enough_where_nobody_is_lost(board: FakeBoard) -> None:
    assert finish("--yes").exit_code == 0
    assert board.asked == [("/api/v1/trust/finish", {"force": False})]


@pytest.mark.parametrize(
    ("where", "address"),
    [
        ("board.local", "board.local:8443"),
        ("192.168.1.10:9443", "192.168.1.10:9443"),
        ("fd00::2", "[fd00::2]:8443"),
        ("[fd00::2]", "[fd00::2]:8443"),
        ("[fd00::2]:9443", "[fd00::2]:9443"),
    ],
)
def test_a_board_is_pinned_at_the_usual_port_unless_one_is_named(where, address, monkeypatch):
    asked = []
    monkeypatch.setattr(known, "_first", lambda addresses, wanted: asked.append((addresses, wanted)))
    known.fetch(where, "AB:" * 31 + "AB")
    assert asked == [([address], "ab" * 32)]


def test_a_host_whose_name_begins_like_a_join_code_is_none():
    with pytest.raises(BadRequest, match="--fingerprint"):
        known.fetch("cbox.local", "")
