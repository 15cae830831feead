"""MQTT 5 sections 3.1, 3.2, 3.14 and 4.13: connecting, reason codes, and what the broker says about itself."""

from __future__ import annotations

import time

import pytest

from support import packets as p
from support.deviations import deviates
from support.engines import Engine
from support.wire import Will, Wire, rejected

MALFORMED, PROTOCOL_ERROR = 0x81, 0x82


def test_connack_carries_the_brokers_limits_and_features(engine: Engine, unique: str) -> None:
    """What is not supported is said, never ignored; what may be absent has the standard's default."""
    with engine.connect(unique, level=5) as wire:
        said = wire.connack.props
        assert said.get("receive_maximum", 65535) > 0
        assert said.get("topic_alias_maximum", 0) > 0
        assert said.get("maximum_qos", 2) == 2
        for feature in ("retain", "wildcard_subscription", "shared_subscription", "subscription_identifier"):
            assert said.get(f"{feature}_available", 1) == 1, feature
        assert "assigned_client_id" not in said


def test_mqtt_3_1_3_6_an_empty_id_is_assigned_one(engine: Engine) -> None:
    """[MQTT-3.1.3-6], [MQTT-3.1.3-7]"""
    with engine.connect("", level=5) as one, engine.connect("", level=5) as two:
        ids = {wire.connack.props["assigned_client_id"] for wire in (one, two)}
        assert len(ids) == 2
        assert all(ids)


def test_mqtt_3_1_3_7_an_assigned_id_can_be_used_to_come_back(engine: Engine) -> None:
    with engine.connect("", level=5, props={"session_expiry": 60}) as wire:
        mine = wire.connack.props["assigned_client_id"]
    with engine.connect(mine, level=5, clean=False) as wire:
        assert wire.connack.session_present


def test_mqtt_3_1_2_2_an_unknown_version_gets_0x84(engine: Engine, unique: str) -> None:
    """The answer may be in the old or the new form: 1, or 0x84."""
    with Wire(engine.address) as wire:
        wire.send(p.connect(unique, level=7))
        assert wire.receive().code in {1, 0x84}
        assert wire.is_closed()


def test_mqtt_3_1_2_4_clean_start_discards_the_session(engine: Engine, unique: str) -> None:
    with engine.connect(unique, level=5, props={"session_expiry": 60}) as wire:
        wire.subscribe((unique, 1))
        wire.disconnect()
    with engine.connect(unique, level=5, clean=True) as wire:
        assert not wire.connack.session_present
        wire.publish(unique, b"x", qos=1)
        assert wire.is_quiet()


def test_clean_start_and_session_expiry_are_two_things(engine: Engine, unique: str) -> None:
    """A clean start with an expiry is kept; clean start off without expiry is not."""
    with engine.connect(unique, level=5, clean=True, props={"session_expiry": 60}) as wire:
        wire.disconnect()
    with engine.connect(unique, level=5, clean=False) as wire:
        assert wire.connack.session_present
        wire.disconnect()
    with engine.connect(unique, level=5, clean=False) as wire:
        assert not wire.connack.session_present


def test_mqtt_3_1_2_23_a_session_ends_when_its_expiry_has_passed(engine: Engine, unique: str) -> None:
    with engine.connect(unique, level=5, props={"session_expiry": 1}) as wire:
        wire.subscribe((unique, 1))
    with engine.connect(f"{unique}w") as clock:
        assert not clock.is_closed(2.6)
    with engine.connect(unique, level=5, clean=False) as wire:
        assert not wire.connack.session_present


def test_mqtt_3_14_2_session_expiry_may_be_changed_at_disconnect(engine: Engine, unique: str) -> None:
    with engine.connect(unique, level=5, props={"session_expiry": 60}) as wire:
        wire.disconnect(0, {"session_expiry": 0})
    with engine.connect(unique, level=5, clean=False) as wire:
        assert not wire.connack.session_present


def test_mqtt_3_14_2_2_a_session_that_was_not_to_be_kept_cannot_be_extended(
    engine: Engine, unique: str
) -> None:
    with engine.connect(unique, level=5) as wire:
        wire.send(p.disconnect(0, {"session_expiry": 60}))
        assert wire.is_closed()
        assert wire.receive().code == PROTOCOL_ERROR


def test_mqtt_3_1_2_25_keep_alive_may_be_set_by_the_server(engine: Engine, unique: str) -> None:
    """When the broker enforces another keep-alive it has to say so."""
    with engine.connect(unique, level=5, keepalive=7) as wire:
        assert 0 < wire.connack.props.get("server_keep_alive", 7) <= 7


def test_mqtt_3_1_4_3_a_take_over_tells_the_old_connection_why(engine: Engine, unique: str) -> None:
    with engine.connect(unique, level=5) as old, engine.connect(unique, level=5) as new:
        assert old.is_closed()
        assert [packet.code for packet in old.kept] == ([] if deviates(engine, "v5 take-over") else [0x8E])
        assert new.is_quiet()


@pytest.mark.parametrize(("old", "new"), [(4, 5), (5, 4)])
def test_versions_take_over_from_one_another(engine: Engine, unique: str, old: int, new: int) -> None:
    with engine.connect(unique, level=old) as first, engine.connect(unique, level=new) as second:
        assert first.is_closed()
        assert second.is_quiet()


def test_mqtt_3_1_0_2_a_second_connect_is_a_protocol_error(engine: Engine, unique: str) -> None:
    with engine.connect(unique, level=5) as wire:
        wire.send(p.connect(unique, level=5))
        assert wire.is_closed()
        assert _reasons(wire) == ([] if deviates(engine, "v5 no reason") else [PROTOCOL_ERROR])


def test_mqtt_4_12_an_unknown_authentication_method_is_refused(engine: Engine, unique: str) -> None:
    answer = rejected(
        engine.address, p.connect(unique, level=5, props={"authentication_method": "SCRAM-SHA-1"}), level=5
    )
    assert answer is not None
    assert (answer.kind, answer.code) == (p.CONNACK, 0x8C)


def test_an_auth_packet_out_of_the_blue_is_a_protocol_error(engine: Engine, unique: str) -> None:
    with engine.connect(unique, level=5) as wire:
        wire.send(p.frame(0xF0, b"\x18\x00"))
        assert wire.is_closed()
        assert _reasons(wire) == ([] if deviates(engine, "v5 no reason") else [PROTOCOL_ERROR])


BAD_CONNECTS = {
    "receive maximum 0": ({"receive_maximum": 0}, PROTOCOL_ERROR),
    "maximum packet size 0": ({"maximum_packet_size": 0}, PROTOCOL_ERROR),
    "authentication data without a method": ({"authentication_data": b"x"}, PROTOCOL_ERROR),
    "request problem information 2": ({"request_problem_information": 2}, PROTOCOL_ERROR),
    "request response information 2": ({"request_response_information": 2}, PROTOCOL_ERROR),
    "a property of another packet": ({"topic_alias": 1}, PROTOCOL_ERROR),
}


@pytest.mark.parametrize("which", BAD_CONNECTS)
def test_mqtt_3_1_2_11_bad_connect_properties_are_refused(engine: Engine, unique: str, which: str) -> None:
    props, code = BAD_CONNECTS[which]
    raw = p.connect(unique, level=5, props=props)
    if deviates(engine, f"v5 CONNECT: {which}"):
        with Wire(engine.address, level=5) as wire:
            wire.send(raw)
            assert wire.receive().code == 0
        return
    answer = rejected(engine.address, raw, level=5)
    if answer is not None:
        assert answer.code in {code, MALFORMED}


def test_mqtt_2_2_2_a_repeated_property_is_refused(engine: Engine, unique: str) -> None:
    twice = b"\x11\0\0\0\x01" * 2
    body = p.text("MQTT") + b"\x05\x02\x00\x3c" + p.varint(len(twice)) + twice + p.text(unique)
    answer = rejected(engine.address, p.frame(0x10, body), level=5)
    assert answer is None or answer.code in {PROTOCOL_ERROR, MALFORMED}


def test_mqtt_2_2_2_an_unknown_property_is_malformed(engine: Engine, unique: str) -> None:
    body = p.text("MQTT") + b"\x05\x02\x00\x3c" + b"\x02\x7f\x00" + p.text(unique)
    answer = rejected(engine.address, p.frame(0x10, body), level=5)
    assert answer is None or answer.code in {PROTOCOL_ERROR, MALFORMED}


def test_mqtt_3_1_2_a_password_without_a_user_name_is_allowed_in_version_5(
    engine: Engine, unique: str
) -> None:
    with Wire(engine.address, level=5) as wire:
        wire.send(p.connect(unique, level=5, password="token"))
        answer = wire.receive()
        assert answer.kind == p.CONNACK
        assert answer.code in {0, 0x86, 0x87}


def test_disconnect_with_will_message_publishes_the_will(engine: Engine, unique: str) -> None:
    """Reason code 0x04 of section 3.14.2.1."""
    with engine.connect(f"{unique}w") as watcher:
        watcher.subscribe(unique)
        engine.connect(unique, level=5, will=Will(unique)).disconnect(4)
        assert watcher.message().payload == b"gone"
        engine.connect(unique, level=5, will=Will(unique)).disconnect(0)
        assert watcher.is_quiet()


def test_a_will_carries_its_properties(engine: Engine, unique: str) -> None:
    props = {
        "content_type": "text/plain",
        "response_topic": "answer/here",
        "correlation_data": b"\x00\x01",
        "payload_format": 1,
        "user_property": [("a", "1"), ("a", "2")],
    }
    with engine.connect(f"{unique}w", level=5) as watcher:
        watcher.subscribe((unique, 1))
        engine.connect(unique, level=5, will=Will(unique, b"bye", 1, props=props)).close()
        got = watcher.message()
        assert (got.payload, got.props) == (b"bye", props)


def test_mqtt_3_1_3_9_a_delayed_will_waits(engine: Engine, unique: str) -> None:
    with engine.connect(f"{unique}w") as watcher:
        watcher.subscribe(unique)
        will = Will(unique, props={"will_delay": 2})
        client = engine.connect(unique, level=5, will=will, props={"session_expiry": 60})
        closed = time.monotonic()
        client.close()
        assert watcher.message().payload == b"gone"
        assert time.monotonic() - closed > 1, "Mosquitto counts whole seconds"
    engine.connect(unique).disconnect()


def test_mqtt_3_1_3_9_a_delayed_will_is_not_sent_when_the_client_comes_back(
    engine: Engine, unique: str
) -> None:
    with engine.connect(f"{unique}w") as watcher:
        watcher.subscribe(unique)
        will = Will(unique, props={"will_delay": 2})
        engine.connect(unique, level=5, will=will, props={"session_expiry": 60}).close()
        with engine.connect(unique, level=5, clean=False), pytest.raises(TimeoutError):
            watcher.receive(3.5)
    engine.connect(unique).disconnect()


def test_a_delayed_will_comes_at_once_when_its_session_ends(engine: Engine, unique: str) -> None:
    with engine.connect(f"{unique}w") as watcher:
        watcher.subscribe(unique)
        engine.connect(unique, level=5, will=Will(unique, props={"will_delay": 600})).close()
        if deviates(engine, "v5 will delay"):
            assert watcher.is_quiet()
            return
        assert watcher.message().payload == b"gone"


MALFORMED_PACKETS = {
    "PUBLISH with a subscription identifier": p.publish(
        "a", b"x", level=5, props={"subscription_identifier": 1}
    ),
    "PUBLISH with topic alias 0": p.publish("a", b"x", level=5, props={"topic_alias": 0}),
    "PUBLISH with an unknown topic alias": p.publish("", b"x", level=5, props={"topic_alias": 3}),
    "PUBLISH without topic and alias": p.publish("", b"x", level=5),
    "PUBLISH with a wildcard response topic": p.publish("a", b"x", level=5, props={"response_topic": "a/#"}),
    "PUBLISH with a property length beyond its end": p.frame(0x30, p.text("a") + b"\x20ab"),
    "PUBLISH with payload format 2": p.publish("a", b"x", level=5, props={"payload_format": 2}),
    "PUBLISH with a cut property": p.frame(0x30, p.text("a") + b"\x02\x02\x00"),
    "SUBSCRIBE with identifier 0": p.subscribe([("a", 0)], level=5, props={"subscription_identifier": 0}),
    "SUBSCRIBE with reserved option bits": p.subscribe([("a", 0xC0)], level=5),
    "SUBSCRIBE with retain handling 3": p.subscribe([("a", 0x30)], level=5),
    "SUBSCRIBE without filters": p.subscribe([], level=5),
    "SUBSCRIBE no local to a share": p.subscribe([("$share/g/a", 4)], level=5),
    "UNSUBSCRIBE without filters": p.unsubscribe([], level=5),
    "PUBREL with wrong flags": b"\x60\x02\x00\x01",
    "DISCONNECT with flags": b"\xe1\x00",
    "CONNACK from a client": b"\x20\x03\x00\x00\x00",
}


@pytest.mark.parametrize("which", MALFORMED_PACKETS)
def test_mqtt_4_13_1_a_malformed_packet_is_answered_with_a_reason_and_closed(
    engine: Engine, unique: str, which: str
) -> None:
    with engine.connect(unique, level=5) as wire:
        wire.send(MALFORMED_PACKETS[which])
        if deviates(engine, f"v5 {which}"):
            wire.send(p.publish(f"{unique}/alive", b"x", qos=2, pid=9, level=5))
            assert wire.wait_for(lambda packet: packet.kind == p.PUBREC).pid == 9
            return
        assert wire.is_closed()
        assert all(code >= 0x80 for code in _reasons(wire))
        assert _reasons(wire) or engine.name == "mosquitto"  # it says why only now and then


def _reasons(wire: Wire) -> list[int]:
    """Codes of the DISCONNECT packets that came before the connection was closed."""
    return [packet.code for packet in wire.kept if packet.kind == p.DISCONNECT]
