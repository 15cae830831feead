"""Store and forward: readings on disk until they have arrived.

Every reading is appended to the newest of a few segment files before it is sent, and a segment goes some time after
everything in it was acknowledged. So readings survive a broker or board that is away, a link that drops in the middle,
and ``kill -9``. When there are too many, the oldest are thinned.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from callboard_nodes.segments import SUFFIX, Record, Segment

__all__ = ["GRACE", "Outbox", "Ticket", "victim"]

_log = logging.getLogger(__name__)

#: Seconds for which readings are kept after the broker has acknowledged them. Whoever receives them may be killed with
#: some of them in memory; they are then sent again. It covers the time a silent client takes to be noticed.
GRACE = 30.0


@dataclass(frozen=True, slots=True)
class Ticket:
    """What is to be handed back when a reading is acknowledged."""

    segment: int
    session: int


class Outbox:
    """The readings of one node that have not arrived yet. Thread-safe.

    Args:
        folder: where the segments lie; made if missing.
        limit: most readings kept; beyond it the oldest are thinned (every second one goes, then every second of
            the rest …), so that a long outage leaves a coarse record rather than a gap.
        segment: most readings per file.
        grace: see :data:`GRACE`.

    Attributes:
        thinned: readings given up for lack of room since the start.
        unsaved: readings that could not be written (disk full) since the start.
    """

    def __init__(
        self, folder: Path, *, limit: int = 100_000, segment: int | None = None, grace: float = GRACE
    ) -> None:
        self._folder = folder
        self._limit = limit
        self._grace = grace
        self._per_segment = segment or min(2000, max(10, limit // 32))
        self._lock = threading.RLock()
        self._session = 0
        self.thinned = 0
        self.unsaved = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._segments = self._recover()

    @property
    def waiting(self) -> int:
        """Readings that have not arrived, as far as is known."""
        with self._lock:
            return sum(segment.waiting for segment in self._segments)

    def append(self, records: Sequence[Record]) -> Ticket | None:
        """Store readings.

        Returns:
            The ticket for :meth:`acknowledge`, or ``None`` if the disk refused: then they are lost unless sent now.
        """
        with self._lock:
            try:
                self._forget_arrived()
                segment = self._writable()
                segment.append(records)
                self._make_room()
            except OSError as error:
                self._refused(len(records), error)
                return None
            return Ticket(segment.number, self._session)

    def acknowledge(self, ticket: Ticket, count: int) -> None:
        """Note that ``count`` readings stored under a ticket have arrived; late news of an old session is ignored."""
        with self._lock:
            for segment in self._segments:
                if segment.number == ticket.segment and ticket.session == self._session:
                    segment.acknowledged += count

    def interrupted(self) -> None:
        """Note that somebody on the way was gone: what was sent last counts as not sent."""
        with self._lock:
            self._session += 1
            self._forget_arrived()
            for segment in self._segments:
                segment.acknowledged = 0

    def oldest(self) -> tuple[int, list[Record]] | None:
        """Return the oldest segment that waits and its records; nothing more is written to it."""
        with self._lock:
            segment = next((one for one in self._segments if one.waiting), None)
            if segment is None:
                return None
            if segment is self._segments[-1]:
                self._roll()
            return segment.number, list(segment.records())

    def delivered(self, number: int) -> None:
        """Note that all records of a segment have arrived."""
        with self._lock:
            for segment in self._segments:
                if segment.number == number:
                    segment.acknowledged = segment.written

    def sync(self) -> None:
        """Force what was written to the disk (a power cut comes without notice)."""
        with self._lock:
            self._segments[-1].sync()

    def close(self) -> None:
        """Close the file, and leave only what waits."""
        with self._lock:
            for segment in self._segments:
                segment.close()
                if not segment.waiting:
                    segment.remove()

    # -- segments ------------------------------------------------------------------------------------------------

    def _recover(self) -> list[Segment]:
        for leftover in self._folder.glob("*.new"):
            leftover.unlink()
        found = [Segment.open(path) for path in sorted(self._folder.glob(f"*{SUFFIX}"))]
        for segment in found:
            if not segment.written:
                segment.remove()
        found = [segment for segment in found if segment.written]
        return [*found, Segment(self._folder, found[-1].number + 1 if found else 1)]

    def _writable(self) -> Segment:
        newest = self._segments[-1]
        arrived = bool(newest.written) and not newest.waiting
        if newest.written >= self._per_segment or (arrived and self._past(newest.began)):
            self._roll()
        return self._segments[-1]

    def _roll(self) -> None:
        newest = self._segments[-1]
        newest.close()
        self._segments.append(Segment(self._folder, newest.number + 1))

    def _forget_arrived(self) -> None:
        """Remove segments of which everything has arrived long enough ago."""
        for segment in self._segments[:-1]:
            if not segment.waiting and self._past(segment.touched):
                self._remove(segment)

    def _past(self, moment: float) -> bool:
        return time.monotonic() - moment >= self._grace

    def _remove(self, segment: Segment) -> None:
        self._segments.remove(segment)
        segment.remove()

    def _make_room(self) -> None:
        """Until there are no more readings than allowed: drop what has arrived, then thin."""
        while sum(one.written for one in self._segments) > self._limit and len(self._segments) > 1:
            arrived = next((one for one in self._segments[:-1] if not one.waiting), None)
            if arrived is not None:
                self._remove(arrived)
            else:
                self._thin(victim([(one.written, one.level) for one in self._segments[:-1]]))

    def _thin(self, index: int) -> None:
        segment = self._segments[index]
        before = segment.written
        segment.thin()
        self._lost(before - segment.written)
        if segment.written == before:  # one reading per thing is left: only dropping it makes room
            self._lost(before)
            self._remove(segment)
        elif index:
            self._merge(index)

    def _merge(self, index: int) -> None:
        """Join a segment with the one before it if they are alike and small, so that files stay few."""
        older, segment = self._segments[index - 1 : index + 1]
        if older.level == segment.level and older.written + segment.written <= self._per_segment:
            segment.absorb(self._segments.pop(index - 1))

    def _lost(self, count: int) -> None:
        if self.thinned == 0:
            _log.warning("the outbox is full (%d readings): the oldest are thinned", self._limit)
        self.thinned += count

    def _refused(self, count: int, error: OSError) -> None:
        if self.unsaved == 0:
            _log.warning("readings cannot be kept in %s: %s; free some space", self._folder, error)
        self.unsaved += count
        if self._segments[-1].written:
            self._roll()  # half a line may have been written
        else:
            self._segments[-1].remove()


def victim(segments: Sequence[tuple[int, int]]) -> int:
    """Choose which segment to thin: the one whose age, halved for each time it was thinned, is largest.

    So resolution falls with age: half of it for what is twice as old, and so on, and the beginning is never given up.

    Args:
        segments: readings and how often they were thinned, oldest first; not empty.
    """
    age, scores = 0, []
    for written, level in reversed(segments):
        age += written << level
        scores.append(age / 2**level)
    return len(scores) - 1 - scores.index(max(scores))
