"""Properties of MQTT 5 (2.2.2): one table of ids, types and the packets each may stand in."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, NamedTuple

from callboard_broker.mqtt.reasons import ProtocolError, Reason
from callboard_broker.mqtt.topics import is_topic
from callboard_broker.mqtt.wire import (
    Cursor,
    PacketType,
    malformed,
    pack_binary,
    pack_text,
    pack_u16,
    pack_u32,
    pack_varint,
)

__all__ = ["WILL", "Properties", "Property", "pack_properties", "read_properties"]

#: Where a will's own properties stand; not a packet type of the wire.
WILL: Final = 0


class Property(IntEnum):
    """Property identifiers."""

    PAYLOAD_FORMAT = 0x01
    MESSAGE_EXPIRY = 0x02
    CONTENT_TYPE = 0x03
    RESPONSE_TOPIC = 0x08
    CORRELATION_DATA = 0x09
    SUBSCRIPTION_IDENTIFIER = 0x0B
    SESSION_EXPIRY = 0x11
    ASSIGNED_CLIENT_IDENTIFIER = 0x12
    SERVER_KEEP_ALIVE = 0x13
    AUTHENTICATION_METHOD = 0x15
    AUTHENTICATION_DATA = 0x16
    REQUEST_PROBLEM_INFORMATION = 0x17
    WILL_DELAY = 0x18
    REQUEST_RESPONSE_INFORMATION = 0x19
    RESPONSE_INFORMATION = 0x1A
    SERVER_REFERENCE = 0x1C
    REASON_STRING = 0x1F
    RECEIVE_MAXIMUM = 0x21
    TOPIC_ALIAS_MAXIMUM = 0x22
    TOPIC_ALIAS = 0x23
    MAXIMUM_QOS = 0x24
    RETAIN_AVAILABLE = 0x25
    USER_PROPERTY = 0x26
    MAXIMUM_PACKET_SIZE = 0x27
    WILDCARD_AVAILABLE = 0x28
    SUBSCRIPTION_IDENTIFIER_AVAILABLE = 0x29
    SHARED_AVAILABLE = 0x2A


#: What a packet carries: the value by property; user properties and subscription identifiers are lists.
Properties = dict[Property, Any]

_Reader = Callable[[Cursor], Any]
_Writer = Callable[[Any], bytes]


class _Type(NamedTuple):
    read: _Reader
    write: _Writer


def _read_pair(cursor: Cursor) -> tuple[str, str]:
    return cursor.text(), cursor.text()


def _write_pair(value: tuple[str, str]) -> bytes:
    return pack_text(value[0]) + pack_text(value[1])


_BYTE = _Type(Cursor.u8, lambda value: bytes((value,)))
_U16 = _Type(Cursor.u16, pack_u16)
_U32 = _Type(Cursor.u32, pack_u32)
_VARINT = _Type(Cursor.varint, pack_varint)
_TEXT = _Type(Cursor.text, pack_text)
_BINARY = _Type(Cursor.binary, pack_binary)
_PAIR = _Type(_read_pair, _write_pair)

_P = Property
_C = PacketType
_MESSAGE = {_C.PUBLISH, WILL}
_SERVER_ACKS = {_C.PUBACK, _C.PUBREC, _C.PUBREL, _C.PUBCOMP, _C.SUBACK, _C.UNSUBACK}
_EVERYWHERE = {*_C, WILL} - {_C.PINGREQ, _C.PINGRESP}

_TABLE: dict[Property, tuple[_Type, frozenset[int]]] = {
    _P.PAYLOAD_FORMAT: (_BYTE, frozenset(_MESSAGE)),
    _P.MESSAGE_EXPIRY: (_U32, frozenset(_MESSAGE)),
    _P.CONTENT_TYPE: (_TEXT, frozenset(_MESSAGE)),
    _P.RESPONSE_TOPIC: (_TEXT, frozenset(_MESSAGE)),
    _P.CORRELATION_DATA: (_BINARY, frozenset(_MESSAGE)),
    _P.SUBSCRIPTION_IDENTIFIER: (_VARINT, frozenset({_C.PUBLISH, _C.SUBSCRIBE})),
    _P.SESSION_EXPIRY: (_U32, frozenset({_C.CONNECT, _C.CONNACK, _C.DISCONNECT})),
    _P.ASSIGNED_CLIENT_IDENTIFIER: (_TEXT, frozenset({_C.CONNACK})),
    _P.SERVER_KEEP_ALIVE: (_U16, frozenset({_C.CONNACK})),
    _P.AUTHENTICATION_METHOD: (_TEXT, frozenset({_C.CONNECT, _C.CONNACK, _C.AUTH})),
    _P.AUTHENTICATION_DATA: (_BINARY, frozenset({_C.CONNECT, _C.CONNACK, _C.AUTH})),
    _P.REQUEST_PROBLEM_INFORMATION: (_BYTE, frozenset({_C.CONNECT})),
    _P.WILL_DELAY: (_U32, frozenset({WILL})),
    _P.REQUEST_RESPONSE_INFORMATION: (_BYTE, frozenset({_C.CONNECT})),
    _P.RESPONSE_INFORMATION: (_TEXT, frozenset({_C.CONNACK})),
    _P.SERVER_REFERENCE: (_TEXT, frozenset({_C.CONNACK, _C.DISCONNECT})),
    _P.REASON_STRING: (_TEXT, frozenset({_C.CONNACK, _C.DISCONNECT, _C.AUTH, *_SERVER_ACKS})),
    _P.RECEIVE_MAXIMUM: (_U16, frozenset({_C.CONNECT, _C.CONNACK})),
    _P.TOPIC_ALIAS_MAXIMUM: (_U16, frozenset({_C.CONNECT, _C.CONNACK})),
    _P.TOPIC_ALIAS: (_U16, frozenset({_C.PUBLISH})),
    _P.MAXIMUM_QOS: (_BYTE, frozenset({_C.CONNACK})),
    _P.RETAIN_AVAILABLE: (_BYTE, frozenset({_C.CONNACK})),
    _P.USER_PROPERTY: (_PAIR, frozenset(_EVERYWHERE)),
    _P.MAXIMUM_PACKET_SIZE: (_U32, frozenset({_C.CONNECT, _C.CONNACK})),
    _P.WILDCARD_AVAILABLE: (_BYTE, frozenset({_C.CONNACK})),
    _P.SUBSCRIPTION_IDENTIFIER_AVAILABLE: (_BYTE, frozenset({_C.CONNACK})),
    _P.SHARED_AVAILABLE: (_BYTE, frozenset({_C.CONNACK})),
}
_LISTS = frozenset({_P.USER_PROPERTY, _P.SUBSCRIPTION_IDENTIFIER})
_FLAGS = frozenset({_P.PAYLOAD_FORMAT, _P.REQUEST_PROBLEM_INFORMATION, _P.REQUEST_RESPONSE_INFORMATION})
_NOT_ZERO = frozenset({_P.RECEIVE_MAXIMUM, _P.MAXIMUM_PACKET_SIZE, _P.SUBSCRIPTION_IDENTIFIER})


def read_properties(cursor: Cursor, packet: int) -> Properties:
    """Read a property block of a ``packet`` (a :class:`PacketType` or :data:`WILL`).

    Raises:
        ProtocolError: unknown or misplaced property, one given twice, or a value out of its range.
    """
    found: Properties = {}
    length = cursor.varint()
    if length > cursor.left:
        raise malformed("properties are longer than their packet")
    outer, cursor.end = cursor.end, cursor.position + length
    while cursor.left:
        _read_one(cursor, packet, found)
    cursor.end = outer
    return found


def _read_one(cursor: Cursor, packet: int, found: Properties) -> None:
    number = cursor.varint()
    try:
        key = Property(number)
    except ValueError:
        raise malformed(f"unknown property {number:#x}") from None
    kind, places = _TABLE[key]
    if packet not in places:
        raise ProtocolError(Reason.PROTOCOL_ERROR, f"{key.name} may not stand in this packet")
    value = kind.read(cursor)
    if (key in _FLAGS and value > 1) or (key in _NOT_ZERO and not value):
        raise ProtocolError(Reason.PROTOCOL_ERROR, f"{key.name} may not be {value}")
    if key is Property.RESPONSE_TOPIC and not is_topic(value):
        raise ProtocolError(Reason.PROTOCOL_ERROR, "response topic with a wildcard")
    if key in _LISTS:
        found.setdefault(key, []).append(value)
    elif key in found:
        raise ProtocolError(Reason.PROTOCOL_ERROR, f"{key.name} given twice")
    else:
        found[key] = value


def pack_properties(properties: Properties) -> bytes:
    """Encode a property block with its length."""
    if not properties:
        return b"\0"
    parts: list[bytes] = []
    for key, value in properties.items():
        write = _TABLE[key][0].write
        for item in value if key in _LISTS else (value,):
            parts += (bytes((key,)), write(item))
    body = b"".join(parts)
    return pack_varint(len(body)) + body
