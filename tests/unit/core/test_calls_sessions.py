"""callboard_core.calls.sessions."""

from __future__ import annotations

import pytest

from callboard_core.calls.sessions import Session, Sessions


def beat(**callers: int) -> dict:
    return {"workers": {"texture": {"running": 1, "callers": callers}}}


def test_a_session_is_who_called_whom_lately_and_how_often():
    sessions = Sessions(keep=5.0)
    sessions.note("a", beat(cli=3), 10.0)
    sessions.note("a", beat(cli=6, b=1), 11.5)
    sessions.note("c", {"workers": {"zoom": {"callers": {"cli": 30}}}}, 11.5)
    assert sessions.live(11.5) == [
        Session("cli", "c", "zoom", 20.0, 11.5),
        Session("cli", "a", "texture", 3.0, 11.5),
        Session("b", "a", "texture", pytest.approx(1 / 3), 11.5),
    ]


def test_a_session_ends_when_nothing_is_called_any_more():
    sessions = Sessions(keep=5.0)
    sessions.note("a", beat(cli=5), 10.0)
    sessions.note("a", {"workers": {"texture": {"running": 0}}}, 14.0)
    assert [one.rate for one in sessions.live(14.0)] == [pytest.approx(1.0)]
    assert sessions.live(15.1) == []


def test_a_session_lasts_as_long_as_what_was_called_is_worked_on():
    sessions = Sessions(keep=5.0)
    sessions.note("a", beat(cli=1), 10.0)
    for now in (14.0, 18.0, 22.0):
        sessions.note("a", beat(cli=0), now)
    assert sessions.live(22.0) == [Session("cli", "a", "texture", 0.0, 22.0)]
    assert sessions.live(27.1) == []


def test_through_the_board_services_are_called_by_whoever_asked():
    sessions = Sessions()
    sessions.note("board", {"services": {"render:frames": {"callers": {"http:anna": 3}, "running": 1}}}, 1.0)
    sessions.note("a", {"services": {"x": {"callers": {"y": 1}}}}, 1.0)
    assert [(one.caller, one.node, one.worker) for one in sessions.live(1.0)] == [
        ("http:anna", "board", "render:frames")
    ]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"workers": 5},
        {"workers": {"x": 5}},
        {"workers": {"x": {"callers": []}}},
        beat(a=-1),
        beat(a=True),
    ],
)
def test_what_is_no_count_is_none(data):
    sessions = Sessions()
    sessions.note("a", data, 1.0)
    assert sessions.live(1.0) == []
