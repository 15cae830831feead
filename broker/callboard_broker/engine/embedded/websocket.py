"""MQTT over WebSocket: binary messages in and out."""

from __future__ import annotations

import contextlib
from socket import SO_LINGER, SOL_SOCKET
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed

from callboard_broker.engine.embedded.door import Door
from callboard_broker.engine.embedded.queued import QueuedTransport
from callboard_broker.engine.embedded.sockets import RESET, note_certificate
from callboard_broker.mqtt.connection import Connection

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

__all__ = ["serve_websocket"]


async def serve_websocket(websocket: ServerConnection, door: Door, *, pinned: bool = False) -> None:
    """Serve one client until either side closes; ``pinned`` as for :class:`SocketProtocol`."""
    peer = websocket.remote_address
    address = peer[0] if isinstance(peer, tuple) else "local"
    if not door.enter(address):
        await websocket.close(1013, "no room")
        return
    connection = Connection(door.hub, address)
    note_certificate(connection, websocket.transport, pinned=pinned)

    async def send(data: bytes) -> None:
        with contextlib.suppress(ConnectionClosed):
            await websocket.send(data)

    def reset() -> None:
        with contextlib.suppress(OSError, ValueError):  # it is closed already
            websocket.transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, RESET)
        websocket.transport.abort()

    transport = QueuedTransport(connection, door, send, websocket.close, reset)
    try:
        async for message in websocket:
            # MQTT-6.0.0-1: only binary.
            if isinstance(message, str) or not await transport.feed(message):
                break
    except ConnectionClosed:
        pass
    finally:
        door.leave(address)
        await transport.end()
