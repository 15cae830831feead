from __future__ import annotations

import pytest

from support import packets as p
from support.hubs import Broker


def offline(broker: Broker, client_id: str, *filters: tuple[str, int]) -> None:
    client = broker.client(client_id, clean=False)
    client.subscribe(*filters)
    client.feed(p.disconnect())


def test_what_comes_while_away_waits_in_order_at_its_qos() -> None:
    broker = Broker()
    offline(broker, "a", ("x", 2))
    writer = broker.client("w")
    for number, qos in enumerate([1, 0, 2, 1]):
        writer.publish("x", b"%d" % number, qos=qos)
    back = broker.client("a", clean=False)
    got = [(message.payload, message.qos, message.retain, message.dup) for message in back.packets()]
    assert got == [(b"0", 1, False, False), (b"2", 2, False, False), (b"3", 1, False, False)]


def test_no_more_than_the_window_is_in_flight() -> None:
    broker = Broker(inflight=3)
    reader, writer = broker.client("r"), broker.client("w")
    reader.subscribe(("x", 1))
    for number in range(10):
        writer.publish("x", b"%d" % number, qos=1)
    first = [packet for packet in reader.packets() if packet.kind == p.PUBLISH]
    assert [packet.payload for packet in first] == [b"0", b"1", b"2"]
    more = reader.feed(p.ack(p.PUBACK, first[0].pid))
    assert [packet.payload for packet in more] == [b"3"]


def test_the_receive_maximum_of_an_mqtt_5_client_is_its_window() -> None:
    broker = Broker()
    reader = broker.client("r", level=5, props={"receive_maximum": 2})
    reader.subscribe(("x", 1))
    writer = broker.client("w")
    for number in range(5):
        writer.publish("x", b"%d" % number, qos=1)
    assert len([packet for packet in reader.packets() if packet.kind == p.PUBLISH]) == 2


def test_unacknowledged_messages_come_again_with_dup_and_their_ids() -> None:
    broker = Broker()
    reader, writer = broker.client("r", clean=False), broker.client("w")
    reader.subscribe(("x", 2))
    writer.publish("x", b"one", qos=1)
    writer.publish("x", b"two", qos=2)
    one, two = [packet for packet in reader.packets() if packet.kind == p.PUBLISH]
    reader.connection.close()
    back = broker.client("r", clean=False)
    got = [(message.payload, message.pid, message.dup) for message in back.packets()]
    assert got == [(b"one", one.pid, True), (b"two", two.pid, True)]


def test_after_pubrec_pubrel_is_what_comes_again() -> None:
    broker = Broker()
    reader, writer = broker.client("r", clean=False), broker.client("w")
    reader.subscribe(("x", 2))
    writer.publish("x", b"one", qos=2)
    message = next(packet for packet in reader.packets() if packet.kind == p.PUBLISH)
    assert reader.feed(p.ack(p.PUBREC, message.pid))[0].kind == p.PUBREL
    reader.connection.close()
    back = broker.client("r", clean=False)
    assert [(packet.kind, packet.pid) for packet in back.packets()] == [(p.PUBREL, message.pid)]
    back.feed(p.ack(p.PUBCOMP, message.pid))
    assert back.connection.session is not None
    assert not back.connection.session.inflight


def test_a_repeated_qos_2_message_is_passed_on_once() -> None:
    broker = Broker()
    reader, writer = broker.client("r"), broker.client("w")
    reader.subscribe(("x", 0))
    raw = p.publish("x", b"once", qos=2, pid=9)
    assert [writer.feed(raw)[0].kind, writer.feed(raw)[0].kind] == [p.PUBREC, p.PUBREC]
    assert writer.feed(p.ack(p.PUBREL, 9))[0].kind == p.PUBCOMP
    writer.feed(raw)
    assert reader.payloads() == [b"once", b"once"]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_retained_messages_come_before_anything_published_later(qos: int) -> None:
    broker = Broker(inflight=10)
    writer, reader = broker.client("w"), broker.client("r")
    for number in range(1_000):
        writer.publish(f"r/{number}", b"%d" % number, qos=2, retain=True)
    reader.connection.choke(True)
    reader.subscribe(("r/#", qos), ("nonce", 1))
    writer.publish("nonce", b"nonce", qos=1)
    writer.publish("r/5", b"later", qos=0)
    reader.connection.choke(False)
    broker.turn()
    assert reader.everything() == [*(b"%d" % number for number in range(1_000)), b"nonce", b"later"]


def test_retained_messages_cut_short_by_a_disconnect_are_sent_after_all() -> None:
    broker = Broker(inflight=10)
    writer = broker.client("w")
    for number in range(50):
        writer.publish(f"r/{number}", b"%d" % number, qos=1, retain=True)
    reader = broker.client("r", clean=False)
    reader.subscribe(("r/#", 1))
    reader.connection.close()
    assert set(broker.client("r", clean=False).everything()) == {b"%d" % number for number in range(50)}


def test_a_slow_reader_loses_qos_0_and_keeps_qos_1() -> None:
    broker = Broker()
    reader, writer = broker.client("r"), broker.client("w")
    reader.subscribe(("x", 1))
    reader.connection.choke(True)
    writer.publish("x", b"lost", qos=0)
    writer.publish("x", b"lost too", qos=0)
    writer.publish("x", b"kept", qos=1)
    reader.connection.choke(False)
    broker.turn()
    assert reader.payloads() == [b"kept"]
    assert broker.hub.counters.dropped == 2


def test_a_connected_reader_whose_queue_is_full_is_dropped_with_a_log_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = Broker(queue_messages=10, patience=0)
    reader, writer = broker.client("slow"), broker.client("w")
    reader.subscribe(("x", 1))
    reader.connection.choke(True)
    for _ in range(12):
        writer.publish("x", qos=1)
        broker.wait(0.25)
    assert reader.closed
    assert "slow reader slow" in caplog.text
    assert broker.hub.counters.bounds["slow_reader"] == 1


@pytest.mark.parametrize("bound", [{"queue_messages": 5}, {"queue_bytes": 5 * 66}])
def test_the_queue_of_an_absent_session_is_bounded(bound: dict[str, int]) -> None:
    broker = Broker(**bound)
    offline(broker, "a", ("x", 1))
    writer = broker.client("w")
    for number in range(8):
        writer.publish("x", b"%d" % number, qos=1)
    assert broker.hub.sessions["a"].dropped == 3
    assert broker.hub.counters.bounds["queue"] == 3


def test_publishers_wait_for_a_crowded_session_but_not_longer_than_patience() -> None:
    broker = Broker(queue_messages=100, inflight=1, patience=1.0)
    reader, writer = broker.client("r"), broker.client("w")
    reader.subscribe(("x", 1))
    raw = b"".join(p.publish("x", b"%d" % n, qos=1, pid=n + 1) for n in range(200))
    writer.connection.receive(raw)
    broker.turn()
    assert writer.connection.pressed
    assert 50 <= len(broker.hub.sessions["r"].queue) <= 60
    assert not reader.closed
    broker.wait(1.5)
    assert not writer.connection.pressed
    assert reader.closed


def test_publishers_go_on_as_soon_as_the_session_has_caught_up() -> None:
    broker = Broker(queue_messages=100, inflight=10)
    reader, writer = broker.client("r"), broker.client("w")
    reader.subscribe(("x", 1))
    raw = b"".join(p.publish("x", b"%d" % n, qos=1, pid=n + 1) for n in range(1_000))
    writer.connection.receive(raw)
    broker.turn()
    got: list[bytes] = []
    while more := reader.payloads():
        got += more
    assert got == [b"%d" % n for n in range(1_000)]
    assert not writer.connection.pressed


def test_messages_that_expire_while_they_wait_are_not_sent() -> None:
    broker = Broker()
    offline(broker, "a", ("x", 1))
    writer = broker.client("w", level=5)
    writer.publish("x", b"short", qos=1, props={"message_expiry": 5})
    writer.publish("x", b"long", qos=1, props={"message_expiry": 50})
    broker.wait(10)
    back = broker.client("a", clean=False)
    assert [(packet.payload, packet.qos, packet.dup) for packet in back.packets()] == [(b"long", 1, False)]
