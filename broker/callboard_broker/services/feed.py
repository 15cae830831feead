"""What happens, passed on to whoever listens over HTTP. Bounded: who does not keep up is let go and counted."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from typing import NamedTuple

from callboard_core.errors import Overloaded

__all__ = ["Feed", "Happening", "Listener"]

#: Events and bytes that may wait for one listener, and listeners at a time.
BACKLOG = 2000
BACKLOG_BYTES = 8 * 1024 * 1024
LISTENERS = 100
#: Events and bytes that may wait for the event loop; more are left out.
_INCOMING = 50_000
_INCOMING_BYTES = 64 * 1024 * 1024


class Happening(NamedTuple):
    """One event: its name and its JSON."""

    name: str
    data: bytes


class Listener:
    """One who listens; only used on the event loop."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self._queue: asyncio.Queue[Happening | None] = asyncio.Queue()
        self._bytes = 0

    def put(self, happening: Happening) -> bool:
        """Have an event wait for being read; False if too much waits."""
        if self._queue.qsize() >= BACKLOG or self._bytes + len(happening.data) > BACKLOG_BYTES:
            return False
        self._bytes += len(happening.data)
        self._queue.put_nowait(happening)
        return True

    def end(self) -> None:
        """Drop what waits and end the stream."""
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    async def events(self, every: float) -> AsyncIterator[Happening | None]:
        """Yield events as they come, None after ``every`` seconds of silence; ends when let go."""
        while True:
            try:
                # Not `wait_for`: before Python 3.12 that loses a cancellation that comes together with an event.
                async with asyncio.timeout(every):
                    found = await self._queue.get()
            except TimeoutError:
                yield None
                continue
            if found is None:
                return
            self._bytes -= len(found.data)
            yield found


class Feed:
    """Publish from any thread; listen on the event loop it was made on.

    Attributes:
        let_go: listeners that were too slow.
        left_out: events nobody got because the event loop was too slow.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.let_go = 0
        self.left_out = 0
        self._loop = loop
        self._listeners: set[Listener] = set()
        self._incoming: deque[Happening] = deque()
        self._incoming_bytes = 0
        self._lock = threading.Lock()
        self._scheduled = False

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    def wants(self, name: str) -> bool:
        """Tell whether anybody listens for events of this name; making them is not free."""
        if not self._listeners:
            return False
        return any(name in listener.names for listener in self._listeners.copy())

    def publish(self, name: str, data: bytes) -> None:
        """Pass an event on."""
        if not self._listeners:
            return
        with self._lock:
            if len(self._incoming) >= _INCOMING or self._incoming_bytes >= _INCOMING_BYTES:
                self.left_out += 1
                return
            self._incoming.append(Happening(name, data))
            self._incoming_bytes += len(data)
            wake, self._scheduled = not self._scheduled, True
        if wake and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver)

    def listen(self, names: frozenset[str]) -> Listener:
        """Begin to listen.

        Raises:
            Overloaded: too many do already.
        """
        if len(self._listeners) >= LISTENERS:
            raise Overloaded(f"{LISTENERS} listeners are connected already; close one first")
        listener = Listener(names)
        self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Stop listening."""
        self._listeners.discard(listener)

    def close(self) -> None:
        """Let everybody go."""
        for listener in list(self._listeners):
            self._end(listener)

    def _deliver(self) -> None:
        with self._lock:
            happenings, self._incoming = self._incoming, deque()
            self._incoming_bytes = 0
            self._scheduled = False
        for happening in happenings:
            for listener in list(self._listeners):
                if happening.name in listener.names and not listener.put(happening):
                    self.let_go += 1
                    self._end(listener)

    def _end(self, listener: Listener) -> None:
        self._listeners.discard(listener)
        listener.end()
