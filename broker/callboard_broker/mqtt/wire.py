"""Bytes of the MQTT wire: packet types, variable-length integers, strings, and a cursor over one packet's body."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

from callboard_broker.mqtt.reasons import ProtocolError, Reason

__all__ = [
    "MAX_REMAINING",
    "MQTT_3_1",
    "MQTT_3_1_1",
    "MQTT_5",
    "Cursor",
    "PacketType",
    "frame",
    "malformed",
    "pack_binary",
    "pack_text",
    "pack_u16",
    "pack_u32",
    "pack_varint",
    "read_varint",
]

MQTT_3_1: Final = 3
MQTT_3_1_1: Final = 4
MQTT_5: Final = 5
#: The largest remaining length four bytes can carry (MQTT 2.2.3).
MAX_REMAINING: Final = 268_435_455

pack_u16 = Struct(">H").pack
pack_u32 = Struct(">I").pack


class PacketType(IntEnum):
    """The high four bits of a packet's first byte."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


def malformed(message: str) -> ProtocolError:
    """Return the error for a packet that cannot be parsed."""
    return ProtocolError(Reason.MALFORMED_PACKET, message)


def pack_varint(value: int) -> bytes:
    """Encode a variable-length integer, 0 to 268,435,455."""
    if value < 128:  # noqa: PLR2004 - seven bits a byte
        return bytes((value,))
    encoded = bytearray()
    while True:
        value, low = value >> 7, value & 127
        encoded.append(low | 128 if value else low)
        if not value:
            return bytes(encoded)


def read_varint(data: bytes, start: int) -> tuple[int, int]:
    """Decode a variable-length integer at ``start``; return it and the position behind it.

    The position is 0 when ``data`` ends before the integer does.

    Raises:
        ProtocolError: it is longer than four bytes.
    """
    value = shift = 0
    for position in range(start, min(start + 4, len(data))):
        byte = data[position]
        value |= (byte & 127) << shift
        if byte < 128:  # noqa: PLR2004 - the continuation bit is clear
            return value, position + 1
        shift += 7
    if len(data) - start >= 4:  # noqa: PLR2004 - at most four bytes
        raise malformed("variable-length integer longer than four bytes")
    return 0, 0


def pack_binary(value: bytes) -> bytes:
    """Encode bytes with their two-byte length."""
    return pack_u16(len(value)) + value


def pack_text(value: str) -> bytes:
    """Encode a UTF-8 string with its two-byte length."""
    return pack_binary(value.encode())


def frame(first: int, body: bytes) -> bytes:
    """Put the fixed header before a body."""
    return bytes((first,)) + pack_varint(len(body)) + body


class Cursor:
    """Reads one packet's body from front to back; running past its end is a malformed packet."""

    __slots__ = ("data", "end", "position")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0
        self.end = len(data)

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return self.end - self.position

    def take(self, count: int) -> bytes:
        """Read ``count`` bytes."""
        start = self.position
        stop = start + count
        if stop > self.end:
            raise malformed("packet ends before its content does")
        self.position = stop
        return self.data[start:stop]

    def u8(self) -> int:
        """Read one byte."""
        return self.take(1)[0]

    def u16(self) -> int:
        """Read a two-byte integer."""
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        """Read a four-byte integer."""
        return int.from_bytes(self.take(4), "big")

    def varint(self) -> int:
        """Read a variable-length integer."""
        value, position = read_varint(self.data, self.position)
        if not position:
            raise malformed("packet ends inside a variable-length integer")
        self.position = position
        return value

    def binary(self) -> bytes:
        """Read bytes with a two-byte length."""
        return self.take(self.u16())

    def text(self) -> str:
        """Read a UTF-8 string: no surrogates and no NUL (MQTT-1.5.3-1, MQTT-1.5.3-2)."""
        try:
            value = self.binary().decode()
        except UnicodeDecodeError:
            raise malformed("string is not UTF-8") from None
        if "\0" in value:
            raise malformed("string contains NUL")
        return value

    def rest(self) -> bytes:
        """Read everything that is left."""
        return self.take(self.left)
