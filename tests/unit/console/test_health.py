"""The health of the board: the first rule that applies speaks."""

import pytest

from callboard_console.web.views.health import health
from callboard_core.messages import Level, StatusName
from support.console import NOW, node, sensor, snapshot

LOST = StatusName.LOST
BOARD = node("board")


@pytest.mark.parametrize(
    ("now", "word", "tone", "reason"),
    [
        (snapshot(connected=False, changed=NOW - 30), "Blind", "bad", "for 30 s"),
        (snapshot(complete=False), "Starting", "idle", "Reading what hangs"),
        (snapshot(BOARD), "Empty", "idle", "No node has signed in"),
        (snapshot(node("a"), node("board", status=LOST)), "Degraded", "bad", "board's own process"),
        (snapshot(node("a", status=LOST)), "Down", "bad", "Every node is lost: a."),
        (
            snapshot(node("a", status=LOST, since=NOW - 12), node("b")),
            "Degraded",
            "bad",
            "a has been lost for 12 s.",
        ),
        (
            snapshot(*(node(name, status=LOST) for name in "abcd"), node("e")),
            "Degraded",
            "bad",
            "4 nodes are lost: a, b, c and 1 more.",
        ),
        (
            snapshot(node("a", sensor("x", level=Level.WARNING), sensor("y", level=Level.WARNING))),
            "Attention",
            "warn",
            "X on a and 1 more are outside the normal range.",
        ),
        (
            snapshot(node("a", sensor("x", error="no"), sensor("y", level=Level.WARNING))),
            "Attention",
            "bad",
            "X on a is in error.",
        ),
        (snapshot(node("a", status=StatusName.DISCONNECTED)), "Quiet", "idle", "signed off"),
        (
            snapshot(node("a"), node("b", status=StatusName.DISCONNECTED)),
            "Healthy",
            "ok",
            "1 of 2 nodes are here",
        ),
        (snapshot(node("a"), BOARD), "Healthy", "ok", "a is here"),
        (snapshot(node("a"), node("b")), "Healthy", "ok", "All 2 nodes are here"),
    ],
)
def test_each_state_of_the_board_has_one_word_and_a_reason(now, word, tone, reason):
    verdict = health(now)
    assert (verdict.word, verdict.tone) == (word, tone)
    assert reason in verdict.reason


def test_readings_of_a_node_that_is_away_raise_no_alarm():
    away = node("a", sensor("x", error="no"), status=StatusName.DISCONNECTED)
    assert health(snapshot(away, node("b"))).word == "Healthy"
