"""What was refused: counted, the last hundred kept with topic, sender, reason and size."""

from __future__ import annotations

import threading
from collections import deque
from typing import Protocol

from sqlalchemy import Connection

from callboard_broker.services.writer import Job
from callboard_broker.store import refused
from callboard_broker.store.refused import KEPT, RefusedRecord
from callboard_core.errors import BadRequest, Overloaded
from callboard_core.topics import check_id

__all__ = ["Notes", "Refusals", "sender"]

#: Longest topic and reason that are kept, in characters.
_TEXT = 500


class Notes(Protocol):
    """Who writes to the database for us."""

    def submit(self, key: object, job: Job) -> None:
        """Run ``job`` in a transaction soon."""


def sender(topic: str) -> str | None:
    """Return the node a topic belongs to, as far as it tells."""
    levels = topic.split("/")
    try:
        return check_id(levels[1])
    except (BadRequest, IndexError):
        return None


class Refusals:
    """Safe to use from any thread."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._lock = threading.Lock()
        self._kept: deque[RefusedRecord] = deque(maxlen=KEPT)
        self._count = 0

    def load(self, connection: Connection) -> None:
        """Go on where the last run ended."""
        self._kept.extend(refused.load(connection))
        self._count = refused.count(connection)

    @property
    def count(self) -> int:
        """How many messages were ever refused."""
        return self._count

    def items(self) -> list[RefusedRecord]:
        """Return what is kept, newest first."""
        with self._lock:
            return list(self._kept)[::-1]

    def add(self, topic: str, reason: str, size: int, t: float, node: str | None = None) -> None:
        """Note a refused message.

        Args:
            topic: where it was published.
            reason: one sentence.
            size: bytes of its payload.
            t: when it arrived, Unix seconds by the board's clock.
            node: who sent it, if the topic does not tell.
        """
        record = RefusedRecord(t, _clean(topic), node or sender(topic), _clean(reason), size)
        with self._lock:
            self._kept.append(record)
            self._count += 1
        try:
            self._notes.submit("refused", self._save)
        except Overloaded:
            return  # kept in memory; the next one that is noted takes it along

    def _save(self, connection: Connection) -> None:
        with self._lock:
            count, kept = self._count, list(self._kept)
        new = min(count - refused.count(connection), len(kept))
        if new > 0:
            refused.add(connection, kept[-new:], count)


def _clean(text: str) -> str:
    # PostgreSQL stores no NUL.
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")[:_TEXT]
