"""MQTT 3.1.1 sections 3.3 to 3.7 and 4.3: PUBLISH, its flags and its handshakes."""

from __future__ import annotations

import pytest

from support import packets as p
from support.deviations import deviates
from support.engines import Engine


def test_mqtt_3_3_1_1_dup_from_a_publisher_is_not_passed_on(engine: Engine, unique: str) -> None:
    """[MQTT-3.3.1-3]: DUP towards a subscriber is set by the delivery, not copied from the publisher."""
    with engine.connect(unique) as wire:
        wire.subscribe((unique, 1))
        wire.send(p.publish(unique, b"x", qos=1, pid=9, dup=True))
        assert not wire.wait_for(lambda m: m.kind == p.PUBLISH).dup


def test_mqtt_3_3_1_4_qos_3_closes_the_connection(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        wire.send(p.frame(0x36, p.text(unique) + p.u16(1)))
        assert wire.is_closed()


@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_mqtt_3_8_4_6_delivery_has_the_lower_of_published_and_granted_qos(
    engine: Engine, unique: str, published: int, granted: int
) -> None:
    with engine.connect(unique) as wire, engine.connect(f"{unique}p") as other:
        assert wire.subscribe((unique, granted)).codes == (granted,)
        other.publish(unique, b"x", qos=published)
        assert wire.message().qos == min(published, granted)


def test_mqtt_3_3_4_1_every_qos_is_answered_as_it_should_be(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        wire.send(
            p.publish(unique, b"0"),
            p.publish(unique, b"1", qos=1, pid=11),
            p.publish(unique, b"2", qos=2, pid=12),
        )
        wire.expect(p.PUBACK, 11)
        wire.expect(p.PUBREC, 12)
        wire.send(p.ack(p.PUBREL, 12))
        wire.expect(p.PUBCOMP, 12)
        assert wire.is_quiet()


def test_mqtt_4_3_3_2_a_repeated_qos_2_publish_is_delivered_once(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire, engine.connect(f"{unique}w") as watcher:
        watcher.subscribe((unique, 0))
        for dup in (False, True):
            wire.send(p.publish(unique, b"x", qos=2, pid=5, dup=dup))
            wire.expect(p.PUBREC, 5)
        wire.send(p.publish(unique, b"x", qos=2, pid=5, dup=True))
        if deviates(engine, "MQTT-4.3.3-2"):
            assert wire.is_closed()
            return
        wire.expect(p.PUBREC, 5)
        wire.send(p.ack(p.PUBREL, 5))
        wire.expect(p.PUBCOMP, 5)
        assert watcher.message().payload == b"x"
        assert watcher.is_quiet()


def test_mqtt_4_3_3_2_a_released_identifier_may_carry_a_new_message(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire, engine.connect(f"{unique}w") as watcher:
        watcher.subscribe((unique, 0))
        for body in (b"one", b"two"):
            wire.send(p.publish(unique, body, qos=2, pid=5))
            wire.expect(p.PUBREC, 5)
            wire.send(p.ack(p.PUBREL, 5))
            wire.expect(p.PUBCOMP, 5)
        assert [m.payload for m in watcher.messages(2)] == [b"one", b"two"]


def test_mqtt_4_3_2_2_a_qos_1_publish_sent_twice_may_be_delivered_twice_but_is_acknowledged_twice(
    engine: Engine, unique: str
) -> None:
    with engine.connect(unique) as wire:
        for dup in (False, True):
            wire.send(p.publish(unique, b"x", qos=1, pid=5, dup=dup))
            wire.expect(p.PUBACK, 5)


def test_mqtt_3_3_2_3_the_delivered_topic_is_the_published_one(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        wire.subscribe(f"{unique}/+/#")
        wire.publish(f"{unique}/Ä/ß/字/😀", b"x", qos=1)
        assert wire.wait_for(lambda m: m.kind == p.PUBLISH).topic == f"{unique}/Ä/ß/字/😀"


def test_a_payload_may_be_empty(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        wire.subscribe((unique, 2))
        for qos in (0, 1, 2):
            wire.publish(unique, b"", qos=qos)
            got = wire.wait_for(lambda m: m.kind == p.PUBLISH)
            wire.answer(got)
            assert (got.payload, got.qos) == (b"", qos)


@pytest.mark.parametrize("size", [1, 127, 128, 16_383, 16_384, 200_000, 1_000_000])
def test_mqtt_2_2_3_remaining_length_of_every_width(engine: Engine, unique: str, size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    with engine.connect(unique) as wire:
        wire.subscribe((unique, 1))
        wire.send(p.publish(unique, body[:size], qos=1, pid=3))
        assert wire.wait_for(lambda m: m.kind == p.PUBLISH).payload == body[:size]


def test_mqtt_3_6_1_1_pubrel_with_wrong_flags_closes(engine: Engine, unique: str) -> None:
    for flags in (0x60, 0x61, 0x63, 0x6A):
        with engine.connect(unique) as wire:
            wire.send(p.publish(unique, b"x", qos=2, pid=5))
            wire.expect(p.PUBREC, 5)
            wire.send(bytes([flags, 2]) + p.u16(5))
            assert wire.is_closed()


def test_mqtt_4_5_0_1_every_matching_session_gets_the_message(engine: Engine, unique: str) -> None:
    wires = [engine.connect(f"{unique}{n}") for n in range(20)]
    for n, wire in enumerate(wires):
        wire.subscribe((unique, n % 3))
    wires[0].send(p.publish(unique, b"all", qos=2, pid=9))
    wires[0].wait_for(lambda m: m.kind == p.PUBREC)
    wires[0].send(p.ack(p.PUBREL, 9))
    for n, wire in enumerate(wires):
        got = wire.wait_for(lambda m: m.kind == p.PUBLISH)
        assert (got.payload, got.qos) == (b"all", n % 3)
        wire.close()
