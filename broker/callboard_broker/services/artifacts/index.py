"""What is known of the artifacts besides their bytes: type, size, when they were used, and who needs them.

A small SQLite file of its own beside the content, whatever database the board uses: the two belong together, and what
of it is lost can be told from the content again.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Index", "Record"]

_log = logging.getLogger(__name__)

_TABLES = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS artifacts (
    sha256 TEXT PRIMARY KEY, size INTEGER NOT NULL, type TEXT NOT NULL, added REAL NOT NULL, used REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_use ON artifacts (used);
CREATE TABLE IF NOT EXISTS pins (sha256 TEXT, owner TEXT, PRIMARY KEY (sha256, owner)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_owner ON pins (owner);
"""
_UNPINNED = "NOT EXISTS (SELECT 1 FROM pins WHERE pins.sha256 = artifacts.sha256)"


class Record(NamedTuple):
    """One artifact; ``size`` in bytes, times in Unix seconds."""

    sha256: str
    size: int
    type: str
    added: float
    used: float


class Index:
    """Safe from any thread."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            self._db = _open(path)
        except sqlite3.DatabaseError as error:
            _log.error("%s is damaged and was set aside: %s", path, error)
            path.replace(path.with_suffix(".damaged"))
            self._db = _open(path)
        [(self._count, self._size)] = self._db.execute(
            "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM artifacts"
        )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def find(self, sha256: str) -> Record | None:
        """Return one artifact's record."""
        found = self._rows("SELECT * FROM artifacts WHERE sha256 = ?", sha256)
        return Record(*found[0]) if found else None

    def after(self, sha256: str, limit: int) -> list[Record]:
        """Return records in the order of their hashes, from behind one on."""
        found = self._rows("SELECT * FROM artifacts WHERE sha256 > ? ORDER BY sha256 LIMIT ?", sha256, limit)
        return [Record(*row) for row in found]

    def names(self) -> set[str]:
        """Return the hashes of all."""
        return {row[0] for row in self._rows("SELECT sha256 FROM artifacts")}

    def total(self) -> tuple[int, int]:
        """Return how many there are, and their bytes."""
        with self._lock:
            return self._count, self._size

    def unused(self, before: float, limit: int) -> list[Record]:
        """Return what nobody needs and nobody has used since, the longest unused first."""
        return [
            Record(*row)
            for row in self._rows(
                f"SELECT * FROM artifacts WHERE used < ? AND {_UNPINNED} ORDER BY used LIMIT ?",  # noqa: S608 - a constant
                before,
                limit,
            )
        ]

    def add(self, record: Record) -> Record:
        """Note an artifact; of one that is known, when it was used. Returns what is known now."""
        with self._lock, self._db:
            touched = self._db.execute(
                "UPDATE artifacts SET used = ? WHERE sha256 = ? RETURNING *", (record.used, record.sha256)
            ).fetchone()
            if touched is not None:
                return Record(*touched)
            self._db.execute("INSERT INTO artifacts VALUES (?, ?, ?, ?, ?)", record)
            self._count += 1
            self._size += record.size
            return record

    def remove(self, sha256: str) -> None:
        """Forget an artifact, but not who needs it: it may come again."""
        with self._lock, self._db:
            for (size,) in self._db.execute(
                "DELETE FROM artifacts WHERE sha256 = ? RETURNING size", (sha256,)
            ).fetchall():
                self._count -= 1
                self._size -= size

    def touch(self, sha256: str, now: float) -> None:
        """Note that an artifact was used."""
        self._do("UPDATE artifacts SET used = ? WHERE sha256 = ?", [(now, sha256)])

    def pin(self, owner: str, names: Iterable[str]) -> None:
        """Note that somebody needs artifacts."""
        self._do("INSERT OR IGNORE INTO pins VALUES (?, ?)", [(sha256, owner) for sha256 in names])

    def unpin(self, owner: str) -> None:
        """Note that somebody needs nothing any more."""
        self._do("DELETE FROM pins WHERE owner = ?", [(owner,)])

    def owners(self, sha256: str) -> list[str]:
        """Return who needs an artifact."""
        return [
            row[0] for row in self._rows("SELECT owner FROM pins WHERE sha256 = ? ORDER BY owner", sha256)
        ]

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(statement, values).fetchall()

    def _do(self, statement: str, values: list[tuple[object, ...]]) -> None:
        with self._lock, self._db:
            self._db.executemany(statement, values)


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, check_same_thread=False)
    try:
        db.executescript(_TABLES)
    except BaseException:
        db.close()
        raise
    return db
