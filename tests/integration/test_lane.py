"""Lanes between real nodes and a real link: they are taken by themselves, carry all that calls do, and can be lost."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from callboard import Client, Node, Request
from callboard_core.calls.place import Place
from callboard_core.calls.pool import Pool
from callboard_core.cards import WorkerCard
from callboard_core.errors import BadRequest, Expired, Failed, Overloaded, TimedOut, Unavailable
from callboard_core.lane import lanes, line
from callboard_core.lane.lanes import Lanes
from callboard_core.link import Link
from callboard_core.messages import Call
from callboard_core.settings import LaneSettings
from support.links import MakeLink, links
from support.mosquitto import Mosquitto, mosquitto
from support.nodes import node_settings
from support.timing import Stopwatch
from support.waiting import wait_until
from support.workers import MakeChild, children

__all__ = ["children", "links", "mosquitto"]

MakeNode = Callable[..., Node]


@pytest.fixture
def make_node(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[MakeNode]:
    """Make nodes: ``make_node("a", lane={…})``; they are stopped at the end."""
    made: list[Node] = []

    def make(name: str, **lane: Any) -> Node:
        settings = node_settings(tmp_path / name, mosquitto.endpoint)
        found = settings.node.model_copy(update={"lane": LaneSettings(**lane)})
        node = Node(name, settings=settings.model_copy(update={"node": found}))
        made.append(node)
        return node

    yield make
    for node in made:
        node.stop()


@pytest.fixture
def board(mosquitto: Mosquitto) -> Iterator[Client]:
    with Client(str(mosquitto.endpoint)) as client:
        yield client


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have callers believe that they are on another host."""
    monkeypatch.setattr(lanes, "here", lambda: Place("elsewhere", "elsewhere/1/x"))


def lanes_of(link: Link) -> Lanes:
    found = Lanes.of(link)
    assert found is not None
    return found


def opened(pool: Pool, link: Link) -> line.Line:
    """Call once, and wait for the lane that is opened meanwhile."""
    found = lanes_of(link)
    wait_until(lambda: found._lines or pool.call(x=0, y=0) is None)
    return next(iter(found._lines.values()))


def add(x: int, y: int) -> int:
    return x + y


@pytest.fixture(params=["unix", "tls"])
def adder(request: pytest.FixtureRequest, make_node: MakeNode, board: Client) -> Pool:
    """A pool of one that adds, reached by either kind of socket."""
    if request.param == "tls":
        request.getfixturevalue("far")
    node = make_node("a", bind="127.0.0.1" if request.param == "tls" else "")
    node.worker(service="add", idempotent=True, concurrency=4)(add)
    node.start()
    pool = board.pool("add")
    pool.wait_ready(10)
    if request.param == "tls":
        wait_until(
            lambda: isinstance(card := pool.card(), WorkerCard) and card.lane is not None and card.lane.port
        )
    return pool


def test_calls_go_over_a_lane_by_themselves_and_do_without_the_broker(
    adder: Pool, board: Client, mosquitto: Mosquitto
) -> None:
    lane = opened(adder, board.link)
    mosquitto.kill()
    wait_until(lambda: not board.link.connected)
    assert [adder.call(x=n, y=1) for n in range(20)] == list(range(1, 21))
    futures = [adder.submit(x=n, y=2) for n in range(20)]
    assert [future.result(5) for future in futures] == list(range(2, 22))
    assert not lane.over


def test_arguments_results_and_errors_are_as_through_the_broker(adder: Pool, board: Client) -> None:
    opened(adder, board.link)
    with pytest.raises(BadRequest, match="y"):
        adder.call(x=1)
    assert adder.call(x=2**70, y=1) == 2**70 + 1
    with pytest.raises((TimedOut, Expired)):
        adder.call(x=1, y=1, timeout=1e-9)
    assert adder.call(x=1, y=1) == 2


def test_many_threads_share_a_lane(adder: Pool, board: Client) -> None:
    opened(adder, board.link)
    wrong: list[object] = []

    def work(start: int) -> None:
        for n in range(200):
            got = adder.call(x=start, y=n)
            if got != start + n:
                wrong.append((start, n, got))

    threads = [threading.Thread(target=work, args=(1000 * n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong
    assert adder.stats().outstanding == 0


async def test_coroutines_call_over_it_too(adder: Pool, board: Client) -> None:
    import asyncio

    await asyncio.to_thread(opened, adder, board.link)
    assert await asyncio.gather(*(adder.acall(x=n, y=1) for n in range(50))) == list(range(1, 51))


def test_progress_cancelling_bytes_and_slow_work_pass(make_node: MakeNode, board: Client) -> None:
    node = make_node("a")
    begun, told = threading.Event(), threading.Event()

    @node.worker(service="work", concurrency=2)
    def work(x: int, y: int, request: Request) -> str:
        if not x:
            return "quick"
        begun.set()
        request.progress(0.5)
        request.cancelled.wait(10)
        told.set()
        return "cancelled"

    @node.worker(service="turn", concurrency=2)
    def turn(data: bytes) -> bytes:
        return data[::-1]

    node.start()
    pool = board.pool("work")
    pool.wait_ready(10)
    opened(pool, board.link)
    seen: list[float] = []
    future = pool.submit(x=1, y=1, on_progress=seen.append)
    assert begun.wait(5)
    wait_until(lambda: seen == [0.5])
    assert pool.call(x=0, y=0) == "quick"
    future.cancel()
    assert told.wait(5)
    assert board.pool("turn").call(data=b"\x00abc" * 1000) == b"cba\x00" * 1000


def test_what_takes_long_holds_nobody_else_up(make_node: MakeNode, board: Client) -> None:
    """What is nearly always quick runs on the thread that reads, until once it is not."""
    node = make_node("a")

    @node.worker(service="work", concurrency=2, idempotent=True)
    def work(x: float, y: int) -> int:
        time.sleep(x)
        return y

    node.start()
    pool = board.pool("work")
    pool.wait_ready(10)
    opened(pool, board.link)
    for n in range(100):
        assert pool.call(x=0.0, y=n) == n
    slow = pool.submit(x=1.0, y=1)
    begun = Stopwatch()
    assert pool.call(x=0.0, y=2) == 2
    assert begun.within(0.5), begun
    assert slow.result(5) == 1
    begun = Stopwatch()
    with pytest.raises(TimedOut):
        pool.call(x=0.5, y=3, timeout=0.02)
    assert begun.within(0.3), begun


def test_who_opts_out_calls_through_the_broker(
    make_node: MakeNode, mosquitto: Mosquitto, board: Client
) -> None:
    node = make_node("a", enabled=False)
    node.worker(service="add")(add)
    node.start()
    pool = board.pool("add")
    pool.wait_ready(10)
    card = pool.card()
    assert card is not None
    assert card.lane is None
    assert pool.call(x=1, y=1) == 2
    board.link.direct = False
    assert Lanes.of(board.link) is None


def test_a_node_whose_broker_is_on_its_host_does_not_listen_on_the_network(adder: Pool) -> None:
    card = adder.card()
    assert card is not None
    assert card.lane is not None
    assert card.lane.unix is not None
    assert card.lane.hosts in ([], ["127.0.0.1"])


@pytest.mark.usefixtures("far")
def test_a_wrong_certificate_is_not_talked_to(
    make_node: MakeNode, board: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(
        "callboard_core.lane.opening.is_pinned", lambda der, pin: bool(shown.append(pin) or der is None)
    )
    asked: list[str] = []
    monkeypatch.setattr(Lanes, "_prove", lambda *_: asked.append("ticket"))
    node = make_node("a", bind="127.0.0.1")
    node.worker(service="add", idempotent=True)(add)
    node.start()
    pool = board.pool("add")
    wait_until(lambda: (card := pool.card()) is not None and card.lane is not None and card.lane.port)
    assert pool.call(x=1, y=1) == 2
    wait_until(lambda: lanes_of(board.link)._rests)
    assert not lanes_of(board.link)._lines
    assert not asked
    assert pool.call(x=1, y=1) == 2


def test_a_call_on_a_lane_that_is_lost_is_done_once_and_answered_through_the_broker(
    make_node: MakeNode, board: Client
) -> None:
    node = make_node("a")
    begun: list[int] = []
    go = threading.Event()

    @node.worker(service="once", concurrency=8)
    def once(x: int, y: int) -> int:
        if x:
            begun.append(x)
            assert go.wait(10)
        return y

    node.start()
    pool = board.pool("once")
    pool.wait_ready(10)
    for turn in range(1, 6):
        lane = opened(pool, board.link)
        go.clear()
        future = pool.submit(x=turn, y=turn)
        blocked: list[int] = []
        thread = threading.Thread(target=lambda n=turn, got=blocked: got.append(pool.call(x=100 + n, y=n)))
        thread.start()
        wait_until(lambda n=turn: len(begun) == 2 * n)
        lane.lose("it is meant to")
        go.set()
        assert future.result(10) == turn
        thread.join(10)
        assert blocked == [turn]
    assert sorted(begun) == [1, 2, 3, 4, 5, 101, 102, 103, 104, 105]


def test_an_answer_that_was_lost_with_the_lane_is_given_again(
    make_node: MakeNode, board: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node("a")
    runs: list[int] = []

    @node.worker(service="once")
    def once(x: int, y: int) -> int:
        runs.append(x)
        return x + y

    node.start()
    pool = board.pool("once")
    pool.wait_ready(10)
    lane = opened(pool, board.link)
    runs.clear()
    monkeypatch.setattr(lane, "_take", lambda _: lane.lose("the answer is lost"))
    assert pool.call(x=5, y=1) == 6
    assert runs == [5]


def test_a_killed_process_is_noticed_at_once_and_its_calls_go_elsewhere(
    links: MakeLink, mosquitto: Mosquitto, children: MakeChild
) -> None:
    from callboard_core.directory import Directory

    victim, other = children(mosquitto.endpoint, "a", "b")
    link = links("caller", mosquitto.endpoint)
    directory = Directory(link)
    directory.start()
    directory.wait_complete(10)
    pool = directory.pool("sleep:*")
    pool.wait_ready(10, members=2)
    wait_until(
        lambda: len(lanes_of(link)._lines) == 2 or not [pool.submit(seconds=0).result(5) for _ in range(2)]
    )
    futures = [pool.submit(seconds=0.5, tag=f"t{n}") for n in range(2)]
    wait_until(lambda: len(victim.noted("sleep t0") + victim.noted("sleep t1")) == 2)
    victim.kill()
    assert [future.result(10) for future in futures] == ["b", "b"]
    wait_until(lambda: len(lanes_of(link)._lines) == 1)
    other.pause()
    begun = Stopwatch()
    with pytest.raises((TimedOut, Unavailable)):
        pool.call(seconds=0, tag="stopped", timeout=3)
    assert begun.within(4), begun
    wait_until(lambda: not lanes_of(link)._lines, timeout=10)  # pings are not answered
    other.go_on()
    heartbeats = pool._roster._heartbeats
    before = heartbeats.heard("b")
    wait_until(lambda: heartbeats.heard("b") > before)
    assert pool.call(seconds=0, tag="again", timeout=10) == "b"


def test_casts_are_not_overtaken_by_calls(make_node: MakeNode, board: Client) -> None:
    node = make_node("a")
    got: list[int] = []

    @node.worker(service="note")
    def note(x: int, y: int) -> int:
        got.append(y) if x else None
        return len(got)

    node.start()
    pool = board.pool("note")
    pool.wait_ready(10)
    opened(pool, board.link)
    for n in range(50):
        pool.cast(x=1, y=n)
    assert pool.call(x=0, y=0) == 50


def test_a_lane_stays_open_with_new_tickets_and_ends_without(
    make_node: MakeNode, board: Client, far: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard_core.lane.server.LEASE", 0.8)
    node = make_node("a", bind="127.0.0.1")
    node.worker(service="add", idempotent=True)(add)
    node.start()
    pool = board.pool("add")
    wait_until(lambda: (card := pool.card()) is not None and card.lane is not None and card.lane.port)
    lane = opened(pool, board.link)
    until = lane._renew_at
    wait_until(lambda: (lane._renew_at or 0) > (until or 0) + 1.0, timeout=10)
    assert not lane.over
    monkeypatch.setattr(Lanes, "_renew", lambda *_: None)
    lane._reactor._renew = lambda *_: None  # type: ignore[attr-defined]
    wait_until(lambda: lane.over, timeout=10)
    assert pool.call(x=1, y=1) == 2


def test_an_error_of_the_function_and_a_full_worker_are_told(make_node: MakeNode, board: Client) -> None:
    node = make_node("a")

    @node.worker(service="fail", queue=0)
    def fail(x: int, y: int) -> int:
        if x:
            time.sleep(0.3)
            raise ValueError("it is meant to")
        return y

    node.start()
    pool = board.pool("fail")
    pool.wait_ready(10)
    opened(pool, board.link)
    busy = pool.submit(x=1, y=1)
    [answer] = pool.scatter(x=0, y=0)
    assert isinstance(answer.error, Overloaded)
    with pytest.raises(Failed, match="ValueError: it is meant to"):
        busy.result(5)
    with pytest.raises(Failed, match="ValueError"):
        pool.call(x=1, y=1)


def test_tls_is_at_least_1_3() -> None:
    from callboard_core.lane.certificate import client_context, server_context

    assert server_context()[0].minimum_version == ssl.TLSVersion.TLSv1_3
    assert client_context().minimum_version == ssl.TLSVersion.TLSv1_3
    assert Call(id="x").args == {}
