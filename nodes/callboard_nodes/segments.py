"""One file of readings that wait: its lines, and how it is thinned. What is kept when is decided elsewhere."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from callboard_core.messages import Value
from callboard_core.topics import Kind

__all__ = ["SUFFIX", "Record", "Segment"]

_log = logging.getLogger(__name__)

SUFFIX = ".readings"


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


class Segment:
    """A file of records, oldest first; its name carries its number and how often it was thinned.

    Attributes:
        written: records in the file.
        acknowledged: how many of them have arrived.
        touched: when the last one was written, on the monotonic clock.
    """

    def __init__(self, folder: Path, number: int, level: int = 0) -> None:
        self.folder, self.number, self.level = folder, number, level
        self.written = self.acknowledged = 0
        self.began = self.touched = time.monotonic()
        self._file: int | None = None

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.folder / f"{self.number:010d}-{self.level}{SUFFIX}"

    @property
    def waiting(self) -> int:
        """Records that have not arrived."""
        return max(0, self.written - self.acknowledged)

    @classmethod
    def open(cls, path: Path) -> Segment:
        """Take up a file that an earlier process wrote."""
        number, _, level = path.name.removesuffix(SUFFIX).partition("-")
        found = cls(path.parent, int(number), int(level))
        found.written = sum(1 for _ in found.records())
        return found

    def append(self, records: Sequence[Record]) -> None:
        """Write records at the end.

        Raises:
            OSError: they could not be written, or not whole; nothing more may be written to this segment then.
        """
        if self._file is None:
            self._file = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        data = b"".join(record.encode() for record in records)
        if os.write(self._file, data) != len(data):
            raise OSError("no room for the whole of it")
        self.written += len(records)
        self.touched = time.monotonic()

    def records(self) -> Iterator[Record]:
        """Read the file; a torn line is left out."""
        return _read(self.path)

    def sync(self) -> None:
        """Force what was written to the disk."""
        if self._file is not None:
            os.fdatasync(self._file)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def remove(self) -> None:
        """Delete the file."""
        self.close()
        self.path.unlink(missing_ok=True)

    def thin(self) -> None:
        """Keep the last record of every pair of each thing."""
        before, self.level = self.path, self.level + 1
        self._replace(_every_second(list(_read(before))))
        before.unlink()

    def absorb(self, older: Segment) -> None:
        """Take in the records of the segment before this one."""
        self._replace([*older.records(), *self.records()])
        older.remove()

    def _replace(self, records: Sequence[Record]) -> None:
        fresh = self.path.with_suffix(".new")
        fresh.write_bytes(b"".join(record.encode() for record in records))
        fresh.replace(self.path)
        self.written, self.acknowledged = len(records), 0


def _read(path: Path) -> Iterator[Record]:
    try:
        file = path.open("rb")
    except FileNotFoundError:  # nothing was written to it yet
        return
    with file:
        for line in file:
            try:
                yield Record.decode(line)
            except (ValueError, TypeError, AttributeError):
                _log.warning("a damaged line in %s is left out", path)


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
