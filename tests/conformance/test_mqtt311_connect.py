"""MQTT 3.1.1 sections 3.1, 3.2, 3.12 and 3.14: opening, keeping and closing a connection."""

from __future__ import annotations

import pytest

from support import packets as p
from support.engines import Engine
from support.wire import Closed, Will, Wire, connect, rejected

LETTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def test_mqtt_3_1_0_1_the_first_packet_has_to_be_connect(engine: Engine) -> None:
    for first in (p.PING, p.publish("a", b"x"), p.subscribe([("a", 0)]), p.disconnect()):
        assert rejected(engine.address, first) is None


def test_mqtt_3_1_0_2_a_second_connect_closes_the_connection(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        wire.send(p.connect(unique))
        assert wire.is_closed()


def test_mqtt_3_1_2_1_a_wrong_protocol_name_is_not_served(engine: Engine, unique: str) -> None:
    rejected(engine.address, p.connect(unique, protocol="MQTX"))
    rejected(engine.address, p.connect(unique, protocol=""))


def test_mqtt_3_1_2_2_an_unknown_protocol_level_gets_code_1_and_is_closed(
    engine: Engine, unique: str
) -> None:
    for level in (0, 6, 127):
        answer = rejected(engine.address, p.connect(unique, level=level))
        assert answer is not None
        assert (answer.kind, answer.code) == (p.CONNACK, 1)


def test_mqtt_3_1_2_3_the_reserved_connect_flag_has_to_be_zero(engine: Engine, unique: str) -> None:
    rejected(engine.address, p.connect(unique, flags=0b11))


def test_mqtt_3_1_2_4_a_kept_session_is_resumed_with_its_subscriptions(engine: Engine, unique: str) -> None:
    with engine.connect(unique, clean=False) as wire:
        wire.subscribe((f"{unique}/a", 1))
        wire.disconnect()
    with engine.connect(unique, clean=False) as wire, engine.connect(f"{unique}p") as other:
        assert wire.connack.session_present
        other.publish(f"{unique}/a", b"x", qos=1)
        assert wire.message().payload == b"x"
    _forget(engine, unique)


def test_mqtt_3_1_2_5_qos_1_and_2_messages_are_kept_for_an_absent_session(
    engine: Engine, unique: str
) -> None:
    with engine.connect(unique, clean=False) as wire:
        wire.subscribe((f"{unique}/#", 2))
        wire.disconnect()
    with engine.connect(f"{unique}p") as other:
        for qos in (1, 2):
            other.publish(f"{unique}/{qos}", b"kept", qos=qos)
    with engine.connect(unique, clean=False) as wire:
        got = wire.messages(2)
        assert [(m.topic, m.qos, m.retain) for m in got] == [
            (f"{unique}/1", 1, False),
            (f"{unique}/2", 2, False),
        ]
        assert wire.is_quiet()
    _forget(engine, unique)


def test_mqtt_3_1_2_6_clean_session_discards_what_was_kept(engine: Engine, unique: str) -> None:
    with engine.connect(unique, clean=False) as wire:
        wire.subscribe((f"{unique}/#", 1))
        wire.disconnect()
    with engine.connect(f"{unique}p") as other:
        other.publish(f"{unique}/a", b"x", qos=1)
        with engine.connect(unique) as wire:
            assert not wire.connack.session_present
            other.publish(f"{unique}/a", b"y", qos=1)
            assert wire.is_quiet()
            wire.disconnect()
        with engine.connect(unique, clean=False) as wire:  # the clean one was not kept either
            assert not wire.connack.session_present
            assert wire.is_quiet()
    _forget(engine, unique)


def test_mqtt_3_1_2_7_retained_messages_outlive_the_session_that_sent_them(
    engine: Engine, unique: str
) -> None:
    with engine.connect(unique) as wire:
        wire.publish(f"{unique}/r", b"stays", qos=1, retain=True)
        wire.disconnect()
    with engine.connect(f"{unique}s") as wire:
        wire.subscribe(f"{unique}/r")
        assert wire.message().payload == b"stays"
        wire.publish(f"{unique}/r", retain=True, qos=1)


@pytest.mark.parametrize("flags", [0b0000_1010, 0b0001_0010, 0b0010_0010])
def test_mqtt_3_1_2_11_will_qos_and_retain_need_the_will_flag(
    engine: Engine, unique: str, flags: int
) -> None:
    rejected(engine.address, p.connect(unique, flags=flags))


def test_mqtt_3_1_2_9_a_will_flag_needs_topic_and_message(engine: Engine, unique: str) -> None:
    rejected(engine.address, p.connect(unique, flags=0b110))


def test_mqtt_3_1_2_14_a_will_of_qos_3_is_refused(engine: Engine, unique: str) -> None:
    rejected(engine.address, p.connect(unique, will=Will("w"), flags=0b0001_1110))


def test_mqtt_3_1_2_19_a_user_name_flag_needs_a_user_name(engine: Engine, unique: str) -> None:
    rejected(engine.address, p.connect(unique, flags=0b1000_0010))


def test_mqtt_3_1_2_21_a_password_flag_needs_a_password(engine: Engine, unique: str) -> None:
    rejected(engine.address, p.connect(unique, username="someone", flags=0b1100_0010))


def test_mqtt_3_1_2_22_a_password_without_a_user_name_is_refused(engine: Engine, unique: str) -> None:
    rejected(engine.address, p.connect(unique, password="secret"))


def test_mqtt_3_1_3_1_payload_fields_come_in_their_order(engine: Engine, unique: str) -> None:
    will = Will(f"{unique}/w", b"will message", qos=1)
    with engine.connect(f"{unique}w") as watcher:
        watcher.subscribe(f"{unique}/#")
        connect(engine.address, unique, will=will, username="user", password="word").close()
        got = watcher.message()
        assert (got.topic, got.payload) == (will.topic, will.payload)


def test_mqtt_3_1_3_5_ids_of_1_to_23_letters_and_digits_are_allowed(engine: Engine) -> None:
    for client_id in ("Z", LETTERS[:23], LETTERS[23:46], LETTERS[39:]):
        with engine.connect(client_id) as wire:
            assert wire.is_quiet()


def test_mqtt_3_1_3_6_zero_length_ids_are_distinct_clients_when_clean(engine: Engine, unique: str) -> None:
    with engine.connect("") as one, engine.connect("") as two:
        one.subscribe(unique)
        two.publish(unique, b"x", qos=1)
        assert one.message().payload == b"x"
        assert two.is_quiet()


def test_mqtt_3_1_3_8_a_zero_length_id_with_a_kept_session_gets_code_2_and_is_closed(engine: Engine) -> None:
    answer = rejected(engine.address, p.connect("", clean=False))
    assert answer is not None
    assert (answer.kind, answer.code, answer.session_present) == (p.CONNACK, 2, False)


def test_mqtt_3_1_3_4_the_client_id_has_to_be_utf8(engine: Engine) -> None:
    rejected(engine.address, p.connect(b"\xff\xfe"))


def test_mqtt_3_1_3_10_the_will_topic_has_to_be_utf8(engine: Engine, unique: str) -> None:
    body = p.text("MQTT") + b"\x04\x06" + p.u16(60) + p.text(unique) + p.text(b"\xc0\x80") + p.data(b"x")
    rejected(engine.address, p.frame(0x10, body))


def test_mqtt_3_1_3_11_the_user_name_has_to_be_utf8(engine: Engine, unique: str) -> None:
    body = p.text("MQTT") + b"\x04\x82" + p.u16(60) + p.text(unique) + p.text(b"\xff")
    rejected(engine.address, p.frame(0x10, body))


def test_mqtt_3_1_4_1_bytes_after_the_last_connect_field_are_malformed(engine: Engine, unique: str) -> None:
    rejected(engine.address, p.frame(0x10, p.connect(unique)[2:] + b"surplus"))


def test_mqtt_3_1_4_2_a_second_client_with_the_same_id_takes_over(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as old, engine.connect(unique) as new:
        assert old.is_closed()
        new.subscribe(unique)
        new.publish(unique, b"mine", qos=1)
        assert new.wait_for(lambda m: m.kind == p.PUBLISH).payload == b"mine"


def test_mqtt_3_1_4_2_a_take_over_keeps_the_persistent_session(engine: Engine, unique: str) -> None:
    with engine.connect(unique, clean=False) as old, engine.connect(f"{unique}p") as other:
        old.subscribe((unique, 1))
        with engine.connect(unique, clean=False) as new:
            assert old.is_closed()
            assert new.connack.session_present
            other.publish(unique, b"x", qos=1)
            assert new.message().payload == b"x"
    _forget(engine, unique)


def test_mqtt_3_1_4_4_an_accepted_connect_is_answered_with_code_0(engine: Engine, unique: str) -> None:
    with Wire(engine.address) as wire:
        wire.send(p.connect(unique))
        raw = wire.socket.recv(4)
        assert raw == b"\x20\x02\x00\x00"


def test_mqtt_3_1_4_5_nothing_after_a_rejected_connect_is_processed(engine: Engine, unique: str) -> None:
    with engine.connect(f"{unique}w") as watcher:
        watcher.subscribe(f"{unique}/#")
        rejected(engine.address, p.connect("", clean=False) + p.publish(f"{unique}/evil", b"x"))
        rejected(engine.address, p.connect(unique, flags=3) + p.publish(f"{unique}/evil", b"x"))
        assert watcher.is_quiet()


def test_mqtt_3_2_0_1_connack_is_the_first_packet_even_with_a_pipelined_client(
    engine: Engine, unique: str
) -> None:
    with Wire(engine.address) as wire:
        wire.send(
            p.connect(unique),
            p.subscribe([(unique, 1)], pid=7),
            p.publish(unique, b"x", qos=1, pid=8),
            p.PING,
        )
        assert wire.receive().kind == p.CONNACK
        kinds = sorted(wire.receive().kind for _ in range(4))
        assert kinds == [p.PUBLISH, p.PUBACK, p.SUBACK, p.PINGRESP]


def test_mqtt_3_2_2_1_a_clean_session_is_never_present(engine: Engine, unique: str) -> None:
    with engine.connect(unique, clean=False) as wire:
        wire.disconnect()
    with engine.connect(unique, clean=True) as wire:
        assert not wire.connack.session_present


def test_mqtt_3_2_2_2_session_present_tells_whether_the_broker_kept_one(engine: Engine, unique: str) -> None:
    with engine.connect(unique, clean=False) as wire:
        assert not wire.connack.session_present
    with engine.connect(unique, clean=False) as wire:
        assert wire.connack.session_present
    _forget(engine, unique)


def test_mqtt_3_12_4_1_every_pingreq_is_answered(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        wire.send(p.PING * 5)
        assert [wire.receive().kind for _ in range(5)] == [p.PINGRESP] * 5


def test_mqtt_3_14_4_the_broker_closes_after_disconnect_and_ignores_what_follows(
    engine: Engine, unique: str
) -> None:
    with engine.connect(f"{unique}w") as watcher, engine.connect(unique) as wire:
        watcher.subscribe(f"{unique}/#")
        wire.send(p.publish(f"{unique}/before", b"x"), p.disconnect(), p.publish(f"{unique}/after", b"x"))
        assert wire.is_closed()
        assert watcher.message().topic == f"{unique}/before"
        assert watcher.is_quiet()


def test_mqtt_3_14_1_1_disconnect_with_reserved_bits_is_a_violation_so_the_will_stands(
    engine: Engine, unique: str
) -> None:
    with engine.connect(f"{unique}w") as watcher, engine.connect(unique, will=Will(unique)) as wire:
        watcher.subscribe(unique)
        wire.send(b"\xe1\x00")
        assert wire.is_closed()
        assert watcher.message().payload == b"gone"


def test_mqtt_4_8_0_2_a_closed_connection_leaves_the_others_alone(engine: Engine, unique: str) -> None:
    with engine.connect(f"{unique}w") as watcher:
        watcher.subscribe(unique)
        with engine.connect(unique) as wire:
            wire.send(b"\xff" * 64)
            with pytest.raises(Closed):
                wire.receive()
        watcher.publish(unique, b"alive", qos=1)
        assert watcher.wait_for(lambda m: m.kind == p.PUBLISH).payload == b"alive"


def test_packets_may_arrive_one_byte_at_a_time(engine: Engine, unique: str) -> None:
    with Wire(engine.address) as wire:
        raw = (
            p.connect(unique)
            + p.subscribe([(unique, 1)], pid=3)
            + p.publish(unique, b"drip" * 50, qos=1, pid=4)
        )
        for at in range(len(raw)):
            wire.send(raw[at : at + 1])
        assert wire.receive().kind == p.CONNACK
        assert wire.wait_for(lambda m: m.kind == p.PUBLISH).payload == b"drip" * 50


def _forget(engine: Engine, client_id: str) -> None:
    """Leave no kept session behind for the tests that follow."""
    with engine.connect(client_id) as wire:
        wire.disconnect()
