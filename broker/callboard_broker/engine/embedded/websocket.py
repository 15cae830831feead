"""MQTT over WebSocket: binary messages in, one writer per client out."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed

from callboard_broker.engine.embedded.door import Door
from callboard_broker.engine.embedded.sockets import common_name
from callboard_broker.mqtt.connection import Connection

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

__all__ = ["WebSocketTransport", "serve_websocket"]

#: Seconds a closing client gets for its last bytes.
_LINGER = 2.0


async def serve_websocket(websocket: ServerConnection, door: Door) -> None:
    """Serve one client until either side closes."""
    peer = websocket.remote_address
    address = peer[0] if isinstance(peer, tuple) else "local"
    if not door.enter(address):
        await websocket.close(1013, "no room")
        return
    connection = Connection(door.hub, address)
    connection.certificate = common_name(websocket.transport.get_extra_info("peercert"))
    transport = WebSocketTransport(websocket, connection, door.hub.limits.write_buffer_bytes)
    connection.transport = transport
    writer = asyncio.get_running_loop().create_task(transport.run())
    try:
        async for message in websocket:
            if isinstance(message, str):  # MQTT-6.0.0-1: only binary
                break
            connection.receive(message)
            door.turn.soon()
            if connection.closing:
                break
    except ConnectionClosed:
        pass
    finally:
        connection.close()
        door.turn.flush()
        door.leave(address)
        transport.finish()
        await asyncio.wait([writer], timeout=_LINGER)
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        connection.transport = None


class WebSocketTransport:
    """Queue of bytes for one client, sent by :meth:`run`."""

    def __init__(self, websocket: ServerConnection, connection: Connection, high: int) -> None:
        self._websocket = websocket
        self._connection = connection
        self._high = high
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._more = asyncio.Event()
        self._ending = False

    def write(self, data: bytes) -> None:
        """Queue bytes; beyond the bound the connection is choked."""
        self._waiting.append(data)
        self._size += len(data)
        if self._size > self._high and not self._connection.choked:
            self._connection.choke(True)
        self._more.set()

    def finish(self) -> None:
        """Close once everything is sent."""
        self._ending = True
        self._more.set()

    async def run(self) -> None:
        """Send what is queued until told to finish or the client is gone."""
        try:
            while not (self._ending and not self._waiting):
                await self._more.wait()
                self._more.clear()
                await self._drain()
        except ConnectionClosed:
            return
        finally:
            await self._websocket.close()

    async def _drain(self) -> None:
        while self._waiting:
            data = self._waiting.popleft()
            await self._websocket.send(data)
            self._size -= len(data)
            if self._connection.choked and self._size < self._high // 4:
                self._connection.choke(False)
