"""MQTT 3.1.1: the numbered statements that bind a server and that no other module here is named after.

Left out are those that bind only the client (2.3.1-2, 2.3.1-3, 3.1.2-23, 3.1.3-7, 3.14.4-1, 3.14.4-2, 4.5.0-2, 6.0.0-3).
Section 6, WebSocket, is in tests/integration/test_embedded_listeners.py.
"""

from __future__ import annotations

import pytest

from support import packets as p
from support.engines import Engine
from support.wire import Will, Wire, rejected


def test_mqtt_1_5_3_2_a_null_character_in_any_string_closes_the_connection(
    engine: Engine, unique: str
) -> None:
    for raw in (
        p.publish("a\0b"),
        p.subscribe([("a\0b", 0)]),
        p.unsubscribe(["a\0b"]),
    ):
        with engine.connect(unique) as wire:
            wire.send(raw)
            assert wire.is_closed()


def test_mqtt_2_2_2_1_every_packet_from_the_broker_has_the_flags_of_the_table(
    engine: Engine, unique: str
) -> None:
    with engine.connect(unique) as wire:
        wire.subscribe((unique, 2))
        wire.send(p.publish(unique, b"x", qos=2, pid=7), p.publish(unique, b"x", qos=1, pid=8), p.PING)
        wire.send(p.unsubscribe([f"{unique}/other"], pid=9), p.ack(p.PUBREL, 7))
        seen = {wire.connack.kind: wire.connack.flags, p.SUBACK: 0}
        while len(seen) < 8:
            packet = wire.receive()
            if packet.kind == p.PUBLISH:
                wire.send(p.ack(p.PUBREC if packet.qos == 2 else p.PUBACK, packet.pid))
            else:
                seen[packet.kind] = packet.flags
        assert seen.pop(p.PUBREL) == 2
        assert set(seen.values()) == {0}


@pytest.mark.parametrize("first", [0x83, 0xA3, 0x60], ids=["SUBSCRIBE", "UNSUBSCRIBE", "PUBREL"])
def test_mqtt_2_2_2_2_wrong_flags_close_the_connection(engine: Engine, unique: str, first: int) -> None:
    with engine.connect(unique) as wire:
        wire.send(p.frame(first, p.u16(1) + p.text("a") + (b"\0" if first == 0x83 else b"")))
        assert wire.is_closed()


@pytest.mark.parametrize(
    "raw",
    [p.subscribe([("a", 0)], pid=0), p.unsubscribe(["a"], pid=0), p.publish("a", b"x", qos=1, pid=0)],
    ids=["SUBSCRIBE", "UNSUBSCRIBE", "PUBLISH"],
)
def test_mqtt_2_3_1_1_an_identifier_of_zero_is_malformed(engine: Engine, unique: str, raw: bytes) -> None:
    with engine.connect(unique) as wire:
        wire.send(raw)
        assert wire.is_closed()


def test_mqtt_2_3_1_5_and_4_3_1_1_a_qos_0_publish_has_no_identifier_and_no_dup(
    engine: Engine, unique: str
) -> None:
    """MQTT-2.3.1-5, MQTT-3.3.1-2, MQTT-3.3.2-1, MQTT-4.3.1-1: the bytes are known to the last one."""
    with engine.connect(unique) as wire:
        wire.subscribe((unique, 0))
        wire.publish(unique, b"payload", qos=1)
        message = wire.message()
        assert (message.flags, message.pid, message.topic) == (0, 0, unique)
        assert message.payload == b"payload"  # an identifier would stand in front of it


@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt_2_3_1_6_acknowledgements_carry_the_identifier_of_the_publish(
    engine: Engine, unique: str, qos: int
) -> None:
    with engine.connect(unique) as wire:
        for pid in (1, 300, 65_535):
            wire.send(p.publish(unique, b"x", qos=qos, pid=pid))
            wire.expect(p.PUBACK if qos == 1 else p.PUBREC, pid)
            if qos == 2:
                wire.send(p.ack(p.PUBREL, pid))
                wire.expect(p.PUBCOMP, pid)


def test_mqtt_2_3_1_7_suback_and_unsuback_carry_the_identifier_of_their_request(
    engine: Engine, unique: str
) -> None:
    with engine.connect(unique) as wire:
        for pid in (1, 300, 65_535):
            wire.send(p.subscribe([(unique, 0)], pid=pid), p.unsubscribe([unique], pid=pid))
            wire.expect(p.SUBACK, pid)
            wire.expect(p.UNSUBACK, pid)


def test_mqtt_3_1_2_12_without_a_will_nothing_is_published_when_the_connection_breaks(
    engine: Engine, unique: str
) -> None:
    with engine.connect(f"{unique}w") as watch:
        watch.subscribe(f"{unique}/#")
        engine.connect(unique, will=Will(f"{unique}/will")).close()
        assert watch.message().payload == b"gone"
        with engine.connect(unique) as wire:
            wire.reset()
        engine.connect(unique).disconnect()  # so that the broker has noticed
        assert watch.is_quiet()


@pytest.mark.parametrize(
    "raw",
    [
        p.connect("abc", flags=0x0A),
        p.connect("abc", flags=0x12),
        p.connect("abc", flags=0x22),
    ],
    ids=["3.1.2-13 QoS 1", "3.1.2-13 QoS 2", "3.1.2-15 retain"],
)
def test_mqtt_3_1_2_13_and_3_1_2_15_will_flags_without_a_will_are_malformed(
    engine: Engine, raw: bytes
) -> None:
    assert rejected(engine.address, raw) is None


@pytest.mark.parametrize(
    ("flags", "rest"),
    [(0x02, p.text("user")), (0x82, p.text("user") + p.data(b"password"))],
    ids=["3.1.2-18 user name", "3.1.2-20 password"],
)
def test_mqtt_3_1_2_18_and_3_1_2_20_fields_whose_flag_is_not_set_are_malformed(
    engine: Engine, unique: str, flags: int, rest: bytes
) -> None:
    head = p.text("MQTT") + bytes((4, flags)) + p.u16(60)
    answer = rejected(engine.address, p.frame(0x10, head + p.text(unique) + rest))
    assert answer is None or answer.code != 0


def test_mqtt_3_1_3_2_and_3_1_4_3_the_client_id_alone_tells_whose_state_it_is(
    engine: Engine, unique: str
) -> None:
    with engine.connect(unique, clean=False) as wire:
        wire.subscribe((unique, 1))
        wire.disconnect()
    with engine.connect(f"{unique}o") as other:
        other.publish(unique, b"x", qos=1)
    with engine.connect(unique.upper(), clean=False) as other:
        assert not other.connack.session_present
        assert other.is_quiet()
    with engine.connect(unique, clean=False, keepalive=7) as wire:
        assert wire.connack.session_present
        assert wire.message().payload == b"x"
    for number in range(2):
        with engine.connect(unique) as wire:
            assert not wire.connack.session_present, number


@pytest.mark.parametrize("body", [b"", b"\0", p.u16(9) + b"abc"], ids=["none", "half a length", "cut"])
def test_mqtt_3_1_3_3_connect_needs_a_client_id_first(engine: Engine, body: bytes) -> None:
    raw = p.frame(0x10, p.text("MQTT") + bytes((4, 2)) + p.u16(60) + body)
    assert rejected(engine.address, raw) is None


def test_mqtt_3_1_3_9_and_3_2_2_4_and_3_2_2_5_a_refused_id_gets_code_2_without_a_session_and_is_closed(
    engine: Engine,
) -> None:
    answer = rejected(engine.address, p.connect("", clean=False))
    assert answer is not None
    assert (answer.kind, answer.code, answer.session_present) == (p.CONNACK, 2, False)


def test_mqtt_3_2_2_3_a_kept_session_that_does_not_exist_is_not_present(engine: Engine, unique: str) -> None:
    with engine.connect(unique, clean=False) as wire:
        assert not wire.connack.session_present
        wire.disconnect()
    engine.connect(unique).disconnect()


def test_mqtt_3_2_2_6_what_no_return_code_stands_for_is_closed_without_connack(engine: Engine) -> None:
    assert rejected(engine.address, p.connect("abc", will=Will("w"), flags=0x1E)) is None


def test_mqtt_3_3_1_8_a_retained_message_that_a_subscription_brings_has_the_flag(
    engine: Engine, unique: str
) -> None:
    with engine.connect(unique) as wire:
        wire.publish(unique, b"x", qos=1, retain=True)
        wire.subscribe((f"{unique}/#", 1))
        assert wire.message().retain
        wire.publish(unique, b"", qos=1, retain=True)


def test_mqtt_3_8_3_2_filters_with_wildcards_are_supported(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        assert wire.subscribe((f"{unique}/+/x", 1), (f"{unique}/#", 0)).codes == (1, 0)
        wire.publish(f"{unique}/a/x", b"x", qos=1)
        assert wire.backlog()


def test_mqtt_3_8_4_1_and_3_9_3_subscribe_is_answered_with_codes_in_order_and_of_the_table(
    engine: Engine, unique: str
) -> None:
    """MQTT-3.8.4-1, MQTT-3.9.3-1, MQTT-3.9.3-2."""
    with engine.connect(unique) as wire:
        wanted = [(f"{unique}/{n}", n % 3) for n in range(9)]
        wire.send(p.subscribe(wanted, pid=5))
        assert wire.expect(p.SUBACK, 5).codes == tuple(qos for _, qos in wanted)


def test_mqtt_4_1_0_2_a_session_lasts_as_long_as_its_connection(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire, engine.connect(f"{unique}p") as other:
        wire.subscribe((unique, 1))
        for number in range(3):
            other.publish(unique, b"%d" % number, qos=1)
            assert wire.message().payload == b"%d" % number


@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt_4_3_2_1_and_4_3_3_1_what_is_sent_first_has_no_dup_and_an_identifier_of_its_own(
    engine: Engine, unique: str, qos: int
) -> None:
    with engine.connect(unique) as wire, engine.connect(f"{unique}p") as other:
        wire.subscribe((unique, qos))
        for _ in range(5):
            other.publish(unique, b"x", qos=qos)
        sent = wire.backlog()
        assert [(packet.qos, packet.dup) for packet in sent] == [(qos, False)] * 5
        assert len({packet.pid for packet in sent} - {0}) == 5
        if qos == 1:
            return
        for packet in sent:  # PUBREL has the identifier; the PUBLISH does not come again
            wire.send(p.ack(p.PUBREC, packet.pid))
            wire.expect(p.PUBREL, packet.pid)
            wire.send(p.ack(p.PUBREC, packet.pid))
            assert {each.kind for each in wire.backlog()} <= {p.PUBREL}


def test_mqtt_4_6_0_5_every_topic_is_ordered(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire, engine.connect(f"{unique}p") as other:
        wire.subscribe((f"{unique}/+", 1))
        for number in range(200):
            other.send(p.publish(f"{unique}/{number % 2}", b"%d" % number, qos=1, pid=number + 1))
        got = wire.messages(200)
        for topic in (f"{unique}/0", f"{unique}/1"):
            numbers = [int(message.payload) for message in got if message.topic == topic]
            assert numbers == sorted(numbers)
            assert len(numbers) == 100


@pytest.mark.parametrize("topic", ["a/+", "+", "#", "a/#", "a+", "a#"])
def test_mqtt_4_7_1_1_a_topic_name_has_no_wildcard(engine: Engine, unique: str, topic: str) -> None:
    with Wire(engine.address) as wire:
        assert wire.connect(unique).code == 0
        wire.send(p.publish(topic, b"x", qos=1, pid=1))
        assert wire.is_closed()
