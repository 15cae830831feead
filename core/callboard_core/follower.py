"""Following a directory: events, and the queue between the directory and one reader."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from callboard_core.view import Change, Entry, Key

if TYPE_CHECKING:
    import asyncio

_log = logging.getLogger("callboard.directory")

__all__ = ["Available", "Changed", "Dropped", "Event", "Follower"]


@dataclass(frozen=True, slots=True)
class Available:
    """An entry that was not there before (or not in the filter)."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Changed:
    """An entry whose card or liveness changed."""

    entry: Entry
    before: Entry


@dataclass(frozen=True, slots=True)
class Dropped:
    """An entry that is gone (or no longer in the filter), as it was; the reason is a status or ``removed``."""

    entry: Entry
    reason: str


Event = Available | Changed | Dropped


class Follower:
    """Events of one filter, for one reader: ``for``, ``async for``, or a callback.

    What waits is bounded by the number of entries: of several changes of one entry the last one counts,
    compared with what the reader was told before.
    """

    def __init__(
        self,
        wanted: Container[Entry],
        callback: Callable[[Event], object] | None = None,
        on_close: Callable[[Follower], None] = lambda _: None,
    ) -> None:
        self._wanted = wanted
        self._callback = callback
        self._on_close = on_close
        self._condition = threading.Condition()
        self._delivering = threading.Lock()
        self._waiting: dict[Key, tuple[Entry | None, str]] = {}
        self._order: deque[Key] = deque()  # of what waits, and perhaps of what did
        self._told: dict[Key, Entry] = {}
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._awake: asyncio.Event | None = None

    def push(self, changes: Iterable[Change]) -> None:
        """Take in changes; quick."""
        with self._condition:
            for change in changes:
                self._note(change)
            if self._waiting:
                self._wake()

    def deliver(self) -> None:
        """Run the callback, if there is one, for everything that waits."""
        if self._callback is None:
            return
        with self._delivering:
            while (event := self._next()) is not None:
                try:
                    self._callback(event)
                except Exception:  # noqa: BLE001 - one reader's trouble is not the others'
                    _log.exception("a follower's callback failed")

    def close(self) -> None:
        """End: the loops over this follower finish."""
        with self._condition:
            self._closed = True
            self._waiting.clear()
            self._order.clear()
            self._wake()
        self._on_close(self)

    def get(self, timeout: float | None = None) -> Event | None:
        """Wait for the next event, in seconds at most; None when there was none or the follower is closed."""
        with self._condition:
            while True:
                event = self._next()
                if event is not None or self._closed or not self._condition.wait(timeout):
                    return event

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        while (event := self.get()) is not None:
            yield event

    async def __aiter__(self) -> AsyncIterator[Event]:
        import asyncio  # noqa: PLC0415 - only this face needs it, and it is slow to import

        awake = asyncio.Event()
        with self._condition:
            self._loop, self._awake = asyncio.get_running_loop(), awake
        while not self._closed:
            awake.clear()
            while (event := self._next()) is not None:
                yield event
            if not self._closed:
                await awake.wait()

    def _note(self, change: Change) -> None:
        entry = change.after or change.before
        if entry is None or self._closed:
            return
        key = entry.key
        after = change.after if change.after is not None and change.after in self._wanted else None
        if after is not None or key in self._told:
            if key not in self._waiting:
                self._order.append(key)
            self._waiting[key] = (after, change.reason)
        else:
            self._waiting.pop(key, None)

    def _next(self) -> Event | None:
        with self._condition:
            while self._order:
                key = self._order.popleft()
                waiting = self._waiting.pop(key, None)
                event = self._compare(key, *waiting) if waiting is not None else None
                if event is not None:
                    return event
        return None

    def _compare(self, key: Key, after: Entry | None, reason: str) -> Event | None:
        before = self._told.pop(key, None)
        if after is None:
            return None if before is None else Dropped(before, reason)
        self._told[key] = after
        if before is None:
            return Available(after)
        return None if before == after else Changed(after, before)

    def _wake(self) -> None:
        self._condition.notify_all()
        if self._loop is not None and self._awake is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._awake.set)
