"""Brings an attempt's events and files to the board, in order, until it has them all; keeps the lease alive meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from callboard_core.calls.artifacts import ArtifactRef
from callboard_core.errors import (
    BadRequest,
    CallboardError,
    Expired,
    Failed,
    Forbidden,
    NotFound,
    TooLarge,
)
from callboard_core.farm.messages import AttemptCall, AttemptEvent, AttemptReply
from callboard_nodes.aside import aside
from callboard_nodes.slots.images import content_type
from callboard_nodes.slots.journal import Entry, Journal

__all__ = ["Delivery", "Office", "Store", "is_stale"]

_log = logging.getLogger("callboard.slots")

#: Events in one call, so that it stays well below the limit of a message.
_MOST = 64
_MOST_BYTES = 256 * 1024
#: Seconds between two tries: the first and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
#: Answers that say that the board cannot make sense of us, after which it is left alone.
_MOST_REFUSALS = 10


class Store(Protocol):
    """Keeps files on the board."""

    def put_file(self, path: Path, *, type: str | None = None) -> ArtifactRef:  # noqa: A002 - the field's name
        """Store a file; waits."""


class Office(Protocol):
    """What is needed of the node to reach the board."""

    @property
    def store(self) -> Store:
        """Where files are stored.

        Raises:
            Unavailable: there is no such place at present.
        """

    def tell(self, call: AttemptCall) -> Awaitable[AttemptReply]:
        """Call the board's worker ``attempt``."""

    async def put(self, store: Callable[[], ArtifactRef]) -> ArtifactRef:
        """Run what stores a file in a thread; only so many at a time."""

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond the next connect."""


def is_stale(error: CallboardError) -> bool:
    """Tell whether the board's own answer is that it does not want the attempt (any more).

    A call that was not begun, because the board is only just starting, says nothing about attempts.
    """
    return isinstance(error, NotFound | Expired | Forbidden) and error.type is not None


class Delivery:
    """Delivers one attempt; runs until all is delivered or the board does not know it.

    Args:
        journal: where the events are.
        office: the way to the board.
        on_cancelled: called when the board wants the attempt stopped; how it ended is still told.
        on_stale: called when the board does not know the attempt; nothing more is told.
        on_lost: called with why a file will never be stored.
        on_trouble: called when there is something in the way, or nothing any more.

    Attributes:
        trouble: what is in the way at present, for people.
    """

    def __init__(
        self,
        journal: Journal,
        office: Office,
        *,
        on_cancelled: Callable[[], object],
        on_stale: Callable[[], object],
        on_lost: Callable[[Entry, CallboardError], object],
        on_trouble: Callable[[], object],
    ) -> None:
        self.journal = journal
        self.trouble: str | None = None
        self._office, self._on_cancelled, self._on_stale = office, on_cancelled, on_stale
        self._on_lost, self._on_trouble = on_lost, on_trouble
        self._lease = journal.assignment.lease
        self._told = asyncio.get_running_loop().time()
        self._turn = asyncio.Lock()
        self._news, self._sooner = asyncio.Event(), asyncio.Event()
        self._void = False
        self._progress: tuple[float, float | None] | None = None

    def wake(self) -> None:
        """Note that there is something new in the journal."""
        self._news.set()

    def progress(self, share: float, eta: float | None) -> None:
        """Tell how far the attempt is; only the last word is kept, and sent when nothing else waits."""
        self._progress = (share, eta)

    async def run(self) -> None:
        """Deliver; remove the attempt's folder at the end."""
        beating = asyncio.create_task(self._keep_lease())
        try:
            await self._deliver()
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
        self.journal.close()
        await aside(_remove, self.journal.folder)

    async def _deliver(self) -> None:
        pause, refusals = _FIRST_PAUSE, 0
        while not self._void:
            self._news.clear()
            waiting = _batch(self.journal.waiting)
            if not waiting:
                if self.journal.ended:
                    return
                await self._news.wait()
                continue
            try:
                await self._send(waiting)
            except CallboardError as error:
                refusals += isinstance(error, BadRequest | Failed | Forbidden)
                if self._give_up(error, refusals):
                    return
                self._note_trouble(error.message)
                await self._office.pause(pause)
                pause = min(_LONGEST_PAUSE, pause * 2)
            else:
                self._note_trouble(None)
                pause, refusals = _FIRST_PAUSE, 0

    def _note_trouble(self, trouble: str | None) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            self._on_trouble()

    def _give_up(self, error: CallboardError, refusals: int) -> bool:
        attempt = self.journal.assignment.attempt
        if is_stale(error):
            _log.info("the board does not want attempt %s any more: %s", attempt, error)
        elif refusals >= _MOST_REFUSALS:
            _log.error("the board refuses the events of attempt %s: %s", attempt, error)
        else:
            return False
        self._withdraw()
        return True

    def _withdraw(self) -> None:
        if not self._void:
            self._void = True
            self._news.set()
            self._on_stale()

    async def _send(self, waiting: Sequence[Entry]) -> None:
        # All of them end before anything is tried again: no file is sent twice at a time.
        for outcome in await asyncio.gather(*map(self._store, waiting), return_exceptions=True):
            if outcome is not None:
                raise outcome
        await self._tell([entry.event for entry in waiting])

    async def _tell(self, events: list[AttemptEvent]) -> None:
        """Send events, or only a sign of life.

        Raises:
            CallboardError: as the board answers, or does not.
        """
        async with self._turn:
            call = AttemptCall(attempt=self.journal.assignment.attempt, slot=self.journal.slot, events=events)
            reply = await self._office.tell(call)
            if reply.lease < self._lease:
                self._sooner.set()
            self._told, self._lease = asyncio.get_running_loop().time(), reply.lease
            self.journal.acknowledge(reply.seq)
        if reply.cancel and not self.journal.ended:
            self._on_cancelled()

    async def _store(self, entry: Entry) -> None:
        """Store the files of an event, and put references in their places.

        Raises:
            Unavailable: it cannot be done at present.
        """
        if entry.file is None and entry.thumbnail is None:
            return
        update: dict[str, Any] = {}
        try:
            if entry.file is not None:
                update["artifact"] = await self._put(entry.file)
            if entry.thumbnail is not None:
                update["thumbnail"] = await self._put(entry.thumbnail)
        except (NotFound, Forbidden, TooLarge, BadRequest) as error:
            self._lose(entry, error)
        except OSError as error:
            self._lose(entry, Failed(f"{entry.file} cannot be read any more: {error}"))
        else:
            files = [self.journal.folder / one for one in (entry.file, entry.thumbnail) if one]
            self.journal.replace(entry, entry.event.model_copy(update=update))
            for file in files:  # the board has them now
                file.unlink(missing_ok=True)

    def _lose(self, entry: Entry, error: CallboardError) -> None:
        """Send a line in the place of a file that will never be stored: the numbers must have no gap."""
        event = entry.event
        lines = [f"{event.name or event.frame} cannot be stored: {error.message}"]
        self.journal.replace(entry, AttemptEvent(seq=event.seq, t=event.t, what="log", lines=lines))
        self._on_lost(entry, error)

    async def _put(self, name: str) -> ArtifactRef:
        path = self.journal.folder / name
        store = self._office.store
        return await self._office.put(lambda: store.put_file(path, type=content_type(name)))

    async def _keep_lease(self) -> None:
        """Show the board that we live, thrice in the time of a lease."""
        loop = asyncio.get_running_loop()
        while not self._void:
            self._sooner.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.05, self._told + self._lease / 3 - loop.time())):
                    await self._sooner.wait()
            if loop.time() < self._told + self._lease / 3:
                continue
            self._note_progress()
            if self.journal.waiting and self._news.is_set():
                continue
            try:
                await self._tell([])
            except CallboardError as error:
                if self._give_up(error, 0):
                    return
                with contextlib.suppress(TimeoutError):
                    await self._office.pause(min(_LONGEST_PAUSE, self._lease / 10))

    def _note_progress(self) -> None:
        progress, self._progress = self._progress, None
        if progress is None or self.journal.waiting or self.journal.ended:
            return
        share, eta = progress
        self.journal.append({"what": "progress", "t": time.time(), "progress": share, "eta": eta})
        self._news.set()


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _batch(waiting: Sequence[Entry]) -> list[Entry]:
    """What goes into the next call."""
    found: list[Entry] = []
    size = 0
    for entry in waiting[:_MOST]:
        size += 500 + sum(map(len, entry.event.lines or ()))
        if found and size > _MOST_BYTES:
            break
        found.append(entry)
    return found
