"""MQTT 3.1.1 sections 3.8 to 3.11: SUBSCRIBE and UNSUBSCRIBE."""

from __future__ import annotations

import functools
import operator

import pytest

from support import packets as p
from support.deviations import deviates
from support.engines import Engine


@pytest.mark.parametrize("first", [0x80, 0x81, 0x83, 0x8A])
def test_mqtt_3_8_1_1_subscribe_with_wrong_flags_closes(engine: Engine, unique: str, first: int) -> None:
    with engine.connect(unique) as wire:
        wire.send(bytes([first]) + p.subscribe([(unique, 0)])[1:])
        assert wire.is_closed()


def test_mqtt_3_8_3_1_the_filter_has_to_be_utf8(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        wire.send(p.subscribe([(b"\xff\xff", 0)]))
        assert wire.is_closed()


def test_mqtt_3_8_3_3_subscribe_needs_a_filter(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        wire.send(p.subscribe([]))
        assert wire.is_closed()


@pytest.mark.parametrize("options", [3, 4, 0x80, 0xFF])
def test_mqtt_3_8_3_4_reserved_bits_in_the_qos_byte_close(engine: Engine, unique: str, options: int) -> None:
    with engine.connect(unique) as wire:
        wire.send(p.subscribe([(unique, options)]))
        assert wire.is_closed()


def test_mqtt_3_8_4_2_suback_repeats_the_identifier(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        for pid in (1, 256, 65535):
            wire.send(p.subscribe([(unique, 0)], pid=pid))
            wire.expect(p.SUBACK, pid)


def test_mqtt_3_8_4_5_suback_has_one_code_for_each_filter_in_order(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        wanted = [(f"{unique}/{n}", n % 3) for n in range(20)]
        assert wire.subscribe(*wanted).codes == tuple(n % 3 for n in range(20))


def test_mqtt_3_8_4_3_an_identical_filter_replaces_the_subscription(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire, engine.connect(f"{unique}p") as other:
        for qos in (2, 0, 1):
            wire.subscribe((f"{unique}/+", qos))
            other.publish(f"{unique}/a", b"x", qos=2)
            assert wire.message().qos == qos
            assert wire.is_quiet()


def test_mqtt_3_8_4_4_several_filters_are_handled_as_if_sent_one_by_one(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire, engine.connect(f"{unique}p") as other:
        wire.subscribe((unique, 0), (unique, 2), (unique, 1))
        other.publish(unique, b"x", qos=2)
        assert wire.message().qos == 1
        assert wire.is_quiet()


@pytest.mark.parametrize("published", [0, 1, 2])
def test_mqtt_3_3_5_1_overlapping_subscriptions_use_the_highest_qos(
    engine: Engine, unique: str, published: int
) -> None:
    with engine.connect(unique) as wire, engine.connect(f"{unique}p") as other:
        wire.subscribe((f"{unique}/a", 0), (f"{unique}/+", 2), (f"{unique}/#", 1))
        other.publish(f"{unique}/a", b"x", qos=published)
        highest = 0 if deviates(engine, "MQTT-3.3.5-1") else published
        assert wire.message().qos == highest
        assert wire.is_quiet()


@pytest.mark.parametrize("first", [0xA0, 0xA1, 0xA3, 0xAA])
def test_mqtt_3_10_1_1_unsubscribe_with_wrong_flags_closes(engine: Engine, unique: str, first: int) -> None:
    with engine.connect(unique) as wire:
        wire.send(bytes([first]) + p.unsubscribe([unique])[1:])
        assert wire.is_closed()


def test_mqtt_3_10_3_1_the_filter_to_unsubscribe_has_to_be_utf8(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        wire.send(p.unsubscribe([b"\xff\xff"]))
        assert wire.is_closed()


def test_mqtt_3_10_3_2_unsubscribe_needs_a_filter(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        wire.send(p.unsubscribe([]))
        assert wire.is_closed()


def test_mqtt_3_10_4_1_filters_are_compared_character_by_character(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        wire.subscribe(f"{unique}/a")
        wire.unsubscribe(f"{unique}/+", f"{unique}/#", f"{unique}/A", f"{unique}/a/", f"{unique}")
        wire.publish(f"{unique}/a", b"still", qos=1)
        assert wire.wait_for(lambda m: m.kind == p.PUBLISH).payload == b"still"


def test_mqtt_3_10_4_2_nothing_new_comes_after_unsubscribe(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        wire.subscribe((unique, 1))
        wire.unsubscribe(unique)
        wire.publish(unique, b"x", qos=1)
        assert wire.is_quiet()


def test_mqtt_3_10_4_3_deliveries_under_way_are_completed(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire, engine.connect(f"{unique}p") as other:
        wire.subscribe((unique, 2))
        other.publish(unique, b"x", qos=2)
        message = wire.expect(p.PUBLISH)
        wire.unsubscribe(unique)
        wire.send(p.ack(p.PUBREC, message.pid))
        wire.expect(p.PUBREL, message.pid)
        wire.send(p.ack(p.PUBCOMP, message.pid))
        assert wire.is_quiet()


def test_mqtt_3_10_4_4_unsuback_repeats_the_identifier(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        wire.send(p.unsubscribe([unique], pid=4242))
        wire.expect(p.UNSUBACK, 4242)


def test_mqtt_3_10_4_5_unsubscribing_from_nothing_is_acknowledged(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        assert wire.unsubscribe(f"{unique}/never", f"{unique}/nor/this").kind == p.UNSUBACK


def test_mqtt_3_10_4_6_all_filters_of_one_unsubscribe_are_removed(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        wire.subscribe(f"{unique}/a", f"{unique}/b", f"{unique}/c")
        wire.unsubscribe(f"{unique}/a", f"{unique}/c")
        for last in "abc":
            wire.publish(f"{unique}/{last}", b"x", qos=1)
        assert [m.topic for m in wire.backlog() if m.kind == p.PUBLISH] == [f"{unique}/b"]


def test_subscriptions_of_a_clean_session_end_with_it(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        wire.subscribe((unique, 1))
    with engine.connect(unique) as wire:
        wire.publish(unique, b"x", qos=1)
        assert wire.is_quiet()


def test_thousand_filters_in_one_subscribe(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        wanted = [(f"{unique}/{n}/+", 1) for n in range(1000)]
        assert wire.subscribe(*wanted).codes == (1,) * 1000
        wire.publish(f"{unique}/999/x", b"x", qos=1)
        assert wire.wait_for(lambda m: m.kind == p.PUBLISH).topic == f"{unique}/999/x"


def test_shared_subscriptions_work_for_3_1_1_clients(engine: Engine, unique: str) -> None:
    members = [engine.connect(f"{unique}{n}") for n in range(3)]
    for wire in members:
        assert wire.subscribe((f"$share/g/{unique}/#", 1)).codes == (1,)
    with engine.connect(f"{unique}p") as other, engine.connect(f"{unique}o") as ordinary:
        ordinary.subscribe((f"{unique}/#", 0))
        for n in range(30):
            other.publish(f"{unique}/{n}", b"%d" % n, qos=1)
        shares = [[int(m.payload) for m in wire.backlog()] for wire in members]
        assert sorted(functools.reduce(operator.iadd, shares, [])) == list(range(30))
        assert all(shares)
        assert len(ordinary.backlog()) == 30
    for wire in members:
        wire.close()
