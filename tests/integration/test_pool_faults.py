"""Pools of real worker processes that are killed, stopped and restarted in the middle of calls."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from callboard import Directory, Link, Pool
from callboard_core.errors import TimedOut, Unavailable
from callboard_core.link import Endpoint
from callboard_core.topics import status
from support import engines
from support.links import MakeLink, links
from support.timing import Stopwatch
from support.waiting import wait_until
from support.workers import Child, MakeChild, children

__all__ = ["children", "links"]


@pytest.fixture(params=engines.ENGINES)
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[engines.Engine]:
    with engines.running(request.param, tmp_path / "broker") as engine:
        yield engine


@pytest.fixture
def endpoint(broker: engines.Engine) -> Endpoint:
    return Endpoint("127.0.0.1", broker.port)


@pytest.fixture
def caller(endpoint: Endpoint, links: MakeLink) -> Link:
    found = links("caller", endpoint)
    found.direct = False  # through the broker; what lanes make of it is in test_lane_faults
    return found


@pytest.fixture
def directory(caller: Link) -> Directory:
    found = Directory(caller)
    found.start()
    found.wait_complete(10)
    return found


def busy(pool: Pool) -> str | None:
    """The node that has a call."""
    return next((one.node for one in pool.members() if one.outstanding), None)


def by_name(nodes: list[Child], name: str | None) -> Child:
    return next(child for child in nodes if child.node == name)


def test_a_killed_members_call_is_answered_elsewhere_at_once(
    endpoint: Endpoint, caller: Link, directory: Directory, children: MakeChild
) -> None:
    nodes = children(endpoint, "a", "b")
    pool = directory.pool("sleep:*")
    pool.wait_ready(10, members=2)
    lost: list[float] = []
    for child in nodes:
        caller.subscribe(
            status("callboard", child.node),
            lambda m: lost.append(time.monotonic()) if b"lost" in m.payload else None,
        )
    future = pool.submit(seconds=0.3, tag="x")
    wait_until(lambda: len(nodes[0].noted("sleep x")) == 1)
    victim = by_name(nodes, busy(pool))
    victim.kill()
    assert future.result(5) != victim.node
    wait_until(lambda: lost)
    [_, again] = nodes[0].begun("sleep x")
    assert again - lost[0] < 0.1, "it was given to the other at once"
    assert [one.node for one in pool.members()] == [child.node for child in nodes if child is not victim]


def test_a_killed_members_call_that_must_not_be_repeated_fails_and_ran_once(
    endpoint: Endpoint, directory: Directory, children: MakeChild
) -> None:
    nodes = children(endpoint, "a", "b")
    pool = directory.pool("once:*")
    pool.wait_ready(10, members=2)
    future = pool.submit(seconds=5, tag="x")
    wait_until(lambda: nodes[0].noted("once x"))
    by_name(nodes, busy(pool)).kill()
    with pytest.raises(Unavailable, match=r"is gone \(lost\); whether the call was done is not known"):
        future.result(5)
    assert len(nodes[0].noted("once x")) == 1
    assert pool.call(seconds=0, tag="y") in {"a", "b"}


def test_killing_idle_workers_under_load_fails_no_repeatable_call(
    endpoint: Endpoint, directory: Directory, children: MakeChild
) -> None:
    nodes = children(endpoint, "a", "b", "c")
    pool = directory.pool("who:*")
    pool.wait_ready(10, members=3)
    room = threading.Semaphore(16)
    futures = []
    for number in range(1500):
        assert room.acquire(timeout=10)
        future = pool.submit(timeout=20)
        future.add_done_callback(lambda _: room.release())
        futures.append(future)
        if number == 500:
            nodes[0].kill()
        if number == 1000:
            nodes[1].kill()
    assert {future.result(20) for future in futures} <= {"a", "b", "c"}
    assert [one.node for one in pool.members()] == ["c"]


@pytest.mark.parametrize("service", ["sleep", "once"])
def test_a_member_that_is_stopped_is_noticed_within_five_seconds(
    endpoint: Endpoint, directory: Directory, children: MakeChild, service: str
) -> None:
    nodes = children(endpoint, "a", "b")
    pool = directory.pool(f"{service}:*")
    pool.wait_ready(10, members=2)
    future = pool.submit(seconds=1.0, tag="x", timeout=20)
    wait_until(lambda: nodes[0].noted(f"{service} x"))
    victim = by_name(nodes, busy(pool))
    begun = Stopwatch()
    victim.pause()
    if service == "sleep":
        assert future.result(15) != victim.node
        assert begun.within(5 + 1.0), begun
    else:
        with pytest.raises(Unavailable, match="hangs"):
            future.result(15)
        assert begun.within(5), begun
    standings = {one.node: one.standing for one in pool.members()}
    assert standings[victim.node] == "hung"
    for number in range(6):
        assert pool.call(seconds=0, tag=f"after-{number}", timeout=5) != victim.node
    victim.go_on()
    wait_until(lambda: {one.standing for one in pool.members()} == {"ready"}, timeout=5)
    assert len(nodes[0].noted(f"{service} x")) == (2 if service == "sleep" else 1)


def test_a_killed_member_is_back_as_soon_as_its_new_life_announces_itself(
    endpoint: Endpoint, directory: Directory, children: MakeChild
) -> None:
    [child] = children(endpoint, "a")
    pool = directory.pool("who:*")
    assert pool.wait_ready(10) is None
    child.kill()
    wait_until(lambda: not pool.members(), timeout=5)
    with pytest.raises(Unavailable, match="nobody offers it"):
        pool.call(timeout=5)
    waiting = pool.service, directory.pool("who:a", wait=20.0).submit(timeout=20)
    begun = Stopwatch()
    children(endpoint, "a")
    assert waiting[1].result(20) == "a"
    assert pool.call(timeout=5) == "a"
    assert begun.within(20), begun


@pytest.mark.parametrize("heartbeat", [1.5, None])
def test_an_answer_lost_with_the_callers_connection_is_asked_for_again(
    endpoint: Endpoint, links: MakeLink, children: MakeChild, heartbeat: float | None
) -> None:
    nodes, away = children(endpoint, "a", heartbeat=heartbeat), threading.Event()
    nowhere = Endpoint("127.0.0.1", 1)
    caller = links("caller", lambda: nowhere if away.is_set() else endpoint)
    directory = Directory(caller)
    directory.start()
    pool = directory.pool("once:*")
    pool.wait_ready(10)
    future = pool.submit(seconds=0.5, tag="x", timeout=20)
    wait_until(lambda: nodes[0].noted("once x"))
    away.set()
    session = caller._connector._session
    assert session is not None
    session._client.socket().shutdown(socket.SHUT_RDWR)
    time.sleep(0.8)  # the answer goes to nobody
    assert not future.done()
    away.clear()
    assert future.result(5) == "a"
    assert len(nodes[0].noted("once x")) == 1


def test_a_call_of_a_member_that_has_started_anew_ends_at_once(
    endpoint: Endpoint, links: MakeLink, children: MakeChild
) -> None:
    [child], away = children(endpoint, "a"), threading.Event()
    caller = links("caller", lambda: Endpoint("127.0.0.1", 1) if away.is_set() else endpoint)
    directory = Directory(caller)
    directory.start()
    pool = directory.pool("once:*")
    pool.wait_ready(10)
    future = pool.submit(seconds=5, tag="x", timeout=30)
    wait_until(lambda: child.noted("once x"))
    away.set()
    session = caller._connector._session
    assert session is not None
    session._client.socket().shutdown(socket.SHUT_RDWR)
    child.kill()
    children(endpoint, "a")
    away.clear()
    begun = Stopwatch()
    with pytest.raises(Unavailable, match="whether the call was done is not known"):
        future.result(10)
    assert begun.within(3), begun
    assert pool.call(seconds=0, tag="y", timeout=5) == "a"


def test_a_call_never_takes_longer_than_its_time_out_when_the_broker_dies(
    broker: engines.Engine, endpoint: Endpoint, caller: Link, directory: Directory, children: MakeChild
) -> None:
    nodes = children(endpoint, "a", "b")
    pool = directory.pool("once:*")
    pool.wait_ready(10, members=2)
    future = pool.submit(seconds=0.5, tag="x", timeout=2.0)
    wait_until(lambda: nodes[0].noted("once x"))
    begun = Stopwatch()
    broker.kill()
    with pytest.raises((TimedOut, Unavailable)):
        future.result(10)
    assert begun.within(2.5), begun
    with pytest.raises(Unavailable):
        pool.call(seconds=0, tag="down", timeout=2.0)
    broker.start()
    caller.wait_connected(20)
    directory.wait_complete(20)
    wait_until(lambda: len(pool.members()) == 2, timeout=20)
    begun = Stopwatch()
    assert pool.call(seconds=0, tag="up", timeout=10) in {"a", "b"}
    assert begun.within(5), begun
    assert len(nodes[0].noted("once x")) == 1


def test_a_new_pool_gives_nothing_to_who_hangs_already(
    endpoint: Endpoint, caller: Link, directory: Directory, children: MakeChild
) -> None:
    nodes = children(endpoint, "a", "b", heartbeat=0.3)
    directory.pool("sleep:*").wait_ready(10, members=2)
    heard: set[str] = set()
    caller.subscribe("callboard/+/event/heartbeat", lambda m: heard.add(m.topic.split("/")[1]), qos=0)
    wait_until(lambda: heard == {"a", "b"})
    nodes[0].pause()
    time.sleep(1.2)  # three heartbeats are missing, and nobody has looked
    pool = directory.pool("once:*")
    standings = {one.node: one.standing for one in pool.members()}
    assert standings == {"a": "doubtful", "b": "ready"}
    assert [pool.call(seconds=0, tag=f"t{number}", timeout=5) for number in range(3)] == ["b"] * 3
    nodes[0].go_on()
    wait_until(lambda: {one.standing for one in pool.members()} == {"ready"}, timeout=5)


def test_who_has_hung_while_nobody_called_is_given_nothing_that_must_not_be_repeated(
    endpoint: Endpoint, directory: Directory, children: MakeChild
) -> None:
    nodes = children(endpoint, "a", "b", heartbeat=0.3)
    pool = directory.pool("once:*")
    pool.wait_ready(10, members=2)
    assert {pool.call(seconds=0, tag=f"before-{number}", timeout=5) for number in range(4)} == {"a", "b"}
    wait_until(lambda: not pool._roster._looking)
    nodes[0].pause()
    time.sleep(1.5)  # three heartbeats are missing, and nobody has looked
    assert pool.cast(seconds=0, tag="cast").result(5) is None
    wait_until(lambda: nodes[1].noted("once cast"))
    assert [pool.call(seconds=0, tag=f"t{number}", timeout=5) for number in range(3)] == ["b"] * 3
    assert [one.node for one in pool.scatter(seconds=0, tag="all", timeout=5)] == ["b"]
    nodes[0].go_on()
    wait_until(lambda: {one.standing for one in pool.members()} == {"ready"}, timeout=5)
