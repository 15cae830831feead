"""Calls over a real Mosquitto: one final answer, whatever the handler, the caller or the clock does."""

from __future__ import annotations

import asyncio
import json
import statistics
import threading
import time

import pytest

from callboard_core import callee as callee_module
from callboard_core import topics
from callboard_core.callee import Callee, Request
from callboard_core.errors import (
    BadRequest,
    CallboardError,
    Conflict,
    Failed,
    NotFound,
    Overloaded,
    TimedOut,
    TooLarge,
    Unavailable,
)
from callboard_core.link import Link, Message, new_id
from callboard_core.messages import Call, Event, Reply, State, parse
from callboard_core.runners import Pool
from callboard_core.topics import Address, Kind, Leaf
from support.links import Collector, MakeLink, links
from support.mosquitto import Mosquitto, mosquitto
from support.timing import Stopwatch
from support.waiting import wait_until

__all__ = ["links", "mosquitto"]


def address(name: str, kind: Kind = Kind.ACTION) -> Address:
    return Address("callboard", "alpha", Leaf.COMMAND, kind, name)


@pytest.fixture
def alpha(mosquitto: Mosquitto, links: MakeLink):
    """A callee with nothing but ``ping`` to call."""
    link = links("alpha", mosquitto.endpoint, start=False)
    callee = Callee(link, "alpha")
    link.start()
    link.wait_connected(30)
    yield callee
    callee.close()


@pytest.fixture
def caller(mosquitto: Mosquitto, links: MakeLink) -> Link:
    return links("caller", mosquitto.endpoint)


@pytest.fixture
def raw(caller: Link):
    """Send calls by hand; everything that comes back is collected."""
    answers: Collector[Message] = Collector()
    caller.subscribe("callboard/raw/reply", answers).ready.result(30)

    def send(name: str = "x", *, retain: bool = False, **call) -> None:
        fields = {"id": new_id(), "reply_to": "callboard/raw/reply", **call}
        data = json.dumps(fields).encode()
        caller.publish(topics.command("callboard", "alpha", Kind.ACTION, name), data, qos=1, retain=retain)

    send.answers = answers  # type: ignore[attr-defined]
    return send


def test_a_call_returns_what_the_handler_returns(alpha: Callee, caller: Link) -> None:
    alpha.handle(Kind.ACTION, "add", lambda request: sum(request.args["numbers"]))
    assert caller.call(address("add"), {"numbers": [1, 2, 3]}, timeout=30).result(30) == 6


def test_a_control_echoes_at_once(alpha: Callee, caller: Link) -> None:
    echoed: Collector[float] = Collector()
    topic = topics.state("callboard", "alpha", Kind.CONTROL, "fan")
    caller.subscribe(topic, lambda _: echoed(time.perf_counter())).ready.result(30)

    def turn(request: Request) -> None:
        alpha._link.publish(topic, State(v=request.args["value"], t=1.0), qos=1, retain=True)

    alpha.handle(Kind.CONTROL, "fan", turn)
    taken, control = [], []
    for number in range(100):
        begun = time.perf_counter()
        caller.call(address("fan", Kind.CONTROL), {"value": number}, timeout=30).result(30)
        taken.append(echoed.wait_for(number + 1)[-1] - begun)
        begun = time.perf_counter()
        caller.round_trip(5).result(30)
        control.append(time.perf_counter() - begun)
    # Two trips through the broker and a handler, beside one trip; a timer or a poll in between would show.
    assert statistics.median(taken) < 0.010 + 5 * statistics.median(control)


def test_ping_is_answered_by_every_callee(alpha: Callee, caller: Link) -> None:
    answer = caller.call(address("ping"), {}, timeout=30).result(30)
    assert answer["uptime"] >= 0
    assert answer["host"]


def test_coroutines_run_side_by_side_on_one_loop(alpha: Callee, caller: Link) -> None:
    together = asyncio.Barrier(3)

    async def wait(_: Request) -> int:
        await together.wait()
        return threading.get_ident()

    alpha.handle(Kind.ACTION, "wait", wait, concurrency=3)
    futures = [caller.call(address("wait"), {}, timeout=30) for _ in range(3)]
    assert len({future.result(30) for future in futures}) == 1


def test_a_slow_handler_does_not_delay_others(alpha: Callee, caller: Link) -> None:
    release = threading.Event()
    alpha.handle(Kind.ACTION, "slow", lambda _: release.wait(10))
    alpha.handle(Kind.ACTION, "quick", lambda _: "now")
    slow = caller.call(address("slow"), {}, timeout=10)
    for _ in range(10):
        assert caller.call(address("quick"), {}, timeout=1).result(2) == "now"
    release.set()
    assert slow.result(30) is True


def test_calls_of_one_thing_run_one_at_a_time_in_their_order(alpha: Callee, caller: Link) -> None:
    seen, inside = [], []

    def handler(request: Request) -> None:
        inside.append(1)
        assert len(inside) == 1
        time.sleep(0.001)
        seen.append(request.args["n"])
        inside.pop()

    alpha.handle(Kind.CONTROL, "fan", handler)
    futures = [caller.call(address("fan", Kind.CONTROL), {"n": n}, timeout=10) for n in range(50)]
    for future in futures:
        future.result(30)
    assert seen == list(range(50))


def test_work_over_a_second_is_acknowledged_and_its_progress_reported(alpha: Callee, caller: Link) -> None:
    acks, progress = Collector(), Collector()

    def work(request: Request) -> str:
        acks.wait_for(1)  # it takes until the acknowledgement has arrived
        for step in (0.25, 0.5, 7):
            request.progress(step)
            time.sleep(0.11)
        return "done"

    alpha.handle(Kind.ACTION, "work", work)
    alpha.handle(Kind.ACTION, "quick", lambda _: "done")
    begun = time.monotonic()
    future = caller.call(
        address("work"), {}, timeout=30, on_progress=progress, on_ack=lambda: acks(time.monotonic())
    )
    assert future.result(30) == "done"
    assert acks.items[0] - begun >= 1
    assert len(acks.items) == 1
    assert progress.items == [0.25, 0.5, 1.0]
    quick = caller.call(address("quick"), {}, timeout=10, on_ack=lambda: acks(0))
    assert quick.result(30) == "done"
    assert len(acks.items) == 1


class Odd(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("raised", "kind", "text"),
    [
        (ValueError("bad wiring"), Failed, "ValueError: bad wiring"),
        (BadRequest("value: too hot"), BadRequest, "value: too hot"),
        (Conflict("busy"), Conflict, "busy"),
        (SystemExit("bye"), Failed, "SystemExit: bye"),
        (Odd(), Failed, "Odd: "),
        (ValueError("\ud800"), Failed, r"ValueError: \\ud800"),
        (ValueError("x" * 2_000_000), Failed, "ValueError: xxx"),
    ],
    ids=["theirs", "ours", "conflict", "exit", "no text", "no UTF-8", "long"],
)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_a_handler_raises_reaches_the_caller(
    alpha: Callee, caller: Link, raised: BaseException, kind: type, text: str, asynchronous: bool
) -> None:
    def handler(_: Request) -> None:
        raise raised

    async def coroutine(_: Request) -> None:
        raise raised

    alpha.handle(Kind.ACTION, "fails", coroutine if asynchronous else handler)
    with pytest.raises(kind, match=text):
        caller.call(address("fails"), {}, timeout=30).result(30)


@pytest.mark.parametrize(
    ("result", "kind", "text"),
    [
        (float("nan"), Failed, "JSON"),
        ({"deep": [float("inf")]}, Failed, "JSON"),
        ({1, 2}, Failed, "set is not JSON serializable"),
        (object(), Failed, "object is not JSON serializable"),
        ("\ud800", Failed, "surrogates"),
        ("x" * 1_100_000, TooLarge, "artifact"),
    ],
    ids=["NaN", "inf", "set", "object", "surrogate", "large"],
)
def test_a_result_that_cannot_be_sent_is_an_error_and_never_a_silence(
    alpha: Callee, caller: Link, result: object, kind: type[CallboardError], text: str
) -> None:
    alpha.handle(Kind.ACTION, "odd", lambda _: result)
    with pytest.raises(kind, match=text):
        caller.call(address("odd"), {}, timeout=30).result(30)


def test_bytes_travel_as_they_are_and_as_base64_to_who_reads_only_json(
    alpha: Callee, caller: Link, raw
) -> None:
    alpha.handle(Kind.ACTION, "x", lambda request: [*request.args.values(), b"\xff\x00"])
    assert caller.call(address("x"), {"given": b"\x80"}, timeout=30).result(30) == [b"\x80", b"\xff\x00"]
    raw(args={"given": {"$bytes": "gA=="}})
    [answer] = raw.answers.wait_for(1)
    assert json.loads(answer.payload)["result"] == [{"$bytes": "gA=="}, {"$bytes": "/wA="}]


def test_a_result_that_contains_itself_is_an_error(alpha: Callee, caller: Link) -> None:
    loop: list = []
    loop.append(loop)
    alpha.handle(Kind.ACTION, "odd", lambda _: loop)
    with pytest.raises(Failed, match="JSON"):
        caller.call(address("odd"), {}, timeout=30).result(30)


def test_arguments_that_are_no_json_are_refused_before_they_are_sent(alpha: Callee, caller: Link) -> None:
    for bad in (float("nan"), {1}, object(), "\ud800"):
        with pytest.raises(BadRequest):
            caller.call(address("ping"), {"x": bad}, timeout=30).result(30)
    assert caller.call(address("ping"), {}, timeout=30).result(30)


def test_what_does_not_exist_is_not_found(alpha: Callee, caller: Link) -> None:
    with pytest.raises(NotFound, match="alpha has no action/nothing"):
        caller.call(address("nothing"), {}, timeout=30).result(30)
    alpha.handle(Kind.ACTION, "brief", lambda _: 1)
    alpha.unhandle(Kind.ACTION, "brief")
    with pytest.raises(NotFound):
        caller.call(address("brief"), {}, timeout=30).result(30)


def test_a_call_that_nobody_answers_times_out_and_a_late_reply_is_dropped(
    alpha: Callee, caller: Link
) -> None:
    release = threading.Event()
    alpha.handle(Kind.ACTION, "slow", lambda _: release.wait(10))
    begun = Stopwatch()
    with pytest.raises(TimedOut):
        caller.call(address("slow"), {}, timeout=0.2).result(30)
    assert begun.within(1), begun
    release.set()
    wait_until(lambda: caller.late_replies == 1)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 1e9])
def test_a_time_out_is_always_finite(caller: Link, timeout: float) -> None:
    with pytest.raises(BadRequest):
        caller.call(address("ping"), {}, timeout=timeout).result(30)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_handler_that_overruns_is_answered_for_and_told(
    alpha: Callee, caller: Link, asynchronous: bool
) -> None:
    told = threading.Event()

    def handler(request: Request) -> str:
        assert request.cancelled.wait(30)
        told.set()
        return "too late"

    async def coroutine(_: Request) -> str:
        try:
            await asyncio.sleep(5)
        finally:
            told.set()
        return "too late"

    alpha.handle(Kind.ACTION, "long", coroutine if asynchronous else handler, timeout=0.2)
    with pytest.raises(TimedOut, match=r"longer than 0\.2 s"):
        caller.call(address("long"), {}, timeout=30).result(30)
    assert told.wait(30)
    assert caller.late_replies == 0
    # its thing is free again
    alpha.handle(Kind.ACTION, "long", lambda _: "again")
    assert caller.call(address("long"), {}, timeout=30).result(30) == "again"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_running_call_can_be_cancelled(alpha: Callee, caller: Link, asynchronous: bool) -> None:
    begun = threading.Event()

    def handler(request: Request) -> str:
        begun.set()
        assert request.cancelled.wait(30)
        return "interrupted"

    async def coroutine(_: Request) -> str:
        begun.set()
        await asyncio.sleep(5)
        return "never"

    alpha.handle(Kind.ACTION, "long", coroutine if asynchronous else handler)
    future = caller.call(address("long"), {}, timeout=5, call_id="me")
    assert begun.wait(30)
    caller.cancel(address("long"), "me")
    if asynchronous:
        with pytest.raises(Failed, match="cancelled"):
            future.result(30)
    else:
        assert future.result(30) == "interrupted"


def test_a_waiting_call_can_be_cancelled_and_never_runs(alpha: Callee, caller: Link) -> None:
    release, runs = threading.Event(), []

    def handler(request: Request) -> None:
        runs.append(request.id)
        release.wait(5)

    alpha.handle(Kind.ACTION, "long", handler)
    first = caller.call(address("long"), {}, timeout=5, call_id="first")
    second = caller.call(address("long"), {}, timeout=5, call_id="second")
    wait_until(lambda: any(job.call.id == "second" for job in alpha._working._jobs.values()))
    caller.cancel(address("long"), "second")
    with pytest.raises(Failed, match="cancelled before it began"):
        second.result(30)
    release.set()
    first.result(30)
    assert runs == ["first"]


def test_a_call_whose_turn_does_not_come_in_time_is_answered_expired(alpha: Callee, raw) -> None:
    release, runs = threading.Event(), []

    def handler(request: Request) -> None:
        runs.append(request.id)
        release.wait(5)

    alpha.handle(Kind.ACTION, "x", handler)
    now = time.time()
    raw(id="first", t=now, expires=now + 60)
    raw(id="second", t=now, expires=now + 0.2)
    [answer] = raw.answers.wait_for(1)
    assert parse(Reply, answer.payload).id == "second"
    assert parse(Reply, answer.payload).error.code == "expired"
    release.set()
    raw.answers.wait_for(2)
    assert runs == ["first"]


def test_more_calls_than_can_wait_are_overloaded_at_once(alpha: Callee, caller: Link) -> None:
    release = threading.Event()
    alpha.handle(Kind.ACTION, "slow", lambda _: release.wait(10))
    futures = [caller.call(address("slow"), {}, timeout=10) for _ in range(callee_module.BACKLOG + 11)]
    for future in futures[-10:]:
        with pytest.raises(Overloaded):
            future.result(30)
    release.set()
    for future in futures[:-10]:
        assert future.result(30) is True


def test_more_handlers_than_threads_are_overloaded_at_once(alpha: Callee, caller: Link) -> None:
    alpha._working._pool = Pool("few", 32)
    release = threading.Event()
    alpha.handle(Kind.ACTION, "slow", lambda _: release.wait(10), concurrency=100)
    alpha.handle(Kind.ACTION, "other", lambda _: "fine")
    futures = [caller.call(address("slow"), {}, timeout=10) for _ in range(32)]
    wait_until(lambda: len(alpha._working._jobs) == 32)
    with pytest.raises(Overloaded, match="busy"):
        caller.call(address("other"), {}, timeout=10).result(30)
    release.set()
    for future in futures:
        future.result(30)
    assert caller.call(address("other"), {}, timeout=10).result(30) == "fine"


def test_a_duplicate_runs_once_and_is_answered_once(alpha: Callee, raw) -> None:
    runs = []
    alpha.handle(Kind.ACTION, "x", lambda request: runs.append(request.id))
    for _ in range(3):
        raw(id="same", expires=time.time() + 60, t=time.time())
    raw(id="last")
    raw.answers.wait(lambda items: parse(Reply, items[-1].payload).id == "last" if items else False)
    assert runs == ["same", "last"]
    assert len(raw.answers.items) == 2


@pytest.mark.parametrize("skew", [-86_400, 86_400])
def test_a_clock_that_is_a_day_off_makes_no_difference(alpha: Callee, raw, skew: float) -> None:
    alpha.handle(Kind.ACTION, "x", lambda _: "ran")
    now = time.time() + skew
    raw(t=now, expires=now + 5)
    [answer] = raw.answers.wait_for(1)
    assert parse(Reply, answer.payload).result == "ran"


@pytest.mark.parametrize("times", [{"t": 1000.0, "expires": 999.0}, {"expires": 1000.0}])
def test_an_expired_call_is_answered_expired_and_not_run(alpha: Callee, raw, times: dict) -> None:
    runs = []
    alpha.handle(Kind.ACTION, "x", lambda _: runs.append(1))
    raw(**times)
    [answer] = raw.answers.wait_for(1)
    assert parse(Reply, answer.payload).error.code == "expired"
    assert runs == []


def test_a_call_without_a_reply_topic_is_run_and_not_answered(alpha: Callee, raw) -> None:
    ran = threading.Event()
    alpha.handle(Kind.ACTION, "x", lambda _: ran.set())
    raw(reply_to=None)
    assert ran.wait(30)


def test_a_retained_call_is_refused_counted_reported_and_cleared(
    mosquitto: Mosquitto, links: MakeLink, caller: Link, raw
) -> None:
    events: Collector[Message] = Collector()
    caller.subscribe("callboard/alpha/event/refused", events).ready.result(30)
    raw(retain=True)
    raw("y", retain=True)
    caller.round_trip(5).result()
    runs = []
    link = links("alpha", mosquitto.endpoint, start=False)
    callee = Callee(link, "alpha")
    callee.handle(Kind.ACTION, "x", lambda _: runs.append(1))
    link.start()
    event = parse(Event, events.wait_for(2)[0].payload)
    assert event.data["topic"] in {"callboard/alpha/command/action/x", "callboard/alpha/command/action/y"}
    assert "retained" in event.data["reason"]
    assert event.data["size"] > 0
    assert callee.refused == 2
    link.round_trip(5).result()
    left: Collector[Message] = Collector()
    late = links("late", mosquitto.endpoint)
    late.subscribe("callboard/alpha/command/#", left).ready.result(30)
    late.round_trip(5).result()
    assert left.items == []
    assert runs == []
    callee.close()


@pytest.mark.parametrize(
    "payload",
    [
        b"no json",
        b"[]",
        b"{}",
        b'{"id": ""}',
        b'{"id": 5}',
        b'{"id": "a", "args": []}',
        b'{"id": "a", "args": {"x": NaN}}',
        b'{"id": "a", "args": {"x": {"$bytes": "no base64!"}}}',
        b"\x81\xa2id",
        b"\x82\xa2id\xa1a\xa4args\x90",
        b"\x82\xa2id\xa1a\xa4args\x81\xa1x\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
        b'{"id": "a", "reply_to": "callboard/beta/command/action/reboot"}',
        b'{"id": "a", "reply_to": "othersite/beta/reply"}',
        b'{"id": "a", "reply_to": "callboard/+/reply"}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_call_is_refused_and_reported_and_stops_nothing(
    alpha: Callee, caller: Link, payload: bytes
) -> None:
    events: Collector[Message] = Collector()
    others: Collector[Message] = Collector()
    caller.subscribe("callboard/alpha/event/refused", events).ready.result(30)
    caller.subscribe("callboard/beta/#", others).ready.result(30)
    caller.publish("callboard/alpha/command/action/ping", payload, qos=1)
    events.wait_for(1)
    assert caller.call(address("ping"), {}, timeout=30).result(30)
    assert alpha.refused == 1
    assert others.items == []


@pytest.mark.parametrize(
    "topic", ["callboard/alpha/command/nonsense/x", "callboard/alpha/command/action/x/y"]
)
def test_a_topic_that_names_no_thing_is_refused(alpha: Callee, caller: Link, topic: str) -> None:
    caller.publish(topic, b'{"id": "a"}', qos=1)
    wait_until(lambda: alpha.refused == 1)


def test_a_call_on_its_way_when_the_broker_dies_ends_in_time(
    mosquitto: Mosquitto, alpha: Callee, caller: Link
) -> None:
    release = threading.Event()
    alpha.handle(Kind.ACTION, "slow", lambda _: release.wait(10))
    future = caller.call(address("slow"), {}, timeout=10)
    wait_until(lambda: alpha._working._jobs)
    mosquitto.kill()
    wait_until(lambda: not caller.connected)
    refused = caller.call(address("slow"), {}, timeout=10)
    assert refused.done(), "it does not wait for its time-out"
    assert isinstance(refused.exception(), Unavailable)
    mosquitto.start()
    caller.wait_connected(30)
    caller.round_trip(5).result()
    release.set()
    # The answer waits in the callee's outbox and is delivered to the caller that came back.
    assert future.result(30) is True


def test_a_call_that_waits_is_acknowledged_a_second_after_its_arrival(alpha: Callee, caller: Link) -> None:
    alpha.handle(Kind.ACTION, "slow", lambda _: time.sleep(0.8))
    first = caller.call(address("slow"), {}, timeout=10)
    acks: Collector[float] = Collector()
    begun = time.monotonic()
    caller.call(address("slow"), {}, timeout=10, on_ack=lambda: acks(time.monotonic() - begun)).result(30)
    assert 1.0 <= acks.wait_for(1)[0] < 1.4
    first.result(0)


def test_an_answer_that_may_have_been_lost_is_repeated_and_the_work_is_not(alpha: Callee, raw) -> None:
    alpha._instance = "one"
    runs: list[str] = []
    release = threading.Event()
    alpha.handle(Kind.ACTION, "quick", lambda request: runs.append(request.id) or len(runs))
    alpha.handle(Kind.ACTION, "slow", lambda _: release.wait(10))
    raw("quick", id="a")
    raw.answers.wait_for(1)
    raw("quick", id="a")
    raw("quick", id="a", again="one")
    raw("slow", id="b")
    raw("slow", id="b", again="one")
    raw("quick", id="c", again="one")
    raw("quick", id="d", again="two")
    raw.answers.wait_for(4)
    release.set()
    answers = [parse(Reply, message.payload) for message in raw.answers.wait_for(5)]
    assert [(one.id, one.result) for one in answers if one.ok] == [("a", 1), ("a", 1), ("c", 2), ("b", True)]
    [other] = [one for one in answers if not one.ok]
    assert other.error.code == "unavailable"
    assert "anew" in other.error.message
    assert runs == ["a", "c"]


def test_close_ends_waiting_work_and_a_handler_that_hangs_keeps_nobody(alpha: Callee, caller: Link) -> None:
    hang = threading.Event()
    alpha.handle(Kind.ACTION, "hang", lambda _: hang.wait(30))
    alpha.handle(Kind.ACTION, "async", lambda _: asyncio.sleep(30))
    hung = caller.call(address("hang"), {}, timeout=10)
    waiting = caller.call(address("hang"), {}, timeout=10)
    sleeping = caller.call(address("async"), {}, timeout=10)
    wait_until(
        lambda: len(alpha._working._jobs) == 3 and any(job.task for job in alpha._working._jobs.values())
    )
    begun = Stopwatch()
    alpha.close()
    assert begun.within(2), begun
    with pytest.raises(NotFound, match="stops; the call was not begun"):
        waiting.result(30)
    with pytest.raises(Unavailable, match="stopped while it worked"):
        sleeping.result(30)
    hang.set()
    assert hung.result(30) is True


def test_a_forged_answer_to_no_call_is_ignored(alpha: Callee, caller: Link) -> None:
    for junk in (b"", b"junk", b'{"id": "unknown", "ok": true}', b'{"id": 1}', b"\xff"):
        caller.publish(caller.reply_topic, junk, qos=1)
    assert caller.call(address("ping"), {}, timeout=30).result(30)


def test_the_callee_side_of_a_cancel_says_whether_there_was_something_to_cancel(alpha: Callee, raw) -> None:
    raw(id="c", cancel="nothing")
    [answer] = raw.answers.wait_for(1)
    assert parse(Reply, answer.payload).result == {"cancelled": False}
    assert Call(id="x", cancel="y").cancel == "y"
