"""The parts of a link that need no broker: addresses, delays, the outbox, the inbox, lanes, subscriptions."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard_core import topics
from callboard_core.errors import BadRequest, Failed, Forbidden, Overloaded
from callboard_core.link import Backoff, Endpoint, Link, Message, new_id
from callboard_core.link.calls import Calls, Waiting
from callboard_core.link.inbox import Inbox
from callboard_core.link.lane import Lane
from callboard_core.link.outbox import Outbox, Outgoing, fail, settle
from callboard_core.link.subscriptions import Subscription, Subscriptions, pattern
from callboard_core.messages import ErrorBody, Reply


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("mqtt://host", Endpoint("host", 1883)),
        ("mqtt://host:99", Endpoint("host", 99)),
        ("mqtts://host", Endpoint("host", 8883, tls=True)),
        ("host", Endpoint("host", 1883)),
        ("host:1", Endpoint("host", 1)),
        ("mqtt://[::1]:7/", Endpoint("::1", 7)),
    ],
)
def test_an_endpoint_is_read_and_written(text: str, endpoint: Endpoint) -> None:
    assert Endpoint.parse(text) == endpoint
    assert Endpoint.parse(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "text",
    ["", "http://host", "mqtt://", "mqtt://host:0x", "mqtt://host:99999", "mqtt://u:p@host", "mqtt://h/x"],
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="broker"):
        Endpoint.parse(text)


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True), st.floats(0.001, 10), st.floats(0.001, 100))
def test_a_delay_is_jittered_never_over_the_cap_and_never_nothing(attempt, chance, first, cap) -> None:
    backoff = Backoff(first=first, cap=cap)
    delay = backoff.delay(attempt, chance)
    assert min(first, cap) / 2 <= delay <= cap
    assert backoff.delay(attempt, 0.0) <= delay <= backoff.delay(attempt, 1.0)
    assert delay <= backoff.delay(attempt + 1, 1.0)
    assert backoff.delay(attempt, 0.0) == backoff.delay(attempt, 1.0) / 2


def test_delays_grow_to_the_cap() -> None:
    delays = [Backoff(0.1, 10.0).delay(attempt, 1.0) for attempt in range(9)]
    assert delays[0] == 0.1
    assert delays[-1] == 10.0
    assert delays == sorted(delays)


def outgoing(topic: str = "t", payload: bytes = b"", *, retain: bool = False, deadline=None) -> Outgoing:
    return Outgoing(topic, payload, 1, retain, deadline, [Future()])


def test_only_urgent_messages_pass_a_held_outbox() -> None:
    outbox = Outbox(10)
    outbox.put(outgoing("normal"))
    outbox.put(outgoing("urgent"), urgent=True)
    assert [one.topic for one in outbox.take(10, 0.0)[0]] == ["urgent"]
    outbox.release()
    assert [one.topic for one in outbox.take(10, 0.0)[0]] == ["normal"]


def test_a_retained_message_replaces_one_that_waits_and_both_futures_are_settled() -> None:
    outbox = Outbox(1)
    old, new = outgoing(retain=True), outgoing(retain=True)
    outbox.put(old)
    outbox.put(new)
    assert len(outbox) == 1
    outbox.release()
    settle(outbox.take(10, 0.0)[0])
    assert old.futures[0].done()
    assert all(future.done() for future in new.futures)


def test_a_flowing_outbox_replaces_nothing() -> None:
    outbox = Outbox(10)
    outbox.release()
    for number in range(3):
        outbox.put(outgoing(payload=b"%d" % number, retain=True))
    assert [one.payload for one in outbox.take(10, 0.0)[0]] == [b"0", b"1", b"2"]


def test_what_was_not_acknowledged_goes_first_again_unless_it_is_outdated() -> None:
    outbox = Outbox(10)
    outbox.release()
    for topic, retain in (("a", True), ("event", False), ("b", True)):
        outbox.put(outgoing(topic, b"1", retain=retain))
    sent = outbox.take(10, 0.0)[0]
    outbox.put(outgoing("a", b"2", retain=True))
    assert outbox.give_back(sent) == []
    outbox.put(outgoing("b", b"2", retain=True))
    outbox.release()
    again = [(one.topic, one.payload) for one in outbox.take(10, 0.0)[0]]
    assert again == [("event", b"1"), ("a", b"2"), ("b", b"2")]


def test_a_greeting_belongs_to_its_connection_but_what_it_replaced_does_not() -> None:
    outbox = Outbox(10)
    waiting = outgoing("state", b"1", retain=True)
    theirs = waiting.futures[0]
    outbox.put(waiting)
    greeting, plain = outgoing("state", b"2", retain=True), outgoing("card", b"c", retain=True)
    mine = greeting.futures[0]
    outbox.put(greeting, urgent=True)
    outbox.put(plain, urgent=True)
    sent = outbox.take(10, 0.0)[0]
    fail(outbox.give_back(sent), Failed("lost"))
    assert mine.done()
    assert not theirs.done()
    outbox.release()
    [again] = outbox.take(10, 0.0)[0]
    assert (again.topic, again.payload, again.futures) == ("state", b"2", [theirs])


def test_what_a_greeting_sent_without_waiting_goes_again_after_a_loss() -> None:
    outbox = Outbox(10)
    call = outgoing("command")
    call.futures.clear()
    outbox.put(call, urgent=True)
    assert outbox.give_back(outbox.take(10, 0.0)[0]) == []
    assert outbox.take(10, 0.0)[0] == [], "it is no part of the next greeting"
    outbox.release()
    assert outbox.take(10, 0.0)[0] == [call]


def test_a_full_outbox_refuses_by_number_and_by_bytes_but_takes_replacements() -> None:
    outbox = Outbox(2, byte_limit=10)
    outbox.put(outgoing("a", retain=True))
    outbox.put(outgoing("b", b"x" * 9))
    with pytest.raises(Overloaded):
        outbox.put(outgoing("c"))
    outbox.put(outgoing("a", retain=True))
    assert len(outbox) == 2
    outbox = Outbox(100, byte_limit=10)
    outbox.put(outgoing("b", b"x" * 10))
    with pytest.raises(Overloaded):
        outbox.put(outgoing("c"))
    assert len(outbox.clear()) == 1
    outbox.put(outgoing("c"))


def test_a_message_past_its_deadline_is_not_taken() -> None:
    outbox = Outbox(10)
    outbox.release()
    outbox.put(outgoing("late", deadline=1.0))
    outbox.put(outgoing("good", deadline=3.0))
    ready, late = outbox.take(10, 2.0)
    assert ([r.topic for r in ready], [m.topic for m in late]) == (["good"], ["late"])


PUTS = st.tuples(st.just("put"), st.sampled_from("abc"), st.booleans(), st.booleans())
STEPS = st.one_of(PUTS, st.tuples(st.sampled_from(["take", "ack", "lose", "connect"])))


@given(st.lists(STEPS, max_size=60))
def test_per_topic_order_and_the_last_retained_value_survive_every_history(steps) -> None:
    outbox, in_flight, sent, number = Outbox(1_000), [], [], 0
    last: dict[str, int] = {}
    for step in [*steps, ("connect",), ("take",)]:
        match step:
            case ("put", topic, retain, urgent):
                number += 1
                outbox.put(outgoing(topic, b"%d" % number, retain=retain), urgent=urgent)
                if retain:
                    last[topic] = number
            case ("take",):
                in_flight += outbox.take(1_000, 0.0)[0]
            case ("ack",):
                sent += in_flight[:1]
                in_flight = in_flight[1:]
            case ("lose",):
                outbox.give_back(in_flight)
                in_flight = []
            case ("connect",):
                outbox.release()
    arrived = [*sent, *in_flight]
    for topic in "abc":
        calm = [int(one.payload) for one in arrived if one.topic == topic and not one.urgent]
        urgent_used = any(s[0] == "put" and s[1] == topic and s[3] for s in steps)
        if not urgent_used:
            assert calm == sorted(calm)
            kept = [int(one.payload) for one in arrived if one.topic == topic and one.retain]
            assert kept[-1:] == [last[one] for one in topic if one in last]


def test_futures_that_were_cancelled_are_left_alone() -> None:
    items = [outgoing(), outgoing()]
    for item in items:
        item.futures[0].cancel()
    settle(items[:1])
    fail(items[1:], Failed("x"))
    assert all(item.futures[0].cancelled() for item in items)


LEVELS = st.sampled_from(["a", "b", "$c", "", "."])


@given(
    st.lists(st.one_of(LEVELS, st.just("+")), min_size=1, max_size=4),
    st.booleans(),
    st.lists(LEVELS, min_size=1, max_size=4),
)
def test_the_patterns_of_subscriptions_follow_the_rules_of_topics(levels, rest, topic) -> None:
    topic_filter = "/".join([*levels, *(["#"] if rest else [])])
    name = "/".join(topic)
    assert bool(pattern(topic_filter).fullmatch(name)) == topics.matches(topic_filter, name)


def test_hash_alone_matches_everything_but_dollar_topics() -> None:
    assert pattern("#").fullmatch("a/b\nc")
    assert not pattern("#").fullmatch("$SYS/x")


def test_subscriptions_ask_for_the_highest_qos_and_leave_when_nobody_is_left() -> None:
    table = Subscriptions()
    ones = [Subscription("a/+", print, qos, lambda _: None) for qos in (0, 1)]
    for one in ones:
        table.add(one)
    assert table.wanted() == [("a/+", 1)]
    assert table.handlers("a/x") == (print, print)
    assert table.remove(ones[1]) is False
    assert table.qos("a/+") == 0
    assert table.remove(ones[0]) is True
    assert table.remove(ones[0]) is False
    assert table.qos("a/+") is None
    assert table.handlers("a/x") == ()


def test_a_refused_subscription_is_forbidden() -> None:
    table = Subscriptions()
    one = Subscription("a", print, 1, lambda _: None)
    table.add(one)
    for tell in [*table.granted("a", ok=False), *table.granted("a", ok=True)]:
        tell()
    assert isinstance(one.ready.exception(0), Forbidden)


def test_a_lane_runs_in_order_later_work_later_and_survives_what_raises() -> None:
    lane, done, order = Lane("test-lane"), threading.Event(), []
    lane.later(0.05, lambda: (order.append("later"), done.set()))
    cancelled = lane.later(0.01, lambda: order.append("cancelled"))
    cancelled.cancel()
    lane.post(lambda: 1 // 0)
    for number in range(3):
        lane.post(lambda number=number: order.append(number))
    assert done.wait(5)
    assert order == [0, 1, 2, "later"]
    lane.stop()
    lane.join(5)
    lane.post(lambda: order.append("inline"))
    assert order[-1] == "inline"
    assert not [t for t in threading.enumerate() if t.name == "test-lane"]


def test_an_inbox_tells_when_there_is_room_again() -> None:
    room = threading.Event()
    inbox = Inbox("test-inbox", 4, on_room=room.set)
    message = Message("t", b"", 1, arrived=time.monotonic())
    offered = [inbox.offer([lambda _: None], message) for _ in range(6)]
    assert offered == [True, True, True, True, False, False]
    assert inbox.must_pause()
    assert inbox.offer([print], message._replace(qos=0)) is False
    assert inbox.dropped == 1
    inbox.release()
    inbox.start()
    assert room.wait(5)
    assert not inbox.full
    inbox.stop()
    inbox.join(5)


def test_a_full_inbox_is_patient_only_for_a_while() -> None:
    inbox = Inbox("test-inbox", 2, on_room=lambda: None, patience=0.05)
    for _ in range(2):
        inbox.offer([print], Message("t", b"", 1))
    assert inbox.must_pause()
    time.sleep(0.06)
    assert not inbox.must_pause()


def test_ids_are_ulids_that_sort_by_time() -> None:
    first = new_id()
    time.sleep(0.002)
    second = new_id()
    assert len(first) == len(second) == 26
    assert first < second
    assert first[0] == "0"


def test_answers_reach_their_call_and_no_other() -> None:
    calls, progress, acks = Calls(), [], []
    futures = {name: Future() for name in "abcd"}
    for name, future in futures.items():
        calls.add(name, Waiting(future, progress.append, lambda: acks.append(1)))
    futures["d"].cancel()
    for reply in (
        Reply(id="a", ack=True),
        Reply(id="a", progress=0.5),
        Reply(id="a", ok=True, result=1),
        Reply(id="a", ok=True, result=2),
        Reply(id="b", ok=False, error=ErrorBody(code="bad_request", message="no")),
        Reply(id="c", ok=False),
        Reply(id="d", ok=True, result=3),
        Reply(id="unknown", ok=True),
    ):
        calls.answer(reply)
    assert futures["a"].result(0) == 1
    assert isinstance(futures["b"].exception(0), BadRequest)
    assert isinstance(futures["c"].exception(0), Failed)
    assert (progress, acks) == ([0.5], [1])
    assert calls.late == 2
    assert len(calls) == 0


def test_a_link_that_was_never_started_leaves_nothing_behind() -> None:
    link = Link(client_id="idle", endpoint=Endpoint("127.0.0.1", 1))
    assert not link.connected
    assert link.session == 0
    link.stop()


@pytest.mark.parametrize("bad", ["", "Upper", "a/b", "a#", "x" * 64])
def test_a_client_id_that_cannot_be_part_of_a_topic_is_refused(bad: str) -> None:
    with pytest.raises(BadRequest, match="client id"):
        Link(client_id=bad, endpoint=Endpoint("127.0.0.1", 1))
