"""One application message, and the PUBLISH packets made of it: encoded once per kind of receiver."""

from __future__ import annotations

from typing import Final, NamedTuple

from callboard_broker.mqtt.properties import Properties, Property, read_properties
from callboard_broker.mqtt.reasons import ProtocolError, Reason
from callboard_broker.mqtt.wire import (
    MQTT_5,
    Cursor,
    PacketType,
    malformed,
    pack_text,
    pack_u16,
    pack_u32,
    pack_varint,
)

__all__ = ["NEVER", "Message", "Publish", "read_publish"]

NEVER: Final = float("inf")
_NO_PROPERTIES: Final = b""


class Publish(NamedTuple):
    """A PUBLISH taken apart. ``topic`` is still bytes, and empty when an alias stands for it."""

    topic: bytes
    packet_id: int
    qos: int
    retain: bool
    dup: bool
    properties: Properties
    payload: bytes


def read_publish(first: int, body: bytes, version: int) -> Publish:
    """Take a PUBLISH apart; the topic is not judged here.

    Raises:
        ProtocolError: malformed.
    """
    qos = first >> 1 & 3
    dup = bool(first & 8)
    if qos == 3 or (dup and not qos):  # noqa: PLR2004 - MQTT-3.3.1-4, MQTT-3.3.1-2
        raise malformed(f"PUBLISH flags {first & 15:#x}")
    cursor = Cursor(body)
    topic = cursor.binary()
    packet_id = cursor.u16() if qos else 0
    if qos and not packet_id:
        raise malformed("PUBLISH with packet identifier 0")
    properties = read_properties(cursor, PacketType.PUBLISH) if version == MQTT_5 else {}
    if Property.SUBSCRIPTION_IDENTIFIER in properties:
        raise ProtocolError(Reason.PROTOCOL_ERROR, "PUBLISH from a client with a subscription identifier")
    return Publish(topic, packet_id, qos, bool(first & 1), dup, properties, cursor.rest())


class Message:
    """An application message on its way.

    Attributes:
        topic: name, checked.
        payload: as published.
        qos: as published.
        retain: the flag as published.
        properties: encoded MQTT 5 properties that are passed on, without their length.
        expires: board's clock (Unix seconds) after which nobody new receives it; never is infinity.
        number: its key in the journal, 0 while it is not there.
    """

    __slots__ = (
        "_middle",
        "_plain",
        "_plain5",
        "expires",
        "number",
        "payload",
        "properties",
        "qos",
        "retain",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        retain: bool = False,
        properties: bytes = _NO_PROPERTIES,
        expires: float = NEVER,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties = properties
        self.expires = expires
        self.number = 0
        self._plain: bytes | None = None
        self._plain5: bytes | None = None
        self._middle: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes that count against bounds: payload, topic, properties and a constant for the rest."""
        return len(self.payload) + len(self.topic) + len(self.properties) + 64

    def plain(self) -> bytes:
        """Encode as QoS 0, not retained, for MQTT 3.1.1."""
        found = self._plain
        if found is None:
            name = pack_text(self.topic)
            found = self._plain = b"0" + pack_varint(len(name) + len(self.payload)) + name + self.payload
        return found

    def encode(self, flags: int, packet_id: int = 0) -> bytes:
        """Encode for MQTT 3.1.1 with the low four bits ``flags``."""
        if not flags:
            return self.plain()
        if not flags & 6:
            name = pack_text(self.topic)
            return b"1" + pack_varint(len(name) + len(self.payload)) + name + self.payload
        middle = self._middle
        if middle is None:
            name = pack_text(self.topic)
            middle = self._middle = pack_varint(len(name) + 2 + len(self.payload)) + name
        return bytes((0x30 | flags,)) + middle + pack_u16(packet_id) + self.payload

    def encode5(self, flags: int, packet_id: int, identifiers: tuple[int, ...], now: float) -> bytes:
        """Encode for MQTT 5: what is left of the expiry, and the receiver's subscription identifiers, go along."""
        simple = not flags and not identifiers and self.expires == NEVER
        if simple and self._plain5 is not None:
            return self._plain5
        properties = self.properties
        if identifiers:
            properties += b"".join(b"\x0b" + pack_varint(number) for number in identifiers)
        if self.expires != NEVER:
            properties += b"\x02" + pack_u32(max(0, int(self.expires - now)))
        number = pack_u16(packet_id) if flags & 6 else b""
        body = pack_text(self.topic) + number + pack_varint(len(properties)) + properties + self.payload
        encoded = bytes((0x30 | flags,)) + pack_varint(len(body)) + body
        if simple:
            self._plain5 = encoded
        return encoded
