"""MQTT over an external listener: a pair of amqtt's adapters, whatever is behind them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Any, Protocol

from callboard_broker.engine.embedded.door import Door
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


class _Transport:
    def __init__(self, reader: Reader, writer: Writer, connection: Connection, high: int) -> None:
        self._reader, self._writer = reader, writer
        self._connection, self._high = connection, high
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._more = asyncio.Event()
        self._ending = False

    def write(self, data: bytes) -> None:
        self._waiting.append(data)
        self._size += len(data)
        if self._size > self._high and not self._connection.choked:
            self._connection.choke(True)
        self._more.set()

    def finish(self) -> None:
        self._ending = True
        self._more.set()

    async def run(self) -> None:
        while not (self._ending and not self._waiting):
            await self._more.wait()
            self._more.clear()
            while self._waiting:
                data = self._waiting.popleft()
                self._writer.write(data)
                await self._writer.drain()
                self._size -= len(data)
                if self._connection.choked and self._size < self._high // 4:
                    self._connection.choke(False)
        self._reader.feed_eof()


async def serve_external(reader: Reader, writer: Writer, door: Door) -> None:
    """Serve one client until either side closes."""
    peer = writer.get_peer_info()
    address = str(peer[0]) if peer else "external"
    if not door.enter(address):
        await writer.close()
        return
    connection = Connection(door.hub, address)
    transport = _Transport(reader, writer, connection, door.hub.limits.write_buffer_bytes)
    connection.transport = transport
    task = asyncio.get_running_loop().create_task(transport.run())
    try:
        while data := await _packet(reader, door.hub.largest_packet):
            connection.receive(data)
            door.turn.soon()
            if connection.closing:
                break
    finally:
        connection.close()
        door.turn.flush()
        door.leave(address)
        transport.finish()
        await asyncio.wait([task], timeout=2.0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        connection.transport = None
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
