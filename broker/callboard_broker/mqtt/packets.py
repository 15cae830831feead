"""Packets a client sends, taken apart, and packets the broker answers with, built. PUBLISH has its own module."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from callboard_broker.mqtt.properties import WILL, Properties, Property, pack_properties, read_properties
from callboard_broker.mqtt.reasons import CONNACK_V3, ProtocolError, Reason
from callboard_broker.mqtt.wire import (
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5,
    Cursor,
    PacketType,
    frame,
    malformed,
    pack_u16,
)

__all__ = [
    "PINGRESP",
    "Ack",
    "Connect",
    "Disconnect",
    "Request",
    "Subscribe",
    "Unsubscribe",
    "WillSpec",
    "pack_ack",
    "pack_connack",
    "pack_disconnect",
    "pack_suback",
    "pack_unsuback",
    "read_ack",
    "read_connect",
    "read_disconnect",
    "read_subscribe",
    "read_unsubscribe",
]

PINGRESP: Final = b"\xd0\x00"
_PROTOCOLS = {("MQIsdp", 3): MQTT_3_1, ("MQTT", 4): MQTT_3_1_1, ("MQTT", 5): MQTT_5}
_MAX_QOS: Final = 2


class WillSpec(NamedTuple):
    """The message a client leaves behind; ``delay`` in seconds."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Properties
    delay: int


@dataclass(slots=True)
class Connect:
    """A CONNECT. ``expiry`` is the session's life after disconnect in seconds (MQTT 5), ``keepalive`` in seconds."""

    version: int
    client_id: str
    clean: bool
    keepalive: int
    will: WillSpec | None = None
    username: str | None = None
    password: bytes | None = None
    properties: Properties = field(default_factory=dict)


class Request(NamedTuple):
    """One line of a SUBSCRIBE."""

    filter: str
    qos: int
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


class Subscribe(NamedTuple):
    """A SUBSCRIBE; ``identifier`` is 0 when none was given."""

    packet_id: int
    requests: list[Request]
    identifier: int


class Unsubscribe(NamedTuple):
    """An UNSUBSCRIBE."""

    packet_id: int
    filters: list[str]


class Ack(NamedTuple):
    """PUBACK, PUBREC, PUBREL or PUBCOMP."""

    packet_id: int
    reason: int


class Disconnect(NamedTuple):
    """A DISCONNECT; ``expiry`` is None unless the client changed its session's life."""

    reason: int
    expiry: int | None


def read_connect(body: bytes) -> Connect:
    """Take a CONNECT apart.

    Raises:
        ProtocolError: malformed, or a protocol level that is not spoken here (the only case that is answered).
    """
    cursor = Cursor(body)
    name, level = cursor.text(), cursor.u8()
    version = _PROTOCOLS.get((name, level))
    if version is None:
        if name not in {"MQTT", "MQIsdp"}:
            raise malformed(f"protocol name {name[:20]!r}")
        raise ProtocolError(Reason.UNSUPPORTED_PROTOCOL_VERSION, f"protocol level {level}")
    flags = cursor.u8()
    _check_connect_flags(flags, version)
    keepalive = cursor.u16()
    properties = read_properties(cursor, PacketType.CONNECT) if version == MQTT_5 else {}
    if Property.AUTHENTICATION_DATA in properties and Property.AUTHENTICATION_METHOD not in properties:
        raise ProtocolError(Reason.PROTOCOL_ERROR, "authentication data without a method")
    client_id = cursor.text()
    will = _read_will(cursor, flags, version) if flags & 4 else None
    username = cursor.text() if flags & 128 else None
    password = cursor.binary() if flags & 64 else None
    if cursor.left:
        raise malformed("CONNECT is longer than its content")
    return Connect(version, client_id, bool(flags & 2), keepalive, will, username, password, properties)


def _check_connect_flags(flags: int, version: int) -> None:
    will_qos = flags >> 3 & 3
    if flags & 1:
        raise malformed("reserved CONNECT flag is set")
    if will_qos > _MAX_QOS or (not flags & 4 and flags & 0x38):
        raise malformed("CONNECT flags of the will contradict each other")
    if version != MQTT_5 and flags & 0xC0 == 0x40:  # noqa: PLR2004 - password without user name
        raise malformed("password without user name")


def _read_will(cursor: Cursor, flags: int, version: int) -> WillSpec:
    properties = read_properties(cursor, WILL) if version == MQTT_5 else {}
    delay = properties.pop(Property.WILL_DELAY, 0)
    topic = cursor.text()
    payload = cursor.binary()
    return WillSpec(topic, payload, flags >> 3 & 3, bool(flags & 32), properties, delay)


def _packet_id(cursor: Cursor) -> int:
    number = cursor.u16()
    if not number:
        raise malformed("packet identifier 0")
    return number


def read_subscribe(body: bytes, version: int) -> Subscribe:
    """Take a SUBSCRIBE apart; filters are not judged here."""
    cursor = Cursor(body)
    packet_id = _packet_id(cursor)
    properties = read_properties(cursor, PacketType.SUBSCRIBE) if version == MQTT_5 else {}
    identifiers = properties.get(Property.SUBSCRIPTION_IDENTIFIER, [0])
    if len(identifiers) > 1:
        raise ProtocolError(Reason.PROTOCOL_ERROR, "two subscription identifiers")
    requests = []
    while cursor.left:
        topic_filter = cursor.text()
        requests.append(_request(topic_filter, cursor.u8(), version))
    if not requests:
        raise ProtocolError(Reason.PROTOCOL_ERROR, "SUBSCRIBE without a filter")
    return Subscribe(packet_id, requests, identifiers[0])


def _request(topic_filter: str, options: int, version: int) -> Request:
    qos, handling = options & 3, options >> 4 & 3
    if qos > _MAX_QOS or options & (0xC0 if version == MQTT_5 else 0xFC) or handling == 3:  # noqa: PLR2004
        raise malformed(f"subscription options {options:#04x}")
    return Request(topic_filter, qos, bool(options & 4), bool(options & 8), handling)


def read_unsubscribe(body: bytes, version: int) -> Unsubscribe:
    """Take an UNSUBSCRIBE apart."""
    cursor = Cursor(body)
    packet_id = _packet_id(cursor)
    if version == MQTT_5:
        read_properties(cursor, PacketType.UNSUBSCRIBE)
    filters = []
    while cursor.left:
        filters.append(cursor.text())
    if not filters:
        raise ProtocolError(Reason.PROTOCOL_ERROR, "UNSUBSCRIBE without a filter")
    return Unsubscribe(packet_id, filters)


def read_ack(kind: int, body: bytes, version: int) -> Ack:
    """Take a PUBACK, PUBREC, PUBREL or PUBCOMP apart."""
    cursor = Cursor(body)
    packet_id = _packet_id(cursor)
    reason = 0
    if cursor.left and version == MQTT_5:
        reason = cursor.u8()
        if cursor.left:
            read_properties(cursor, kind)
    if cursor.left:
        raise malformed("acknowledgement is longer than its content")
    return Ack(packet_id, reason)


def read_disconnect(body: bytes, version: int) -> Disconnect:
    """Take a DISCONNECT apart."""
    cursor = Cursor(body)
    reason, expiry = 0, None
    if version == MQTT_5 and cursor.left:
        reason = cursor.u8()
        if cursor.left:
            expiry = read_properties(cursor, PacketType.DISCONNECT).get(Property.SESSION_EXPIRY)
    if cursor.left:
        raise malformed("DISCONNECT is longer than its content")
    return Disconnect(reason, expiry)


def pack_connack(
    version: int, reason: Reason, *, present: bool = False, properties: Properties | None = None
) -> bytes:
    """Build a CONNACK."""
    if version == MQTT_5:
        return frame(0x20, bytes((present, reason)) + pack_properties(properties or {}))
    return bytes((0x20, 2, present, CONNACK_V3.get(reason, 3)))


def pack_suback(version: int, packet_id: int, codes: list[int]) -> bytes:
    """Build a SUBACK; for MQTT 3.1.1 every failure is 0x80."""
    if version == MQTT_5:
        return frame(0x90, pack_u16(packet_id) + b"\0" + bytes(codes))
    return frame(0x90, pack_u16(packet_id) + bytes(min(code, 0x80) for code in codes))


def pack_unsuback(version: int, packet_id: int, codes: list[int]) -> bytes:
    """Build an UNSUBACK; only MQTT 5 carries codes."""
    if version == MQTT_5:
        return frame(0xB0, pack_u16(packet_id) + b"\0" + bytes(codes))
    return b"\xb0\x02" + pack_u16(packet_id)


def pack_ack(kind: PacketType, packet_id: int, version: int = MQTT_3_1_1, reason: int = 0) -> bytes:
    """Build a PUBACK, PUBREC, PUBREL or PUBCOMP."""
    first = kind << 4 | (2 if kind is PacketType.PUBREL else 0)
    if reason and version == MQTT_5:
        return bytes((first, 3)) + pack_u16(packet_id) + bytes((reason,))
    return bytes((first, 2)) + pack_u16(packet_id)


def pack_disconnect(reason: Reason, text: str = "") -> bytes:
    """Build a DISCONNECT from the server (MQTT 5 only)."""
    properties: Properties = {Property.REASON_STRING: text} if text else {}
    return frame(0xE0, bytes((reason,)) + pack_properties(properties))
