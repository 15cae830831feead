"""MQTT 3.1.1 sections 3.1.2.4, 4.1, 4.4 and 4.6: what a session keeps, redelivery and order."""

from __future__ import annotations

import pytest

from support import packets as p
from support.engines import Engine
from support.wire import Wire


@pytest.fixture
def kept(engine: Engine, unique: str):
    """Connects one client with a kept session, as often as called; forgets the session at the end."""
    yield lambda: engine.connect(unique, clean=False)
    engine.connect(unique).disconnect()


def test_mqtt_4_4_0_1_an_unacknowledged_qos_1_message_comes_again_with_dup(
    engine: Engine, unique: str, kept
) -> None:
    with kept() as wire, engine.connect(f"{unique}p") as other:
        wire.subscribe((unique, 1))
        other.publish(unique, b"once more", qos=1)
        first = wire.expect(p.PUBLISH)
        assert not first.dup
    with kept() as wire:
        again = wire.message()
        assert (again.dup, again.pid, again.payload, again.retain) == (True, first.pid, b"once more", False)
    with kept() as wire:
        assert wire.is_quiet()


def test_mqtt_4_4_0_1_an_unacknowledged_qos_2_message_comes_again_with_dup(
    engine: Engine, unique: str, kept
) -> None:
    with kept() as wire, engine.connect(f"{unique}p") as other:
        wire.subscribe((unique, 2))
        other.publish(unique, b"two", qos=2)
        first = wire.expect(p.PUBLISH)
    with kept() as wire:
        again = wire.message()
        assert (again.dup, again.pid, again.qos) == (True, first.pid, 2)
    with kept() as wire:
        assert wire.is_quiet()


def test_mqtt_4_4_0_1_after_pubrec_it_is_pubrel_that_comes_again(engine: Engine, unique: str, kept) -> None:
    with kept() as wire, engine.connect(f"{unique}p") as other:
        wire.subscribe((unique, 2))
        other.publish(unique, b"two", qos=2)
        first = wire.expect(p.PUBLISH)
        wire.send(p.ack(p.PUBREC, first.pid))
        wire.expect(p.PUBREL, first.pid)
    with kept() as wire:
        wire.expect(p.PUBREL, first.pid)
        wire.send(p.ack(p.PUBCOMP, first.pid))
        assert wire.is_quiet()
    with kept() as wire:
        assert wire.is_quiet()


def test_mqtt_4_3_3_an_inbound_qos_2_message_survives_a_reconnect_and_is_delivered_once(
    engine: Engine, unique: str, kept
) -> None:
    with engine.connect(f"{unique}w") as watcher:
        watcher.subscribe((unique, 2))
        with kept() as wire:
            wire.send(p.publish(unique, b"exactly", qos=2, pid=77))
            wire.expect(p.PUBREC, 77)
        with kept() as wire:
            wire.send(p.publish(unique, b"exactly", qos=2, pid=77, dup=True))
            wire.expect(p.PUBREC, 77)
            wire.send(p.ack(p.PUBREL, 77))
            wire.expect(p.PUBCOMP, 77)
        assert watcher.message().payload == b"exactly"
        assert watcher.is_quiet()


def test_mqtt_4_3_3_a_repeated_pubrel_is_answered_again(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        wire.publish(unique, b"x", qos=2)
        for _ in range(2):
            wire.send(p.ack(p.PUBREL, 1))
            wire.expect(p.PUBCOMP, 1)


def test_mqtt_4_6_0_1_redelivery_keeps_the_original_order(engine: Engine, unique: str, kept) -> None:
    with kept() as wire, engine.connect(f"{unique}p") as other:
        wire.subscribe((unique, 1))
        for n in range(10):
            other.publish(unique, b"%d" % n, qos=1)
        assert [wire.expect(p.PUBLISH).payload for _ in range(10)] == [b"%d" % n for n in range(10)]
        for n in range(10, 15):
            other.publish(unique, b"%d" % n, qos=1)
    with kept() as wire:
        got = wire.messages(15)
        assert [m.payload for m in got] == [b"%d" % n for n in range(15)]
        assert all(m.dup for m in got[:10])


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_4_6_0_6_messages_of_one_topic_stay_in_order(engine: Engine, unique: str, qos: int) -> None:
    count = 300
    with engine.connect(unique) as wire, engine.connect(f"{unique}p") as other:
        wire.subscribe((f"{unique}/#", qos))
        for n in range(count):
            other.publish(f"{unique}/{n % 3}", b"%d" % n, qos=qos)
        assert [int(wire.message().payload) for _ in range(count)] == list(range(count))


def test_mqtt_4_6_0_2_pubacks_come_in_the_order_of_the_publishes(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        wire.send(*(p.publish(unique, b"x", qos=1, pid=pid) for pid in range(1, 101)))
        assert [wire.expect(p.PUBACK).pid for _ in range(100)] == list(range(1, 101))


def test_mqtt_4_6_0_3_pubrecs_come_in_the_order_of_the_publishes(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        pids = [5, 3, 9, 1, 7]
        wire.send(*(p.publish(unique, b"x", qos=2, pid=pid) for pid in pids))
        assert [wire.expect(p.PUBREC).pid for _ in pids] == pids
        wire.send(*(p.ack(p.PUBREL, pid) for pid in pids))
        assert [wire.expect(p.PUBCOMP).pid for _ in pids] == pids


def test_mqtt_4_6_0_4_pubrels_come_in_the_order_of_the_pubrecs(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire, engine.connect(f"{unique}p") as other:
        wire.subscribe((unique, 2))
        for n in range(5):
            other.publish(unique, b"%d" % n, qos=2)
        pids = [wire.expect(p.PUBLISH).pid for _ in range(5)]
        wire.send(*(p.ack(p.PUBREC, pid) for pid in pids))
        assert [wire.expect(p.PUBREL).pid for _ in pids] == pids


def test_mqtt_4_1_0_1_a_slow_client_loses_nothing_of_qos_1(engine: Engine, unique: str, kept) -> None:
    """More messages than any in-flight window: the rest waits in the session."""
    count = 500
    with kept() as wire, engine.connect(f"{unique}p") as other:
        wire.subscribe((unique, 1))
        for n in range(count):
            other.publish(unique, b"%d" % n, qos=1)
        got = _settle(wire, 200)
    with kept() as wire:
        got |= {int(m.payload) for m in wire.messages(count - len(got))}
        assert got == set(range(count))


def test_offline_messages_come_in_order_without_the_retain_flag(engine: Engine, unique: str, kept) -> None:
    with kept() as wire:
        wire.subscribe((f"{unique}/#", 1))
        wire.disconnect()
    with engine.connect(f"{unique}p") as other:
        for n in range(50):
            other.publish(f"{unique}/{n}", b"%d" % n, qos=1, retain=n == 7)
        other.publish(f"{unique}/7", retain=True)
    with kept() as wire:
        got = wire.messages(50)
        assert [m.payload for m in got] == [b"%d" % n for n in range(50)]
        assert not any(m.retain or m.dup for m in got)


def test_offline_messages_have_the_lower_of_the_two_qos(engine: Engine, unique: str, kept) -> None:
    with kept() as wire:
        wire.subscribe((f"{unique}/one", 1), (f"{unique}/two", 2))
        wire.disconnect()
    with engine.connect(f"{unique}p") as other:
        other.publish(f"{unique}/one", b"", qos=2)
        other.publish(f"{unique}/two", b"", qos=1)
        other.publish(f"{unique}/two", b"", qos=2)
    with kept() as wire:
        assert [(m.topic[-3:], m.qos) for m in wire.messages(3)] == [("one", 1), ("two", 1), ("two", 2)]


def test_unsubscribing_is_remembered_by_the_session(engine: Engine, unique: str, kept) -> None:
    with kept() as wire:
        wire.subscribe((f"{unique}/a", 1), (f"{unique}/b", 1))
        wire.unsubscribe(f"{unique}/a")
        wire.disconnect()
    with engine.connect(f"{unique}p") as other:
        other.publish(f"{unique}/a", b"no", qos=1)
        other.publish(f"{unique}/b", b"yes", qos=1)
    with kept() as wire:
        assert [m.payload for m in wire.messages(1)] == [b"yes"]
        assert wire.is_quiet()


def test_mqtt_2_3_1_a_packet_identifier_is_free_again_after_its_ack(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire, engine.connect(f"{unique}w") as watcher:
        watcher.subscribe((unique, 1))
        for n in range(5):
            wire.send(p.publish(unique, b"%d" % n, qos=1, pid=1))
            wire.expect(p.PUBACK, 1)
        assert [m.payload for m in watcher.messages(5)] == [b"0", b"1", b"2", b"3", b"4"]


def test_mqtt_2_3_1_4_in_flight_messages_have_distinct_identifiers(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire, engine.connect(f"{unique}p") as other:
        wire.subscribe((unique, 2))
        for n in range(10):
            other.publish(unique, b"x", qos=1 + n % 2)
        pids = [wire.expect(p.PUBLISH).pid for _ in range(10)]
        assert len(set(pids)) == 10
        assert 0 not in pids


def test_an_unknown_ack_does_no_harm(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        wire.send(p.ack(p.PUBACK, 4711))
        assert wire.is_quiet()
        wire.send(p.ack(p.PUBCOMP, 4712))
        assert wire.is_quiet()


def _settle(wire: Wire, count: int) -> set[int]:
    """Receive and acknowledge some messages, then make sure the broker has seen the acknowledgements."""
    got = {int(wire.message().payload) for _ in range(count)}
    wire.backlog()
    return got
