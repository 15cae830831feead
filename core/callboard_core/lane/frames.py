"""What travels on a lane: frames, each a head of five bytes and a body. Pure; no sockets.

The head is the body's length (4 bytes, big-endian) and what the body is (1 byte, :class:`Kind`). A ``CALL``'s body is the length of the worker's name (1 byte), the name, and the call as it would travel on MQTT; an ``ANSWER``'s body is the answer
as it would. The others carry JSON objects or nothing.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from pydantic import Field

from callboard_core.errors import BadPayload, TooLarge
from callboard_core.messages import MESSAGE_LIMIT, Payload

__all__ = [
    "FIRST_LIMIT",
    "LIMIT",
    "VERSION",
    "Decoder",
    "Hello",
    "Kind",
    "Welcome",
    "encode",
    "encode_call",
    "read_call",
]

#: Version of what is described here.
VERSION = 1
#: Largest body, in bytes: a message, and what a call has in front of it.
LIMIT = MESSAGE_LIMIT + 512
#: Largest body before the other side has proven who it is.
FIRST_LIMIT = 1024

_HEAD = struct.Struct(">IB")
_CALL = struct.Struct(">IBB")  # a call's head, and the length of the worker's name
_LONGEST_NAME = 255


class Kind(IntEnum):
    """What a frame is."""

    HELLO = 1  # client: who it is
    WELCOME = 2  # server: it may call; also the answer to RENEW
    REFUSED = 3  # server: it may not; the connection ends
    CALL = 4
    ANSWER = 5
    PING = 6
    PONG = 7
    RENEW = 8  # client: another ticket, so that it may stay
    BYE = 9  # either: the connection ends on purpose


_KINDS = {int(kind): kind for kind in Kind}
_CALL_KIND = int(Kind.CALL)


class Hello(Payload):
    """The first frame, and ``RENEW``."""

    version: int = VERSION
    caller: str = Field(min_length=1, max_length=64, description="the caller's client id")
    ticket: str = Field(
        default="", max_length=256, description="from the action lane; empty for the same user"
    )
    secret: str = Field(default="", max_length=256, description="whose proof was given for the ticket")


class Welcome(Payload):
    """What the server answers to it."""

    instance: str = Field(description="the serving node's, as its status names it")
    lease: float | None = Field(
        default=None, description="seconds within which another ticket is due; missing: never"
    )


def encode(kind: Kind, body: bytes = b"") -> bytes:
    """Write a frame.

    Raises:
        TooLarge: the body is over the limit.
    """
    if len(body) > LIMIT:
        raise TooLarge(f"a frame of {len(body)} bytes is over the limit of {LIMIT}")
    return _HEAD.pack(len(body), kind) + body


def encode_call(worker: bytes, envelope: bytes) -> bytes:
    """Write a call.

    Args:
        worker: its name, in ASCII.
        envelope: the call.

    Raises:
        TooLarge: it is over the limit.
    """
    size = 1 + len(worker) + len(envelope)
    if size > LIMIT or len(worker) > _LONGEST_NAME:
        raise TooLarge(f"a call of {size} bytes is over the limit of {LIMIT}")
    return _CALL.pack(size, _CALL_KIND, len(worker)) + worker + envelope


def read_call(body: bytes) -> tuple[str, bytes]:
    """Read the body of a call; returns the worker's name and the envelope.

    Raises:
        BadPayload: it is none.
    """
    end = 1 + body[0] if body else 0
    if len(body) <= end:
        raise BadPayload("a call that ends too early")
    try:
        return body[1:end].decode("ascii"), body[end:]
    except UnicodeDecodeError:
        raise BadPayload("a worker's name is not ASCII") from None


class Decoder:
    """Cuts what arrives into frames. Holds at most one frame beyond what is fed at a time.

    Attributes:
        limit: largest body; lower until the other side is known.
    """

    def __init__(self, limit: int = FIRST_LIMIT) -> None:
        self.limit = limit
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[tuple[Kind, bytes]]:
        """Return the frames that are complete.

        Raises:
            TooLarge: a frame announces a body over the limit.
            BadPayload: there is no such kind of frame.
        """
        if not self._rest and len(data) >= _HEAD.size:
            size, kind = _HEAD.unpack_from(data)
            known = _KINDS.get(kind)
            if known is not None and len(data) == _HEAD.size + size and size <= self.limit:
                return [(known, data[_HEAD.size :])]  # nearly always
        self._rest += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> tuple[Kind, bytes] | None:
        rest = self._rest
        if len(rest) < _HEAD.size:
            return None
        size, kind = _HEAD.unpack_from(rest)
        if kind not in _KINDS:
            raise BadPayload(f"there is no frame of kind {kind}")
        if size > self.limit:
            raise TooLarge(f"a frame of {size} bytes is over the limit of {self.limit}")
        end = _HEAD.size + size
        if len(rest) < end:
            return None
        body = bytes(rest[_HEAD.size : end])
        del rest[:end]
        return _KINDS[kind], body
