"""MQTT 5 sections 3.3 to 3.7 and 4.9: properties of messages, aliases, expiry, flow control and reason codes."""

from __future__ import annotations

import time

import pytest

from support import packets as p
from support.deviations import deviates
from support.engines import Engine

RICH = {
    "payload_format": 1,
    "content_type": "application/json",
    "response_topic": "answers/to/me",
    "correlation_data": b"\x00\xff\x01",
    "user_property": [("first", "1"), ("second", "ä"), ("first", "again")],
}


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_3_2_properties_travel_unaltered_and_in_order(engine: Engine, unique: str, qos: int) -> None:
    """[MQTT-3.3.2-4], [MQTT-3.3.2-15..20]"""
    with engine.connect(unique, level=5) as wire, engine.connect(f"{unique}p", level=5) as other:
        wire.subscribe((unique, 2))
        other.publish(unique, b"{}", qos=qos, props=RICH)
        assert wire.message().props == RICH


def test_retained_messages_keep_their_properties(engine: Engine, unique: str) -> None:
    with engine.connect(unique, level=5) as wire, engine.connect(f"{unique}p", level=5) as other:
        other.publish(unique, b"{}", qos=1, retain=True, props=RICH)
        wire.subscribe((unique, 2))
        got = wire.message()
        assert (got.props, got.retain) == (RICH, True)
        other.publish(unique, qos=1, retain=True)


def test_queued_messages_keep_their_properties(engine: Engine, unique: str) -> None:
    keep = {"level": 5, "props": {"session_expiry": 60}}
    with engine.connect(unique, **keep) as wire:
        wire.subscribe((unique, 1))
        wire.disconnect()
    with engine.connect(f"{unique}p", level=5) as other:
        other.publish(unique, b"{}", qos=1, props=RICH)
    with engine.connect(unique, clean=False, level=5) as wire:
        assert wire.message().props == RICH


def test_mqtt_3_3_2_6_the_remaining_message_expiry_is_passed_on(engine: Engine, unique: str) -> None:
    keep = {"level": 5, "props": {"session_expiry": 60}}
    with engine.connect(unique, **keep) as wire:
        wire.subscribe((unique, 1))
        wire.disconnect()
    with engine.connect(f"{unique}p", level=5) as other:
        other.publish(unique, b"short", qos=1, props={"message_expiry": 1})
        other.publish(unique, b"long", qos=1, props={"message_expiry": 100})
        assert not other.is_closed(2.2)
    with engine.connect(unique, clean=False, level=5) as wire:
        got = wire.message()
        assert got.payload == b"long"
        assert 50 <= got.props["message_expiry"] <= 98
        assert wire.is_quiet()


def test_mqtt_3_3_2_5_an_expired_retained_message_is_not_delivered(engine: Engine, unique: str) -> None:
    with engine.connect(f"{unique}p", level=5) as other:
        other.publish(unique, b"short", qos=1, retain=True, props={"message_expiry": 1})
        until = time.monotonic() + 2.2
        with engine.connect(unique) as early:
            early.subscribe(unique)
            assert early.message().payload == b"short"
        assert not other.is_closed(until - time.monotonic())
        for level in (4, 5):
            with engine.connect(unique, level=level) as late:
                late.subscribe(unique)
                assert late.is_quiet()


def test_mqtt_3_3_2_8_topic_aliases_from_a_client(engine: Engine, unique: str) -> None:
    with engine.connect(unique, level=5) as wire, engine.connect(f"{unique}w") as watcher:
        watcher.subscribe(f"{unique}/#")
        highest = wire.connack.props["topic_alias_maximum"]
        for alias, name in ((1, "a"), (highest, "b")):
            wire.publish(f"{unique}/{name}", b"set", props={"topic_alias": alias})
        for qos in (0, 1, 2):
            wire.publish("", b"used", qos=qos, props={"topic_alias": 1})
        wire.publish("", b"used", qos=1, props={"topic_alias": highest})
        wire.publish(f"{unique}/c", b"moved", props={"topic_alias": 1})
        wire.publish("", b"used", qos=1, props={"topic_alias": 1})
        topics = [m.topic[-1] for m in watcher.messages(8)]
        assert topics == ["a", "b", "a", "a", "a", "b", "c", "c"]


def test_mqtt_3_3_2_9_an_alias_above_the_maximum_closes(engine: Engine, unique: str) -> None:
    with engine.connect(unique, level=5) as wire:
        alias = wire.connack.props["topic_alias_maximum"] + 1
        wire.send(p.publish(unique, b"x", level=5, props={"topic_alias": alias}))
        assert wire.expect(p.DISCONNECT).code == 0x94
        assert wire.is_closed()


def test_topic_aliases_end_with_their_connection(engine: Engine, unique: str) -> None:
    with engine.connect(unique, level=5, props={"session_expiry": 60}) as wire:
        wire.publish(unique, b"x", qos=1, props={"topic_alias": 1})
    with engine.connect(unique, level=5, clean=False) as wire:
        wire.send(p.publish("", b"x", level=5, props={"topic_alias": 1}))
        assert wire.is_closed()


def test_mqtt_3_3_4_9_no_more_than_the_receive_maximum_is_in_flight(engine: Engine, unique: str) -> None:
    with (
        engine.connect(unique, level=5, props={"receive_maximum": 3}) as wire,
        engine.connect(f"{unique}p") as other,
    ):
        wire.subscribe((unique, 2))
        for n in range(10):
            other.publish(unique, b"%d" % n, qos=1 + n % 2)
        first = wire.backlog()
        assert [m.payload for m in first] == [b"0", b"1", b"2"]
        wire.answer(first[0])
        expected = [b"3", b"4", b"5"] if deviates(engine, "v5 receive maximum") else [b"3"]
        assert [m.payload for m in wire.backlog()] == expected


def test_qos_0_is_not_held_up_by_the_receive_maximum(engine: Engine, unique: str) -> None:
    with (
        engine.connect(unique, level=5, props={"receive_maximum": 1}) as wire,
        engine.connect(f"{unique}p") as other,
    ):
        wire.subscribe((unique, 1))
        other.publish(unique, b"one", qos=1)
        other.publish(unique, b"two", qos=1)
        other.publish(unique, b"zero", qos=0)
        assert other.is_quiet()
        assert {m.payload for m in wire.backlog()} >= {b"one", b"zero"}


def test_mqtt_3_3_4_7_more_in_flight_than_the_broker_allows_is_answered_with_0x93(
    engine: Engine, unique: str
) -> None:
    with engine.connect(unique, level=5) as wire:
        allowed = wire.connack.props.get("receive_maximum", 65535)
        assert allowed < 65535, "no identifier is left to exceed this with"
        wire.send(*(p.publish(unique, b"", level=5, qos=2, pid=n) for n in range(1, allowed + 2)))
        assert wire.is_closed()
        last = wire.kept[-1]
        expected = (
            (p.PUBREC, 0x97) if deviates(engine, "v5 receive maximum exceeded") else (p.DISCONNECT, 0x93)
        )
        assert (last.kind, last.code) == expected


def test_mqtt_3_1_2_24_a_packet_larger_than_the_client_takes_is_not_sent(engine: Engine, unique: str) -> None:
    """[MQTT-3.1.2-25]: the broker acts as if it had been delivered."""
    with (
        engine.connect(unique, level=5, props={"maximum_packet_size": 200}) as wire,
        engine.connect(f"{unique}p") as other,
    ):
        wire.subscribe((unique, 1))
        for qos in (0, 1):
            other.publish(unique, b"x" * 500, qos=qos)
            other.publish(unique, b"small", qos=qos)
        assert [m.payload for m in wire.messages(2)] == [b"small", b"small"]
        assert wire.is_quiet()


def test_mqtt_4_3_3_unknown_identifiers_get_0x92(engine: Engine, unique: str) -> None:
    with engine.connect(unique, level=5) as wire:
        wire.send(p.ack(p.PUBREL, 4711))
        answer = wire.expect(p.PUBCOMP, 4711)
        expected = 0 if deviates(engine, "v5 unknown identifiers") else 0x92
        assert answer.code == expected
        wire.send(p.ack(p.PUBREC, 4712))
        answer = wire.expect(p.PUBREL, 4712)
        assert answer.code == expected


def test_a_pubrec_with_an_error_ends_the_delivery(engine: Engine, unique: str) -> None:
    with engine.connect(unique, level=5, props={"session_expiry": 60}) as wire:
        wire.subscribe((unique, 2))
        wire.publish(unique, b"x", qos=1)
        wire.publish(unique, b"y", qos=2)
        wire.wait_for(lambda m: m.kind == p.PUBLISH and m.qos == 1)
        refused = wire.wait_for(lambda m: m.kind == p.PUBLISH and m.qos == 2)
        wire.send(p.ack(p.PUBREC, refused.pid, code=0x83))
        assert wire.is_quiet()
    with engine.connect(unique, level=5, clean=False) as wire:
        assert [m.payload for m in wire.backlog()] == [b"x"]


def test_acks_of_version_5_may_carry_code_and_properties(engine: Engine, unique: str) -> None:
    with engine.connect(unique, level=5) as wire:
        wire.subscribe((unique, 2))
        pid = 9
        wire.send(p.publish(unique, b"x", qos=2, pid=pid, level=5))
        wire.wait_for(lambda m: m.kind == p.PUBREC)
        wire.send(p.ack(p.PUBREL, pid, props={"user_property": ("why", "not")}))
        wire.wait_for(lambda m: m.kind == p.PUBCOMP)
        got = wire.wait_for(lambda m: m.kind == p.PUBLISH)
        wire.send(p.ack(p.PUBREC, got.pid, props={"reason_string": "fine"}))
        wire.wait_for(lambda m: m.kind == p.PUBREL)
        wire.send(p.ack(p.PUBCOMP, got.pid, props={"reason_string": "fine"}))
        assert wire.is_quiet()


def test_publishing_to_nobody_is_a_success(engine: Engine, unique: str) -> None:
    with engine.connect(unique, level=5) as wire:
        for qos in (1, 2):
            answer = wire.publish(f"{unique}/nobody", b"x", qos=qos)
            assert answer is not None
            assert answer.code in {0, 0x10}
