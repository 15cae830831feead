import json

import pytest

from callboard_console.cli.addresses import is_local, url
from callboard_console.cli.output import age, plain, print_json, table, value_text
from callboard_console.cli.watch import line_of, read_message, wanted
from callboard_core.link import Message


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, None, "-"),
        (True, None, "on"),
        (21.4, "°C", "21.4 °C"),
        (0.1 + 0.2, None, "0.3"),
        ("x", None, "x"),
        (5, "%", "5 %"),
    ],
)
def test_a_value_is_shown_as_people_read_it(value: object, unit: str | None, text: str):
    assert value_text(value, unit) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (12.3, "12 s"), (300, "5 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_an_age_is_shown_as_people_read_it(seconds: float, text: str):
    assert age(seconds) == text


def test_a_table_in_a_pipe_is_tab_separated(capsys: pytest.CaptureFixture[str]):
    table(["a", "b"], [{"a": 1, "b": None}, {"a": "x"}], empty="none")
    assert capsys.readouterr().out == "a\tb\n1\tNone\nx\t\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_what_a_stranger_calls_his_machine_does_not_command_the_operators_terminal(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    table(["host", "key"], [{"host": "\x1b[2Ka\x1b]0;b\x07\x9b1A\n\u202ec", "key": "0f"}], empty="none")
    shown = capsys.readouterr().out
    assert not [one for one in ("\x1b[2K", "\x1b]0", "\x07", "\x9b", "\u202e") if one in shown]
    assert len(shown.splitlines()) == 2


def test_a_line_of_a_strangers_log_stays_one_line():
    assert plain("one\rtwo\x1b[1A") == "one two\N{REPLACEMENT CHARACTER}[1A"


def test_an_empty_table_says_so_on_standard_error(capsys: pytest.CaptureFixture[str]):
    table(["a"], [], empty="nothing here")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "nothing here\n")


def test_json_on_one_line_stays_on_one_line(capsys: pytest.CaptureFixture[str]):
    print_json({"a": "°C"}, indent=None)
    assert capsys.readouterr().out == '{"a": "°C"}\n'


@pytest.mark.parametrize(
    ("topic", "payload", "line"),
    [
        ("callboard/pump/status", {"status": "ready", "epoch": 1, "t": 0}, "pump  is ready"),
        ("callboard/pump/state/sensor/flow", {"v": 1.5, "t": 0}, "pump/flow  1.5 l/s"),
        (
            "callboard/pump/state/sensor/flow",
            {"error": {"code": "failed", "message": "dry"}, "t": 0},
            "pump/flow  error: dry",
        ),
        (
            "callboard/pump/event/alarm",
            {"t": 0, "severity": "warning", "message": "dry"},
            "pump  alarm: warning dry",
        ),
    ],
)
def test_a_message_is_one_line(topic: str, payload: dict[str, object], line: str):
    record = read_message(Message(topic, json.dumps(payload).encode()))
    assert record is not None
    assert line_of(record, "l/s").partition("  ")[2] == line


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("callboard/pump/status", b"{"),
        ("callboard/pump/nonsense", b"{}"),
        ("x", b""),
        ("callboard/p/series/sensor/a", b"{}"),
    ],
)
def test_what_does_not_parse_is_left_out(topic: str, payload: bytes):
    assert read_message(Message(topic, payload)) is None


@pytest.mark.parametrize(
    ("patterns", "answer"),
    [
        ([], True),
        (["pump"], True),
        (["p*"], True),
        (["pump/flow"], True),
        (["pump/f*", "x"], True),
        (["green*"], False),
        (["pump/x"], False),
    ],
)
def test_globs_pick_nodes_and_things(patterns: list[str], answer: bool):
    assert wanted({"node": "pump", "name": "flow", "leaf": "state"}, patterns) is answer


@pytest.mark.parametrize(
    ("bind", "local"),
    [
        ("127.0.0.1", True),
        ("127.0.1.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
    ],
)
def test_only_loopback_is_local(bind: str, local: bool):
    assert is_local(bind) is local


@pytest.mark.parametrize(
    ("bind", "expected"),
    [("0.0.0.0", "http://127.0.0.1:80"), ("::", "http://[::1]:80"), ("10.0.0.1", "http://10.0.0.1:80")],
)
def test_a_listener_on_all_addresses_is_reached_on_loopback(bind: str, expected: str):
    assert url(bind, 80) == expected
