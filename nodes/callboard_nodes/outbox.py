"""Store and forward: readings on disk until the broker has acknowledged them.

Every reading is appended to the newest of a few segment files before it is sent, and a segment goes when everything in
it is acknowledged. So readings survive a broker that is away, a link that drops in the middle, and ``kill -9``.
When there are too many, the oldest are thinned.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from callboard_core.messages import Value
from callboard_core.topics import Kind

__all__ = ["Outbox", "Record", "Ticket", "victim"]

_log = logging.getLogger(__name__)

#: An acknowledged segment smaller than this many bytes is kept for more, because truncating costs a write.
_REUSE = 32 * 1024
_SUFFIX = ".readings"


@dataclass(frozen=True, slots=True)
class Record:
    """One reading as it is stored."""

    kind: Kind
    name: str
    t: float
    v: Value

    def encode(self) -> bytes:
        """Return the record as one line."""
        return (json.dumps([f"{self.kind}/{self.name}", self.t, self.v], ensure_ascii=False) + "\n").encode()

    @classmethod
    def decode(cls, line: bytes) -> Record:
        """Read a line.

        Raises:
            ValueError: it is not a whole record (the last line before a power cut, for one).
        """
        thing, t, v = json.loads(line)
        kind, _, name = thing.partition("/")
        return cls(Kind(kind), name, float(t), v)


@dataclass(frozen=True, slots=True)
class Ticket:
    """What is to be handed back when a reading is acknowledged."""

    segment: int
    session: int


class Segment:
    """One file of records, oldest first; its name carries its number and how often it was thinned."""

    def __init__(self, folder: Path, number: int, level: int, written: int) -> None:
        self.folder, self.number, self.level, self.written = folder, number, level, written
        self.acknowledged = 0

    @property
    def path(self) -> Path:
        return self.folder / f"{self.number:010d}-{self.level}{_SUFFIX}"

    @property
    def waiting(self) -> int:
        return self.written - self.acknowledged

    @classmethod
    def open(cls, path: Path) -> Segment:
        number, _, level = path.name.removesuffix(_SUFFIX).partition("-")
        found = cls(path.parent, int(number), int(level), 0)
        found.written = sum(1 for _ in found.records())
        return found

    def records(self) -> Iterator[Record]:
        """Read the file; a torn line is left out."""
        return self.at(self.path)

    @staticmethod
    def at(path: Path) -> Iterator[Record]:
        """Read the segment in a file."""
        with path.open("rb") as file:
            for line in file:
                try:
                    yield Record.decode(line)
                except (ValueError, TypeError, AttributeError):
                    _log.warning("a damaged line in %s is left out", path)

    def thin(self) -> None:
        """Keep the last record of every pair of each thing."""
        before, self.level = self.path, self.level + 1
        self._replace(_every_second(list(Segment.at(before))))
        before.unlink()

    def absorb(self, older: Segment) -> None:
        """Take in the records of the segment before this one."""
        self._replace([*older.records(), *self.records()])
        older.path.unlink()

    def _replace(self, records: Sequence[Record]) -> None:
        fresh = self.path.with_suffix(".new")
        fresh.write_bytes(b"".join(record.encode() for record in records))
        fresh.replace(self.path)
        self.written, self.acknowledged = len(records), 0


class Outbox:
    """The readings of one node that are not acknowledged yet. Thread-safe.

    Args:
        folder: where the segments lie; made if missing.
        limit: most readings kept; beyond it the oldest are thinned (every second one goes, then every second of
            the rest …), so that a long outage leaves a coarse record rather than a gap.
        segment: most readings per file.

    Attributes:
        thinned: readings given up for lack of room since the start.
        unsaved: readings that could not be written (disk full) since the start.
    """

    def __init__(self, folder: Path, *, limit: int = 100_000, segment: int | None = None) -> None:
        self._folder = folder
        self._limit = limit
        self._per_segment = segment or min(2000, max(10, limit // 32))
        self._lock = threading.RLock()
        self._session = 0
        self._file: int | None = None
        self.thinned = 0
        self.unsaved = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._segments = self._recover()

    @property
    def waiting(self) -> int:
        """Readings that are not acknowledged."""
        with self._lock:
            return sum(segment.waiting for segment in self._segments)

    def append(self, records: Sequence[Record]) -> Ticket | None:
        """Store readings.

        Returns:
            The ticket for :meth:`acknowledge`, or ``None`` if the disk refused: then they are lost unless sent now.
        """
        with self._lock:
            try:
                segment = self._writable()
                os.write(self._descriptor(segment), b"".join(record.encode() for record in records))
            except OSError as error:
                self._refused(len(records), error)
                return None
            segment.written += len(records)
            self._make_room()
            return Ticket(segment.number, self._session)

    def acknowledge(self, ticket: Ticket, count: int) -> None:
        """Note that ``count`` readings stored under a ticket have arrived; late news of an old session is ignored."""
        with self._lock:
            segment = next((one for one in self._segments if one.number == ticket.segment), None)
            if segment is None or ticket.session != self._session:
                return
            segment.acknowledged += count
            if segment.waiting == 0:
                self._drop(segment)

    def interrupted(self) -> None:
        """Note that the link dropped: what was on its way counts as not sent."""
        with self._lock:
            self._session += 1

    def oldest(self) -> tuple[int, list[Record]] | None:
        """Return the oldest unacknowledged segment and its records; nothing more is written to it."""
        with self._lock:
            segment = next((one for one in self._segments if one.waiting), None)
            if segment is None:
                return None
            if segment is self._segments[-1]:
                self._close()
                self._segments.append(self._fresh(segment.number + 1))
            return segment.number, list(segment.records())

    def delivered(self, number: int) -> None:
        """Remove a segment whose records have all been acknowledged."""
        with self._lock:
            for segment in [one for one in self._segments if one.number == number]:
                segment.acknowledged = segment.written
                self._drop(segment)

    def sync(self) -> None:
        """Force what was written to the disk (a power cut comes without notice)."""
        with self._lock:
            if self._file is not None:
                os.fdatasync(self._file)

    def close(self) -> None:
        """Close the file; if nothing waits, leave nothing behind."""
        with self._lock:
            self._close()
            for segment in [one for one in self._segments if not one.waiting]:
                segment.path.unlink(missing_ok=True)

    # -- segments ------------------------------------------------------------------------------------------------

    def _recover(self) -> list[Segment]:
        for leftover in self._folder.glob("*.new"):
            leftover.unlink()
        found = [Segment.open(path) for path in sorted(self._folder.glob(f"*{_SUFFIX}"))]
        for empty in [one for one in found if not one.written]:
            empty.path.unlink()
        found = [one for one in found if one.written]
        return [*found, self._fresh(found[-1].number + 1 if found else 1)]

    def _fresh(self, number: int) -> Segment:
        return Segment(self._folder, number, 0, 0)

    def _writable(self) -> Segment:
        newest = self._segments[-1]
        if newest.written >= self._per_segment:
            self._close()
            newest = self._fresh(newest.number + 1)
            self._segments.append(newest)
        return newest

    def _descriptor(self, segment: Segment) -> int:
        if self._file is None:
            self._file = os.open(segment.path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _drop(self, segment: Segment) -> None:
        """Remove what a fully acknowledged segment holds; the newest one is used again."""
        if segment is not self._segments[-1]:
            self._segments.remove(segment)
            segment.path.unlink(missing_ok=True)
        elif self._file is not None and os.fstat(self._file).st_size >= _REUSE:
            os.ftruncate(self._file, 0)
            segment.written = segment.acknowledged = 0

    def _make_room(self) -> None:
        """Thin until there are no more readings than allowed."""
        while sum(one.written for one in self._segments) > self._limit and len(self._segments) > 1:
            index = victim([(one.written, one.level) for one in self._segments[:-1]])
            segment = self._segments[index]
            before = segment.written
            segment.thin()
            self._lost(before - segment.written)
            if segment.written == before:  # one reading per thing is left: only dropping it makes room
                self._lost(before)
                self._segments.pop(index).path.unlink()
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
        self._close()


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


def _every_second(records: Sequence[Record]) -> list[Record]:
    """Leave out every second record of each thing, counted back from its last one."""
    seen: dict[tuple[Kind, str], int] = {}
    kept: list[Record] = []
    for record in reversed(records):
        key = (record.kind, record.name)
        if seen.get(key, 0) % 2 == 0:
            kept.append(record)
        seen[key] = seen.get(key, 0) + 1
    return kept[::-1]
