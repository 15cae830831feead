from __future__ import annotations

import asyncio
import socket
from typing import Any

from callboard_broker.engine.embedded.door import Door
from callboard_broker.engine.embedded.guard import Guard
from callboard_broker.engine.embedded.sockets import SocketProtocol
from callboard_broker.engine.embedded.turn import Turn
from callboard_broker.mqtt.hub import Hub


class Gone(asyncio.Transport):
    """A transport whose socket is closed and whose protocol has not been told yet."""

    aborted = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 1), "socket": self}.get(name, default)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        if option == socket.SO_LINGER:
            raise ValueError("negative file descriptor")

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        raise ValueError("negative file descriptor")

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True


async def test_cutting_a_socket_that_is_closed_already_does_no_harm() -> None:
    hub = Hub()
    turn = Turn(hub, lambda connection: None, lambda: None)
    door = Door(hub, turn, Guard(hub.limits, hub.counters))
    protocol, transport = SocketProtocol(door), Gone()
    protocol.connection_made(transport)
    door.unheard.look(1.0)
    protocol.cut()
    assert transport.aborted
    protocol.connection_lost(None)
    protocol.cut()
