"""What happens, passed on to whoever listens over HTTP. Bounded: who does not keep up is let go and counted."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import NamedTuple

from callboard_core.errors import Overloaded

__all__ = ["Feed", "Happening", "Listener"]

#: Events that may wait for one listener, and listeners at a time.
BACKLOG = 2000
LISTENERS = 100
#: Events that may wait for the event loop.
_INCOMING = 50_000


class Happening(NamedTuple):
    """One event: its name and its JSON."""

    name: str
    data: bytes


class Listener:
    """One who listens; only used on the event loop."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self.queue: asyncio.Queue[Happening | None] = asyncio.Queue(BACKLOG + 1)

    async def events(self, every: float) -> AsyncIterator[Happening | None]:
        """Yield events as they come, None after ``every`` seconds of silence; ends when let go."""
        while True:
            try:
                found = await asyncio.wait_for(self.queue.get(), every)
            except TimeoutError:
                yield None
                continue
            if found is None:
                return
            yield found


class Feed:
    """Publish from any thread; listen on the event loop it was made on.

    Attributes:
        let_go: listeners that were too slow.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.let_go = 0
        self._loop = loop
        self._listeners: set[Listener] = set()
        self._incoming: deque[Happening] = deque()
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
        if not self._listeners or len(self._incoming) >= _INCOMING or self._loop.is_closed():
            return
        self._incoming.append(Happening(name, data))
        if not self._scheduled:
            self._scheduled = True
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
        self._scheduled = False
        while self._incoming:
            happening = self._incoming.popleft()
            for listener in list(self._listeners):
                if happening.name in listener.names:
                    self._pass(listener, happening)

    def _pass(self, listener: Listener, happening: Happening) -> None:
        if listener.queue.qsize() < BACKLOG:
            listener.queue.put_nowait(happening)
        else:
            self.let_go += 1
            self._end(listener)

    def _end(self, listener: Listener) -> None:
        self._listeners.discard(listener)
        while not listener.queue.empty():
            listener.queue.get_nowait()
        listener.queue.put_nowait(None)
