"""A transport for streams whose writes must be awaited: a bounded queue and one task that empties it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from callboard_broker.engine.embedded.door import Door
from callboard_broker.mqtt.connection import Connection

__all__ = ["QueuedTransport"]

#: Seconds a closing client gets for its last bytes.
_LINGER = 2.0


class QueuedTransport:
    """Bytes for one client.

    Args:
        send: writes bytes and returns when the client's side has taken them.
        close: closes the stream, so that a pending read ends.
        reset: the same at once, whatever the client has not taken.
    """

    def __init__(
        self,
        connection: Connection,
        door: Door,
        send: Callable[[bytes], Awaitable[None]],
        close: Callable[[], Awaitable[None]],
        reset: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._door = door
        self._send = send
        self._close = close
        self._reset = reset
        self._high = door.hub.limits.write_buffer_bytes
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._more = asyncio.Event()
        self._readable = asyncio.Event()
        self._ending = False
        connection.transport = self
        self._task = asyncio.get_running_loop().create_task(self._run())

    def write(self, data: bytes) -> None:
        """Queue bytes; beyond the bound the connection is choked."""
        self._waiting.append(data)
        self._size += len(data)
        if self._size > self._high and not self._connection.choked:
            self._connection.choke(True)
        self._more.set()

    def finish(self) -> None:
        """Close once everything is sent; a client that does not take it in time is cut."""
        if not self._ending:
            self._ending = True
            self._more.set()
            asyncio.get_running_loop().call_later(_LINGER, self.cut)

    def cut(self) -> None:
        """Close at once; what was not taken is thrown away."""
        if not self._task.done():
            self._waiting.clear()
            self._reset()
            self._task.cancel()

    def go_on(self) -> None:
        """Read again."""
        self._readable.set()

    async def feed(self, data: bytes) -> bool:
        """Give bytes to the connection; waits while it is pressed. Return whether more are welcome."""
        self._readable.clear()
        self._connection.receive(data)
        self._door.turn.soon()
        if self._connection.pressed:
            await self._readable.wait()
        return not self._connection.closing

    async def end(self) -> None:
        """The stream is over: write what is left, as far as it goes."""
        self._connection.close()
        self._door.turn.flush()
        self._door.turn.soon()
        self.finish()
        await asyncio.wait([self._task], timeout=_LINGER)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._connection.transport = None

    async def _run(self) -> None:
        try:
            while not (self._ending and not self._waiting):
                await self._more.wait()
                self._more.clear()
                await self._drain()
        finally:
            self._readable.set()
            await self._close()

    async def _drain(self) -> None:
        while self._waiting:
            data = self._waiting.popleft()
            await self._send(data)
            self._size -= len(data)
            if self._connection.choked and self._size < self._high // 4:
                self._connection.choke(False)
                self._door.turn.soon()
