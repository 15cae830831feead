"""MQTT 3.1.1 and 5 packets, built and parsed by the tests' own hand.

Deliberately independent of the broker's codec: one error must not be able to hide another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = 8, 9, 10, 11, 12, 13, 14, 15
NAMES = [
    "RESERVED",
    "CONNECT",
    "CONNACK",
    "PUBLISH",
    "PUBACK",
    "PUBREC",
    "PUBREL",
    "PUBCOMP",
    "SUBSCRIBE",
    "SUBACK",
    "UNSUBSCRIBE",
    "UNSUBACK",
    "PINGREQ",
    "PINGRESP",
    "DISCONNECT",
    "AUTH",
]

# MQTT 5 section 2.2.2.2: identifier -> (name, type).
PROPERTIES = {
    1: ("payload_format", "u8"),
    2: ("message_expiry", "u32"),
    3: ("content_type", "text"),
    8: ("response_topic", "text"),
    9: ("correlation_data", "data"),
    11: ("subscription_identifier", "varint"),
    17: ("session_expiry", "u32"),
    18: ("assigned_client_id", "text"),
    19: ("server_keep_alive", "u16"),
    21: ("authentication_method", "text"),
    22: ("authentication_data", "data"),
    23: ("request_problem_information", "u8"),
    24: ("will_delay", "u32"),
    25: ("request_response_information", "u8"),
    26: ("response_information", "text"),
    28: ("server_reference", "text"),
    31: ("reason_string", "text"),
    33: ("receive_maximum", "u16"),
    34: ("topic_alias_maximum", "u16"),
    35: ("topic_alias", "u16"),
    36: ("maximum_qos", "u8"),
    37: ("retain_available", "u8"),
    38: ("user_property", "pair"),
    39: ("maximum_packet_size", "u32"),
    40: ("wildcard_subscription_available", "u8"),
    41: ("subscription_identifier_available", "u8"),
    42: ("shared_subscription_available", "u8"),
}
IDENTIFIERS = {name: (number, kind) for number, (name, kind) in PROPERTIES.items()}
REPEATABLE = {"user_property", "subscription_identifier"}
WIDTHS = {"u8": 1, "u16": 2, "u32": 4}

Properties = Mapping[str, Any]


@dataclass(frozen=True)
class Packet:
    """One packet from the broker; fields that its type does not have keep their defaults."""

    kind: int
    flags: int = 0
    pid: int = 0
    code: int = 0
    codes: tuple[int, ...] = ()
    session_present: bool = False
    topic: str = ""
    payload: bytes = b""
    props: dict[str, Any] = field(default_factory=dict)

    @property
    def qos(self) -> int:
        return self.flags >> 1 & 3

    @property
    def retain(self) -> bool:
        return bool(self.flags & 1)

    @property
    def dup(self) -> bool:
        return bool(self.flags & 8)

    def __repr__(self) -> str:
        shown = {k: v for k, v in vars(self).items() if v and k != "kind"}
        return f"{NAMES[self.kind]}({shown})"


@dataclass(frozen=True)
class Will:
    """A last will for CONNECT."""

    topic: str
    payload: bytes = b"gone"
    qos: int = 0
    retain: bool = False
    props: Properties = field(default_factory=dict)


# -- building ------------------------------------------------------------------------------------------


def u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def data(value: bytes) -> bytes:
    return u16(len(value)) + value


def text(value: str | bytes) -> bytes:
    return data(value if isinstance(value, bytes) else value.encode())


def varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        out.append(low | (128 if value else 0))
        if not value:
            return bytes(out)


def frame(first: int, body: bytes) -> bytes:
    """Fixed header (first byte given whole, flags included) and body."""
    return bytes([first]) + varint(len(body)) + body


def _property(name: str, value: Any) -> bytes:
    number, kind = IDENTIFIERS[name]
    if kind in WIDTHS:
        encoded = int(value).to_bytes(WIDTHS[kind], "big")
    elif kind == "varint":
        encoded = varint(value)
    elif kind == "pair":
        encoded = text(value[0]) + text(value[1])
    else:
        encoded = text(value)
    return bytes([number]) + encoded


def properties(props: Properties | None) -> bytes:
    """A property list with its length in front; lists of values repeat the property."""
    out = b""
    for name, value in (props or {}).items():
        many = value if name in REPEATABLE and isinstance(value, list) else [value]
        out += b"".join(_property(name, each) for each in many)
    return varint(len(out)) + out


def connect(
    client_id: str | bytes,
    *,
    level: int = 4,
    clean: bool = True,
    keepalive: int = 60,
    will: Will | None = None,
    username: str | None = None,
    password: str | bytes | None = None,
    props: Properties | None = None,
    flags: int | None = None,
    protocol: str = "MQTT",
) -> bytes:
    """CONNECT; `flags` overrides the computed connect flags (for malformed ones)."""
    computed = clean << 1 | (username is not None) << 7 | (password is not None) << 6
    if will:
        computed |= 4 | will.qos << 3 | will.retain << 5
    body = text(protocol) + bytes([level, computed if flags is None else flags]) + u16(keepalive)
    if level == 5:
        body += properties(props)
    body += text(client_id)
    if will:
        body += (properties(will.props) if level == 5 else b"") + text(will.topic) + data(will.payload)
    if username is not None:
        body += text(username)
    if password is not None:
        body += text(password)
    return frame(0x10, body)


def publish(
    topic: str | bytes,
    payload: bytes = b"",
    *,
    level: int = 4,
    qos: int = 0,
    retain: bool = False,
    dup: bool = False,
    pid: int = 1,
    props: Properties | None = None,
) -> bytes:
    body = text(topic) + (u16(pid) if qos else b"") + (properties(props) if level == 5 else b"")
    return frame(0x30 | dup << 3 | qos << 1 | retain, body + payload)


def ack(kind: int, pid: int, *, code: int = 0, props: Properties | None = None) -> bytes:
    """PUBACK, PUBREC, PUBREL or PUBCOMP; a reason code only when it says something (MQTT 5)."""
    body = u16(pid)
    if code or props:
        body += bytes([code]) + (properties(props) if props else b"")
    return frame(kind << 4 | (2 if kind == PUBREL else 0), body)


def subscribe(
    filters: Sequence[tuple[str | bytes, int]],
    *,
    pid: int = 1,
    level: int = 4,
    props: Properties | None = None,
) -> bytes:
    """SUBSCRIBE; the int beside a filter is the whole options byte (its low two bits are the QoS)."""
    body = u16(pid) + (properties(props) if level == 5 else b"")
    return frame(0x82, body + b"".join(text(name) + bytes([options]) for name, options in filters))


def unsubscribe(filters: Sequence[str | bytes], *, pid: int = 1, level: int = 4) -> bytes:
    body = u16(pid) + (properties(None) if level == 5 else b"")
    return frame(0xA2, body + b"".join(text(name) for name in filters))


def disconnect(code: int | None = None, props: Properties | None = None) -> bytes:
    if code is None:
        return b"\xe0\x00"
    return frame(0xE0, bytes([code]) + properties(props))


PING = b"\xc0\x00"


# -- parsing -------------------------------------------------------------------------------------------


class Reader:
    """Takes fields off the front of a packet's body."""

    def __init__(self, body: bytes) -> None:
        self.body, self.at = body, 0

    def take(self, count: int) -> bytes:
        piece = self.body[self.at : self.at + count]
        assert len(piece) == count, f"packet too short: {self.body!r}"
        self.at += count
        return piece

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def data(self) -> bytes:
        return self.take(self.number(2))

    def text(self) -> str:
        return self.data().decode()

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def left(self) -> int:
        return len(self.body) - self.at

    def rest(self) -> bytes:
        return self.take(self.left())

    def properties(self) -> dict[str, Any]:
        end = self.varint()
        end += self.at
        found: dict[str, Any] = {}
        while self.at < end:
            name, kind = PROPERTIES[self.varint()]
            value = self._value(kind)
            if name in REPEATABLE:
                found.setdefault(name, []).append(value)
            else:
                assert name not in found, f"{name} twice"
                found[name] = value
        assert self.at == end
        return found

    def _value(self, kind: str) -> Any:
        if kind in WIDTHS:
            return self.number(WIDTHS[kind])
        if kind == "pair":
            return (self.text(), self.text())
        return {"varint": self.varint, "text": self.text, "data": self.data}[kind]()


def parse(first: int, body: bytes, level: int) -> Packet:
    """A packet sent by a server."""
    kind, flags, r = first >> 4, first & 15, Reader(body)
    v5 = level == 5
    fields: dict[str, Any] = {}
    if kind == CONNACK:
        fields = {"session_present": r.number(1) == 1, "code": r.number(1)}
        if v5 and r.left():
            fields["props"] = r.properties()
    elif kind == PUBLISH:
        fields["topic"] = r.text()
        fields["pid"] = r.number(2) if flags & 6 else 0
        fields["props"] = r.properties() if v5 else {}
        fields["payload"] = r.rest()
    elif kind in {PUBACK, PUBREC, PUBREL, PUBCOMP}:
        fields["pid"] = r.number(2)
        fields |= _reason(r) if v5 else {}
    elif kind in {SUBACK, UNSUBACK}:
        fields["pid"] = r.number(2)
        fields["props"] = r.properties() if v5 else {}
        fields["codes"] = tuple(r.rest())
    elif kind in {DISCONNECT, AUTH}:
        fields = _reason(r)
    assert not r.left(), f"{r.left()} bytes too many in {NAMES[kind]}: {body!r}"
    return Packet(kind, flags, **fields)


def _reason(r: Reader) -> dict[str, Any]:
    code = r.number(1) if r.left() else 0
    return {"code": code, "props": r.properties() if r.left() else {}}
