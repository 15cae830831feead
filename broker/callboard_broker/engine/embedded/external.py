"""MQTT over an external listener: a pair of amqtt's adapters, whatever is behind them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Protocol

from callboard_broker.engine.embedded.door import Door
from callboard_broker.engine.embedded.queued import QueuedTransport
from callboard_broker.mqtt.connection import Connection

__all__ = ["serve_external"]


class Reader(Protocol):
    """amqtt's reader adapter."""

    async def read(self, n: int = -1) -> bytes:
        """Return exactly ``n`` bytes, fewer only at the end."""
        ...

    def feed_eof(self) -> None:
        """Let a pending read end."""


class Writer(Protocol):
    """amqtt's writer adapter."""

    def write(self, data: bytes) -> None:
        """Take bytes."""

    async def drain(self) -> None:
        """Wait until the peer has taken them."""

    def get_peer_info(self) -> Any:
        """Return address and port."""

    async def close(self) -> None:
        """Close."""


async def serve_external(reader: Reader, writer: Writer, door: Door) -> None:
    """Serve one client until either side closes."""
    peer = writer.get_peer_info()
    address = str(peer[0]) if peer else "external"
    if not door.enter(address):
        await writer.close()
        return
    connection = Connection(door.hub, address)

    async def send(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    async def close() -> None:
        reader.feed_eof()

    transport = QueuedTransport(connection, door, send, close, reader.feed_eof)
    try:
        while data := await _packet(reader, door.hub.largest_packet):
            if not await transport.feed(data):
                break
    finally:
        door.leave(address)
        await transport.end()
        with contextlib.suppress(OSError):
            await writer.close()


async def _packet(reader: Reader, largest: int) -> bytes:
    """Read one whole packet, or as much as shows that it is none; empty at the end."""
    try:
        head = await reader.read(1)
        size = shift = 0
        while head and shift < 28:  # noqa: PLR2004 - four bytes of seven bits
            byte = await reader.read(1)
            if not byte:
                return b""
            head += byte
            size |= (byte[0] & 127) << shift
            shift += 7
            if byte[0] < 128:  # noqa: PLR2004 - the continuation bit is clear
                break
        return head + await reader.read(size) if head and 0 < size <= largest else head
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
