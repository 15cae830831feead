"""``callboard ls workers`` and ``callboard network``, without a board."""

from __future__ import annotations

import json

import pytest

from callboard_console.cli.network import lines, picture
from callboard_console.cli.watch import wanted
from callboard_console.cli.workers import seconds_text, shown_rows, worker_rows
from callboard_core.calls.survey import Member, Report, Service, Standing
from callboard_core.cards import Host, NodeCard, WorkerCard
from callboard_core.messages import Status, StatusName
from callboard_core.view import NodeEntry


def node(
    name: str, host: str | None = "pi", status: StatusName = StatusName.READY, label: str | None = None
) -> NodeEntry:
    machine = Host(hostname=host, system="Linux", machine="aarch64") if host else None
    card = NodeCard(name=name, epoch=1, version="1", host=machine, label=label)
    return NodeEntry(name, card, Status(status=status, epoch=1, t=0.0), 0.0, status is StatusName.READY)


def member(
    node_: str, service: str, report: Report | None = None, pid: int = 7, standing=Standing.READY
) -> Member:
    card = WorkerCard(
        name=service.replace(":", "-"),
        epoch=1,
        service=service,
        concurrency=4,
        host="0123",
        process=f"0123/{pid}/x",
    )
    return Member(node_, card.name, card, standing, report)


SERVICES = [
    Service("render:frames", (member("b", "render:frames", standing=Standing.AWAY, pid=9),)),
    Service(
        "texture",
        (
            member(
                "a",
                "texture",
                Report(running=1, waiting=2, done=9, failed=1, refused=2, p50=0.0008, p95=1.23),
            ),
        ),
    ),
]


def test_every_worker_is_a_row():
    first, second = worker_rows(SERVICES)
    assert (first["service"], first["node"], first["state"], first["live"]) == (
        "render:frames",
        "b",
        "away",
        False,
    )
    assert (first["running"], first["p50"]) == (None, None)
    assert (second["running"], second["waiting"], second["p95"], second["pid"]) == (1, 2, 1.23, "7")
    shown = shown_rows([first, second])
    assert [shown[1][key] for key in ("running", "waiting", "p50", "p95", "errors")] == [
        "1/4",
        2,
        "0.8 ms",
        "1.2 s",
        3,
    ]
    assert {shown[0][key] for key in ("running", "waiting", "p50", "done", "errors")} == {"-"}


def test_the_network_is_a_tree_from_the_board_to_the_services():
    nodes = [node("a"), node("b", "other", StatusName.LOST), node("c", label="Attic"), node("d", None)]
    seen = picture({"site": "callboard", "mqtt": "mqtt://127.0.0.1:1883"}, nodes, SERVICES)
    seen["sessions"] = [
        {"caller": "cli", "service": "texture", "node": "a", "worker": "texture", "rate": 12.0}
    ]
    assert list(lines(seen)) == [
        "callboard  board at mqtt://127.0.0.1:1883",
        "├─ other",
        "│  └─ process 9",
        "│     └─ b  lost",
        "│        └─ render:frames  away",
        "├─ pi",
        "│  ├─ process 7",
        "│  │  └─ a  ready",
        "│  │     └─ texture  1 running, 2 waiting, p50 0.8 ms, p95 1.2 s",
        "│  └─ c (Attic)  ready",
        "└─ unknown host",
        "   └─ d  ready",
        "",
        "sessions",
        "  cli → texture on a  12.0/s",
    ]
    assert json.loads(json.dumps(seen)) == seen
    seen["sessions"] = []
    assert list(lines(seen))[-1] == "sessions: nothing is being called"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.0099, "9.9 ms"), (0.0123, "12 ms"), (0.9996, "1.0 s"), (75.0, "75.0 s")],
)
def test_a_short_time_is_shown_as_people_read_it(seconds, text):
    assert seconds_text(seconds) == text


def test_heartbeats_are_watched_only_by_who_asks_for_them():
    beat = {"node": "a", "leaf": "event", "name": "heartbeat"}
    assert not wanted(beat, [])
    assert not wanted(beat, ["a"])
    assert wanted(beat, ["a/heartbeat"])
    assert wanted({**beat, "name": "alarm"}, ["a"])
