from __future__ import annotations

import pytest

from callboard_broker.mqtt.message import Message, read_publish
from callboard_broker.mqtt.properties import Property
from callboard_broker.mqtt.publishing import make_message
from callboard_broker.mqtt.reasons import ProtocolError
from support import packets as p


def parsed(raw: bytes, level: int = 4) -> p.Packet:
    start = 2 if raw[1] < 128 else 3
    return p.parse(raw[0], raw[start:], level)


@pytest.mark.parametrize(("flags", "number"), [(0, 0), (1, 0), (2, 7), (3, 7), (4, 9), (0b1100, 9)])
def test_a_message_is_encoded_for_mqtt_3_1_1(flags: int, number: int) -> None:
    packet = parsed(Message("a/b", b"payload", 2).encode(flags, number))
    assert (packet.topic, packet.payload, packet.flags, packet.pid) == ("a/b", b"payload", flags, number)


def test_a_message_is_encoded_once_for_all_plain_receivers() -> None:
    message = Message("a", b"x" * 300)
    assert message.encode(0) is message.encode(0)
    assert message.encode5(0, 0, (), 0.0) is message.encode5(0, 0, (), 0.0)


def test_mqtt_5_properties_go_through_and_the_expiry_counts_down() -> None:
    given = {
        Property.CONTENT_TYPE: "text/plain",
        Property.USER_PROPERTY: [("k", "v"), ("k", "w")],
        Property.MESSAGE_EXPIRY: 60,
        Property.TOPIC_ALIAS: 3,
    }
    message = make_message("a", b"x", 1, False, given, 1_000.0)
    packet = parsed(message.encode5(2, 5, (4, 300), 1_010.0), 5)
    assert packet.props == {
        "content_type": "text/plain",
        "user_property": [("k", "v"), ("k", "w")],
        "subscription_identifier": [4, 300],
        "message_expiry": 50,
    }


@pytest.mark.parametrize("raw", [p.publish("a", b"x", qos=0), p.publish("a", b"", qos=1, pid=3, retain=True)])
def test_a_publish_is_taken_apart(raw: bytes) -> None:
    publish = read_publish(raw[0], raw[2:], 4)
    again = Message("a", publish.payload, publish.qos).encode(
        publish.qos << 1 | publish.retain, publish.packet_id
    )
    assert again == raw


@pytest.mark.parametrize(
    ("first", "body"),
    [
        (0x36, b"\0\1a\0\1"),
        (0x38, b"\0\1a"),
        (0x32, b"\0\1a\0\0"),
        (0x32, b"\0\1a\1"),
        (0x30, b"\0"),
        (0x30, b"\0\5a"),
    ],
)
def test_a_malformed_publish_is_refused(first: int, body: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_publish(first, body, 4)
