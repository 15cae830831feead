from __future__ import annotations

import pytest

from support import packets as p
from support.hubs import Broker, Client


def flood(count: int, topic: str = "x", start: int = 0) -> bytes:
    return b"".join(p.publish(topic, b"%d" % n, qos=1, pid=n + 1) for n in range(start, start + count))


def acknowledge(reader: Client, messages: list[p.Packet]) -> list[p.Packet]:
    return reader.feed(*(p.ack(p.PUBACK, message.pid) for message in messages))


@pytest.mark.parametrize("clean", [True, False], ids=["express", "kept session"])
def test_one_turn_queues_only_so_much_before_acknowledgements_are_read(clean: bool) -> None:
    broker = Broker(queue_messages=100_000, inflight=10)
    reader, writer = broker.client("r", clean=clean), broker.client("w")
    reader.subscribe(("x", 1))
    writer.publish("x", qos=1)  # from now on its route is known
    writer.connection.receive(flood(5_000))
    assert writer.connection.pressed
    assert 900 <= len(broker.hub.sessions["r"].queue) <= 1_010
    broker.turn()
    assert not writer.connection.pressed
    assert len(broker.hub.sessions["r"].queue) == 4_991


def test_publishers_wait_as_long_as_the_session_makes_progress() -> None:
    broker = Broker(queue_messages=100, inflight=1, patience=3.0)
    reader, writer = broker.client("r"), broker.client("w")
    reader.subscribe(("x", 1))
    got = reader.packets()
    writer.feed(flood(200))
    for _ in range(11):  # 8 seconds, each step shorter than the patience
        got = acknowledge(reader, [each for each in reader.packets() + got if each.kind == p.PUBLISH])
        broker.wait(0.75)
        assert writer.connection.pressed
    assert len(broker.hub.sessions["r"].queue) <= 52
    assert not reader.closed


def test_publishers_do_not_wait_for_ever_for_one_that_hardly_moves() -> None:
    broker = Broker(queue_messages=10_000, inflight=1, patience=3.0)
    reader, writer = broker.client("r"), broker.client("w")
    reader.subscribe(("x", 1))
    writer.feed(flood(5_200))
    got = reader.packets()
    for _ in range(10):  # one message each: the queue has to lose a hundred until publishers may go on
        broker.wait(0.75)
        got = acknowledge(reader, got)
    assert writer.connection.pressed
    for _ in range(10):
        broker.wait(0.75)
        got = acknowledge(reader, got)
    assert not writer.connection.pressed


def test_a_session_given_up_is_waited_for_again_once_it_takes_something() -> None:
    broker = Broker(queue_messages=100, inflight=1, patience=1.0)
    reader, writer = broker.client("r"), broker.client("w")
    reader.subscribe(("x", 1))
    writer.feed(flood(70))
    got = [each for each in reader.packets() if each.kind == p.PUBLISH]
    assert writer.connection.pressed
    broker.wait(1.25)
    assert not writer.connection.pressed
    got = acknowledge(reader, got)
    writer.feed(flood(50, start=70))
    assert writer.connection.pressed
    while got:
        got = acknowledge(reader, got)
    assert not writer.connection.pressed
    assert not reader.closed


def test_time_in_which_the_broker_did_not_read_does_not_cost_patience() -> None:
    broker = Broker(queue_messages=100, inflight=1, patience=1.0)
    reader, writer = broker.client("r"), broker.client("w")
    reader.subscribe(("x", 1))
    writer.feed(flood(200))
    broker.hub.tick(broker.hub.now + 2.4)  # one long turn: acknowledgements may lie unread
    broker.turn()
    assert writer.connection.pressed
    broker.wait(1.0)
    assert not writer.connection.pressed


def test_a_crowded_client_is_read_although_it_publishes_itself() -> None:
    broker = Broker(queue_messages=100, inflight=10)
    echo = broker.client("echo")
    echo.subscribe(("x", 1))
    echo.connection.receive(flood(80))
    broker.turn()
    assert not echo.connection.pressed
    assert [int(payload) for payload in echo.everything()] == list(range(80))


def test_one_that_waits_becomes_crowded_and_is_read_again() -> None:
    broker = Broker(queue_messages=100, inflight=1)
    slow, both, writer = broker.client("slow"), broker.client("both"), broker.client("w")
    slow.subscribe(("x", 1))
    both.subscribe(("y", 1))
    both.feed(flood(60))
    assert both.connection.pressed
    writer.feed(flood(60, "y"))
    assert writer.connection.pressed
    assert not both.connection.pressed


def test_publishing_to_others_goes_on_beside_a_crowded_session() -> None:
    broker = Broker(queue_messages=100, inflight=1)
    slow, quick = broker.client("slow"), broker.client("quick")
    slow.subscribe(("x", 1))
    quick.subscribe(("y", 1))
    writer, other = broker.client("w"), broker.client("o")
    writer.feed(flood(60))
    other.publish("y", b"not held", qos=1)
    assert writer.connection.pressed
    assert not other.connection.pressed
    assert quick.payloads() == [b"not held"]
