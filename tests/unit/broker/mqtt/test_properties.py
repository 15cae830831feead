from __future__ import annotations

from typing import Any

import pytest

from callboard_broker.mqtt.properties import WILL, Property, pack_properties, read_properties
from callboard_broker.mqtt.reasons import ProtocolError, Reason
from callboard_broker.mqtt.wire import Cursor, PacketType

EVERY: list[tuple[int, Property, Any]] = [
    (PacketType.PUBLISH, Property.PAYLOAD_FORMAT, 1),
    (PacketType.PUBLISH, Property.MESSAGE_EXPIRY, 4_000_000_000),
    (PacketType.PUBLISH, Property.CONTENT_TYPE, "text/plain"),
    (PacketType.PUBLISH, Property.RESPONSE_TOPIC, "a/b"),
    (PacketType.PUBLISH, Property.CORRELATION_DATA, b"\0\1"),
    (PacketType.PUBLISH, Property.TOPIC_ALIAS, 7),
    (PacketType.PUBLISH, Property.USER_PROPERTY, [("a", "b"), ("a", "c")]),
    (PacketType.SUBSCRIBE, Property.SUBSCRIPTION_IDENTIFIER, [300]),
    (PacketType.CONNECT, Property.SESSION_EXPIRY, 60),
    (PacketType.CONNECT, Property.RECEIVE_MAXIMUM, 10),
    (PacketType.CONNACK, Property.ASSIGNED_CLIENT_IDENTIFIER, "x"),
    (PacketType.DISCONNECT, Property.REASON_STRING, "why"),
    (WILL, Property.WILL_DELAY, 5),
]


@pytest.mark.parametrize(("packet", "key", "value"), EVERY)
def test_a_property_comes_back(packet: int, key: Property, value: Any) -> None:
    assert read_properties(Cursor(pack_properties({key: value})), packet) == {key: value}


def test_nothing_is_one_byte() -> None:
    assert pack_properties({}) == b"\0"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"\x02\x7f\x00", Reason.MALFORMED_PACKET),  # unknown
        (b"\x05\x11\x00\x00\x00\x01", Reason.PROTOCOL_ERROR),  # session expiry in a PUBLISH
        (b"\x04\x01\x00\x01\x00", Reason.PROTOCOL_ERROR),  # given twice
        (b"\x02\x01\x02", Reason.PROTOCOL_ERROR),  # a flag that is 2
        (b"\x09\x01\x00", Reason.MALFORMED_PACKET),  # longer than its packet
        (b"\x02\x02\x00", Reason.MALFORMED_PACKET),  # value cut short by the block's end
        (b"\x06\x08\x00\x03a/#", Reason.PROTOCOL_ERROR),  # a response topic with a wildcard
    ],
)
def test_what_may_not_stand_there_is_refused(raw: bytes, reason: Reason) -> None:
    with pytest.raises(ProtocolError) as error:
        read_properties(Cursor(raw), PacketType.PUBLISH)
    assert error.value.reason is reason
