"""Workers offered by real nodes over a real broker, called through pools and proxies."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

import callboard
from callboard import Available, Changed, Client, Dropped, Node, Pool, Request
from callboard_core.errors import (
    BadPayload,
    BadRequest,
    CallboardError,
    Failed,
    NotFound,
    Overloaded,
    TimedOut,
    Unavailable,
)
from callboard_core.topics import Address, Kind, Leaf
from support import crew
from support.links import Collector
from support.mosquitto import Mosquitto, mosquitto
from support.nodes import node_settings
from support.timing import Stopwatch
from support.waiting import wait_until

__all__ = ["mosquitto"]

np = pytest.importorskip("numpy")

MakeNode = Callable[..., Node]


@pytest.fixture
def make_node(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[MakeNode]:
    """Make nodes: ``make_node("a")``; they are stopped at the end."""
    made: list[Node] = []

    def make(name: str) -> Node:
        node = Node(name, settings=node_settings(tmp_path / name, mosquitto.endpoint))
        made.append(node)
        return node

    yield make
    for node in made:
        node.stop()


@pytest.fixture
def board(mosquitto: Mosquitto) -> Iterator[Client]:
    with callboard.connect(str(mosquitto.endpoint)) as client:
        yield client


def test_a_function_is_called_by_its_services_name_from_anywhere(make_node: MakeNode, board: Client) -> None:
    node = make_node("alpha")

    @node.worker(service="texture:one", tags=["art"], concurrency=2, timeout=10, idempotent=True)
    def texture(x: int, y: Annotated[int, Field(ge=1, le=9)] = 2) -> list[list[int]]:
        """Makes a table of numbers."""
        return [[i * j for i in range(x)] for j in range(y)]

    node.start()
    pool = board.pool("texture:*")
    pool.wait_ready(5)
    assert pool.call(x=2, y=2) == [[0, 0], [0, 1]]
    card = pool.card()
    assert card is not None
    assert (card.name, card.service, card.description) == (
        "texture-one",
        "texture:one",
        "Makes a table of numbers.",
    )
    expected = {"type": "integer", "minimum": 1, "maximum": 9, "default": 2}
    assert expected.items() <= card.parameters["properties"]["y"].items()
    assert card.result["items"] == {"items": {"type": "integer"}, "type": "array"}
    assert (card.tags, card.heartbeat, card.scope) == (["art"], 1.5, "site")
    assert (card.concurrency, card.timeout, card.idempotent) == (2, 10.0, True)
    for wrong, name in (({}, "x"), ({"x": "1"}, "x"), ({"x": 1, "y": 0}, "y"), ({"x": 1, "z": 1}, "z")):
        with pytest.raises(BadRequest, match=f"^{name}: "):
            pool.call(wrong)


def test_what_a_function_raises_reaches_the_caller_with_type_and_traceback_if_allowed(
    make_node: MakeNode, board: Client
) -> None:
    node = make_node("alpha")

    @node.worker(traceback=True)
    def open_book() -> None:
        raise LookupError("no such book")

    @node.worker
    async def shut() -> None:
        raise LookupError("no such book")

    node.start()
    board.pool("shut").wait_ready(5)
    with pytest.raises(Failed, match="LookupError: no such book") as caught:
        board.pool("open-book").call()
    assert caught.value.type == "LookupError"
    assert 'raise LookupError("no such book")' in (caught.value.traceback or "")
    with pytest.raises(Failed, match="LookupError: no such book") as caught:
        board.pool("shut").call()
    assert (caught.value.type, caught.value.traceback) == ("LookupError", None)


def test_functions_run_in_processes_and_survive_their_crashes(make_node: MakeNode, board: Client) -> None:
    node = make_node("alpha")
    for function in (crew.square, crew.pid, crew.crash, crew.stumble):
        node.worker(run="process", traceback=True)(function)
    node.worker(run="process", timeout=2)(crew.nap)
    node.start()
    pools = {name: board.pool(name) for name in ("square", "pid", "crash", "stumble", "nap")}
    pools["nap"].wait_ready(5)
    assert pools["square"].call(n=12) == 144
    assert pools["pid"].call() == pools["pid"].call() != os.getpid()
    with pytest.raises(Failed, match="exit code 3"):
        pools["crash"].call()
    with pytest.raises(Failed, match="LookupError: oops") as caught:
        pools["stumble"].call(text="oops")
    assert "stumble" in (caught.value.traceback or "")
    begun = Stopwatch()
    with pytest.raises(TimedOut, match="longer than 2 s"):
        pools["nap"].call(seconds=30)
    assert begun.within(10), begun
    wait_until(lambda: woken(pools["nap"]), 20)


class Place(BaseModel):
    x: int
    on: dt.date


def test_models_and_dates_are_given_as_they_are_taken(make_node: MakeNode, board: Client) -> None:
    node = make_node("alpha")

    @node.worker
    def move(place: Place, until: dt.date) -> str:
        return f"{place.x} from {place.on} to {until}"

    node.start()
    pool = board.pool("move")
    pool.wait_ready(5)
    day = dt.date(2026, 1, 2)
    assert pool.call(place=Place(x=3, on=day), until=day) == "3 from 2026-01-02 to 2026-01-02"
    with pytest.raises(BadRequest, match=r"^until: expected a text, got <object"):
        pool.call(place=Place(x=3, on=day), until=object())
    with pytest.raises(BadRequest, match=r"^place\.x: expected a whole number"):
        pool.call(place={"x": "3", "on": day}, until=day)


def test_a_function_asks_whether_its_call_was_cancelled(make_node: MakeNode, board: Client) -> None:
    node, inside, told = make_node("alpha"), threading.Event(), threading.Event()

    @node.worker
    def work(request: Request) -> None:
        assert not request.cancelled
        inside.set()
        while not request.cancelled:
            time.sleep(0.01)
        told.set()

    node.start()
    pool = board.pool("work")
    pool.wait_ready(5)
    call = pool.submit()
    assert inside.wait(5)
    assert call.cancel()
    assert told.wait(5)


def test_who_waits_for_a_long_call_is_told_with_every_heartbeat(make_node: MakeNode, board: Client) -> None:
    node, release = make_node("alpha"), threading.Event()
    node.worker(service="work", heartbeat=0.2)(lambda: release.wait(20))
    told: Collector[dict[str, Any]] = Collector()
    board.link.subscribe(
        "callboard/alpha/event/heartbeat", lambda message: told(json.loads(message.payload)["data"]), qos=0
    )
    node.start()
    pool = board.pool("work")
    pool.wait_ready(5)
    call = pool.submit()
    caller = board.link.client_id
    told.wait(lambda _: len(counts(told, caller)) >= 3, 10)
    assert counts(told, caller)[:3] == [1, 0, 0]
    release.set()
    assert call.result(5)


def counts(told: Collector[dict[str, Any]], caller: str) -> list[int]:
    """How many new calls of the caller's each heartbeat told that named it."""
    callers = [one["workers"]["work"].get("callers", {}) for one in told.items]
    return [one[caller] for one in callers if caller in one]


def woken(pool: Pool) -> bool:
    """Whether a call that takes no time of its own is answered: what was killed may take its time to start again."""
    with contextlib.suppress(TimedOut):
        return pool.call(seconds=0) != os.getpid()
    return False


def test_a_worker_works_on_as_many_calls_as_it_says_and_only_so_many_wait(
    make_node: MakeNode, board: Client
) -> None:
    node, release, inside = make_node("alpha"), threading.Event(), threading.Semaphore(0)

    @node.worker(concurrency=2, queue=1)
    def work() -> None:
        inside.release()
        assert release.wait(20)

    node.start()
    address = Address("callboard", "alpha", Leaf.COMMAND, Kind.WORKER, "work")
    board.pool("work").wait_ready(5)
    calls = [board.link.call(address, {}, timeout=20) for _ in range(3)]
    assert inside.acquire(timeout=5)
    assert inside.acquire(timeout=5)
    with pytest.raises(Overloaded):
        board.link.call(address, {}, timeout=5).result(5)
    assert not inside.acquire(timeout=0.05)
    release.set()
    assert [call.result(5) for call in calls] == [None] * 3
    assert node.directory is not None


def test_a_full_pool_refuses_at_once(make_node: MakeNode, board: Client) -> None:
    node, release = make_node("alpha"), threading.Event()
    node.worker(service="work")(lambda: release.wait(20))
    node.start()
    pool = board.pool("work", queue=1)
    pool.wait_ready(5)
    calls = [pool.submit(timeout=20) for _ in range(2)]
    begun = Stopwatch()
    with pytest.raises(Overloaded, match="work: 1 calls already wait"):
        pool.call(timeout=20)
    assert begun.within(0.5), begun
    assert (pool.stats().outstanding, pool.stats().waiting, pool.stats().refused) == (1, 1, 1)
    release.set()
    assert [call.result(5) for call in calls] == [True, True]


def test_while_answers_take_too_long_only_a_share_of_the_calls_may_wait(
    make_node: MakeNode, board: Client
) -> None:
    node, release = make_node("alpha"), threading.Event()
    node.worker(service="work")(lambda: time.sleep(0.1) or release.wait(20))
    node.start()
    pool = board.pool("work", responsiveness=0.05, pass_share=0.5)
    pool.wait_ready(5)
    first = pool.submit(timeout=20)
    release.set()
    assert first.result(5)
    release.clear()
    calls = [pool.submit(timeout=20) for _ in range(5)]
    wait_until(lambda: sum(call.done() for call in calls) == 2)
    for call in (calls[1], calls[3]):
        with pytest.raises(
            Overloaded, match=r"work: answers take 0\.\d s, more than 0\.05 s; try again later"
        ):
            call.result()
    release.set()
    assert [calls[number].result(5) for number in (0, 2, 4)] == [True] * 3


def test_a_call_that_waits_for_its_turn_times_out_and_one_that_is_given_up_is_interrupted(
    make_node: MakeNode, board: Client
) -> None:
    node, told = make_node("alpha"), threading.Event()

    @node.worker
    def work(request: Request) -> None:
        assert request.cancelled.wait(20)
        told.set()

    node.start()
    pool = board.pool("work")
    pool.wait_ready(5)
    running = pool.submit(timeout=20)
    wait_until(lambda: pool.stats().outstanding == 1)
    begun = Stopwatch()
    with pytest.raises(TimedOut, match=r"work: no answer within 0\.3 s"):
        pool.call(timeout=0.3)
    assert begun.within(1), begun
    assert running.cancel()
    assert told.wait(5)
    wait_until(lambda: pool.stats().outstanding == 0)


def test_a_handler_may_answer_early_and_go_on(make_node: MakeNode, board: Client) -> None:
    node, release, done = make_node("alpha"), threading.Event(), threading.Event()

    @node.worker
    def order(what: str, request: Request) -> None:
        request.reply(f"{what} is on its way")
        assert release.wait(20)
        done.set()

    node.start()
    board.pool("order").wait_ready(5)
    assert board.pool("order").call(what="tea") == "tea is on its way"
    assert not done.is_set()
    release.set()
    assert done.wait(5)


def test_calls_may_be_one_way_and_go_to_everybody(make_node: MakeNode, board: Client) -> None:
    seen: Collector[str] = Collector()
    for name in ("a", "b", "c"):
        node = make_node(name)

        def who(node: str = name, fail: str = "") -> str:
            seen(node)
            if fail == node:
                raise ValueError(node)
            return node

        node.worker(service=f"who:{name}")(who)
        node.start()
    pool = board.pool("who:*")
    pool.wait_ready(5, members=3)
    answers = pool.scatter(fail="b")
    assert [(one.node, one.result) for one in answers] == [("a", "a"), ("b", None), ("c", "c")]
    assert [one.error is None for one in answers] == [True, False, True]
    seen.items.clear()
    for _ in range(6):
        pool.cast().result(5)
    assert sorted(seen.wait_for(6)) == ["a", "a", "b", "b", "c", "c"]
    assert board.pool("nobody:*").scatter() == []
    with pytest.raises(Unavailable):
        board.pool("nobody:*").cast()


async def test_on_an_event_loop_everything_is_awaited(make_node: MakeNode, mosquitto: Mosquitto) -> None:
    node = make_node("alpha")

    @node.worker
    async def double(n: float) -> float:
        await asyncio.sleep(0)
        return 2 * n

    await asyncio.to_thread(node.start)
    async with callboard.connect(str(mosquitto.endpoint)) as board:
        double_it = await board.proxy("double")
        assert await double_it(n=4) == 8
        assert await board.pool("dou*").call(n=2) == 4
        assert await board.pool("double").acall(n=3) == 6
        assert [one.result for one in await board.pool("double").scatter(n=1)] == [2]
        many = await asyncio.gather(*(double_it(n=n) for n in range(100)))
        assert many == [2 * n for n in range(100)]
        with pytest.raises(TimedOut):
            await board.pool("nobody").wait_ready(0.05)


def test_workers_call_each_other_through_their_nodes(make_node: MakeNode, board: Client) -> None:
    first, second = make_node("a"), make_node("b")
    second.worker(crew.square)

    @first.worker
    async def twice(n: int) -> int:
        return 2 * await first.pool("square").call(n=n)

    @first.worker
    def thrice(n: int) -> int:
        return 3 * first.proxy("square")(n=n)

    second.start()
    first.start()
    board.pool("thrice").wait_ready(5)
    assert board.pool("twice").call(n=3) == 18
    assert board.pool("thrice").call(n=3) == 27


def test_a_late_worker_joins_and_a_drained_one_rests(make_node: MakeNode, board: Client) -> None:
    first, late = make_node("a"), make_node("b")
    for node in (first, late):
        node.worker(service=f"who:{node.id}")(lambda node=node.id: node)
    first.start()
    pool = board.pool("who:*")
    pool.wait_ready(5)
    assert pool.call() == "a"
    begun = Stopwatch()
    late.start()
    pool.wait_ready(5, members=2)
    assert "b" in {pool.call(), pool.call()}, "who is as quick as the other, or whose pace is not known yet"
    assert begun.within(3), begun
    drain = Address("callboard", "a", Leaf.COMMAND, Kind.ACTION, "drain-worker")
    board.link.call(drain, {"worker": "who-a"}, timeout=5).result(5)
    wait_until(lambda: "draining" in [one.standing for one in pool.members()])
    assert {pool.call() for _ in range(4)} == {"b"}
    board.link.call(drain, {"worker": "who-a", "on": False}, timeout=5).result(5)
    wait_until(lambda: [one.standing for one in pool.members()] == ["ready", "ready"])
    with pytest.raises(NotFound):
        board.link.call(drain, {"worker": "nobody"}, timeout=5).result(5)


def test_workers_are_added_and_removed_while_the_node_runs(make_node: MakeNode, board: Client) -> None:
    node = make_node("alpha").start()
    events: Collector[Any] = Collector()
    follower = board.follow("square", events)
    node.worker(crew.square)
    node.worker(service="square")(lambda n: -n)
    pool = board.pool("square")
    pool.wait_ready(5, members=2)
    assert {one.name for one in pool.members()} == {"square", "square-2"}
    node.remove("square-2")
    wait_until(lambda: len(pool.members()) == 1)
    assert pool.call(n=3) == 9
    node.remove("square")
    with pytest.raises(NotFound):
        node.remove("square")
    seen = events.wait(lambda items: sum(isinstance(one, Dropped) for one in items) == 2)
    assert [type(one) for one in seen] == [Available, Available, Dropped, Dropped]
    follower.close()


async def test_names_are_followed_by_glob_and_by_regular_expression(
    make_node: MakeNode, mosquitto: Mosquitto
) -> None:
    node = await asyncio.to_thread(make_node("alpha").start)
    seen: list[tuple[type, str]] = []
    matching: Collector[Any] = Collector()
    async with callboard.connect(str(mosquitto.endpoint)) as board:
        by_pattern = board.follow(re.compile(r"super-system:(log|index)-store"), matching)
        with board.follow("super-system:*") as follower:
            for name in ("super-system:log-store", "super-system:clock", "other-system:log-store"):
                node.worker(service=name)(lambda: None)
            drain = Address("callboard", "alpha", Leaf.COMMAND, Kind.ACTION, "drain-worker")
            async with asyncio.timeout(10):
                async for event in follower:
                    seen.append((type(event), event.entry.card.service))
                    if len(seen) == 2:
                        await asyncio.wrap_future(
                            board.link.call(drain, {"worker": seen[0][1].replace(":", "-")}, timeout=5)
                        )
                    if len(seen) == 3:
                        node.remove("super-system-clock")
                    if len(seen) == 4:
                        break
        by_pattern.close()
    log_store, clock = "super-system:log-store", "super-system:clock"
    assert seen == [(Available, log_store), (Available, clock), (Changed, log_store), (Dropped, clock)]
    assert {one.entry.card.service for one in matching.items} == {log_store}


def test_nearer_members_are_asked_first_and_scope_keeps_others_out(
    make_node: MakeNode, board: Client
) -> None:
    near, far = make_node("near"), make_node("far")
    near.worker(service="who", concurrency=2)(lambda: "near")
    far.worker(service="who", concurrency=2)(lambda: "far")
    private = callboard_worker_elsewhere(scope="host")
    near.start()
    far.start()
    pool = board.pool("who")
    pool.wait_ready(5, members=2)
    assert {one.nearness for one in pool.members()} == {"process"}
    node = make_node("other")
    node.add(private)
    node.start()
    wait_until(lambda: board.directory.find("private"))
    with pytest.raises(Unavailable):
        board.pool("private").call()


def callboard_worker_elsewhere(scope: str) -> Any:
    """A worker whose card says that it runs on another machine."""
    from callboard_nodes.workers import worker

    return worker(lambda: None, service="private", scope=scope).with_card(
        host="elsewhere", process="elsewhere/1/x"
    )


def test_bytes_and_arrays_travel_both_ways(make_node: MakeNode, board: Client) -> None:
    node = make_node("alpha")

    @node.worker
    def flip(picture: np.ndarray, label: str, raw: bytes = b"") -> dict[str, Any]:
        return {"picture": picture[::-1], "label": label, "raw": raw[::-1]}

    node.start()
    board.pool("flip").wait_ready(5)
    answer = board.pool("flip").call(
        picture=np.arange(6, dtype="<f4").reshape(3, 2), label="a", raw=b"\x00\xff"
    )
    assert answer["picture"].tolist() == [[4, 5], [2, 3], [0, 1]]
    assert (answer["label"], answer["raw"]) == ("a", b"\xff\x00")
    for wrong in ({"label": "a"}, {"picture": np.zeros(1), "label": 5}):
        with pytest.raises(BadPayload):
            board.pool("flip").call(wrong)


@pytest.mark.parametrize("result", [float("nan"), object(), "x" * 5_000_000, {1: float("inf")}])
def test_a_result_that_cannot_be_sent_is_an_error_and_never_a_silence(
    make_node: MakeNode, board: Client, result: object
) -> None:
    node = make_node("alpha")
    node.worker(service="odd")(lambda: result)
    node.start()
    board.pool("odd").wait_ready(5)
    begun = Stopwatch()
    with pytest.raises(CallboardError):
        board.pool("odd").call(timeout=10)
    assert begun.within(5), begun


def test_settings_that_are_wrong_are_named(make_node: MakeNode) -> None:
    node = make_node("alpha")
    for settings, text in (
        ({"service": "No"}, "service"),
        ({"run": "fork"}, "run"),
        ({"concurrency": 0}, "concurrency"),
        ({"scope": "moon"}, "scope"),
        ({"timeout": 0}, "timeout"),
        ({"queue": -1}, "queue"),
        ({"colour": "red"}, "colour"),
    ):
        with pytest.raises(BadRequest, match=text):
            node.worker(**settings)(crew.square)
    node.worker(name="one")(crew.square)
    with pytest.raises(BadRequest, match="two workers"):
        node.worker(name="one")(crew.square)

    async def asynchronous() -> None:
        """Cannot run in another process."""

    with pytest.raises(BadRequest, match="async"):
        node.worker(run="process")(asynchronous)
    with pytest.raises(BadRequest, match="at the top of a module"):
        node.worker(service="local", run="process")(lambda: None)
