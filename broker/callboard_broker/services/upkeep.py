"""Rolling readings up, and removing what is older than it need be, in steps short enough to go unnoticed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from callboard_broker.store import audit, readings, rollups, statuses, tokens
from callboard_broker.store.database import Database
from callboard_broker.store.rollups import HOUR, MINUTE, Level
from callboard_core.settings import AuditLog, History

__all__ = ["Keep", "Upkeep"]

_DAY = 24 * HOUR
#: Microseconds a minute stays open for readings that are on their way.
_GRACE = 5_000_000
#: Minutes rolled up per transaction.
_ROLL_STEP = 500
#: Rows removed per transaction, and seconds after which a transaction ends anyway.
_REMOVE_STEP = 5000
_STEP_SECONDS = 0.05
#: When the disk is full, this part of the raw data makes room at a time.
_SHED_PART = 20


@dataclass(frozen=True, slots=True)
class Keep:
    """How long each level is kept, in microseconds; the audit log in seconds and in records."""

    raw: int
    minute: int
    hour: int
    audit: float = 365 * 86_400.0
    audit_records: int = 1_000_000

    @classmethod
    def of(cls, history: History, audit: AuditLog | None = None) -> Keep:
        """Read the settings."""
        kept = audit or AuditLog()
        return cls(
            int(history.raw_days * _DAY),
            int(history.minute_days * _DAY),
            int(history.hour_days * _DAY),
            kept.days * 86_400,
            kept.records,
        )


class Upkeep:
    """Belongs to the writer's thread.

    Attributes:
        horizons: until when (µs) each level has been thinned; older readings are merged into the roll-ups.
        unrolled: the minutes that are marked in the database already.
        shed: raw readings removed early because the disk was full.
    """

    def __init__(self, database: Database, keep: Keep, clock: Callable[[], float] = time.time) -> None:
        self.horizons: dict[Level, int] = {}
        self.unrolled: set[tuple[int, int]] = set()
        self.shed = 0
        self._database = database
        self._keep = keep
        self._clock = clock

    def load(self) -> None:
        """Read where the last run ended."""
        with self._database.read() as connection:
            self.horizons = {Level(level): until for level, until in rollups.horizons(connection).items()}
            self.unrolled = set(rollups.unrolled(connection))

    def horizon(self, level: Level) -> int:
        """Return until when (µs) a level has been thinned; 0 if never."""
        return self.horizons.get(level, 0)

    def roll(self) -> Iterator[int]:
        """Roll up every minute that is over; yields after each transaction."""
        with self._database.write() as connection:
            merged = rollups.merge_late(connection, self.horizon(Level.MINUTE))
        yield merged
        before = int(self._clock() * 1e6) - MINUTE - _GRACE
        done = [(0, 0)] * _ROLL_STEP
        while len(done) == _ROLL_STEP:
            with self._database.write() as connection:
                done = rollups.roll(connection, before, self.horizon(Level.MINUTE), _ROLL_STEP)
            self.unrolled.difference_update(done)
            yield len(done)

    def thin(self) -> Iterator[int]:
        """Remove what is older than it is kept; yields after each transaction."""
        now = int(self._clock() * 1e6)
        yield from self._thin_raw(self._cutoff(now - self._keep.raw, MINUTE))
        yield from self._thin_level(Level.MINUTE, "minutes", self._cutoff(now - self._keep.minute, HOUR))
        yield from self._thin_level(Level.HOUR, "hours", self._cutoff(now - self._keep.hour, HOUR))
        yield from self._remove("texts", now - self._keep.minute)
        yield from self._tidy(now / 1e6, self._keep.hour / 1e6)

    def make_room(self) -> int:
        """Remove some of the oldest readings before their time; return how many."""
        with self._database.read() as connection:
            found = readings.oldest(connection, "readings")
        if not found:
            return 0
        first, last = min(found.values()), int(self._clock() * 1e6)
        cutoff = self._cutoff(first + max(MINUTE, (last - first) // _SHED_PART), MINUTE)
        removed = sum(self._thin_raw(cutoff))
        self.shed += removed
        return removed

    def _cutoff(self, t: int, unit: int) -> int:
        # What is not rolled up yet stays, however old.
        waiting = min((minute for _, minute in self.unrolled), default=t)
        limit = min(t, waiting)
        return limit - limit % unit

    def _thin_raw(self, cutoff: int) -> Iterator[int]:
        yield from self._thin_level(Level.RAW, "readings", cutoff)
        with self._database.read() as connection:
            found = readings.oldest(connection, "texts")
        for series, first in found.items():
            if first < cutoff:
                with self._database.write() as connection:
                    removed = readings.remove_repeated_texts(connection, series, first, cutoff)
                yield removed

    def _thin_level(self, level: Level, table: str, cutoff: int) -> Iterator[int]:
        if cutoff > self.horizon(level):
            with self._database.write() as connection:
                rollups.set_horizon(connection, level, cutoff)
            self.horizons[level] = cutoff
        yield from self._remove(table, self.horizon(level))

    def _remove(self, table: str, before: int) -> Iterator[int]:
        with self._database.read() as connection:
            found = readings.oldest(connection, table)
        due = [series for series, first in found.items() if first < before]
        while due:
            yield self._remove_step(table, due, before)

    def _remove_step(self, table: str, due: list[int], before: int) -> int:
        """One transaction; takes the series that are finished off the list."""
        removed, started = 0, time.monotonic()
        finished = 0
        with self._database.write() as connection:
            for series in reversed(due):
                rows = readings.remove_before(connection, table, series, before, _REMOVE_STEP)
                removed += rows
                finished += rows < _REMOVE_STEP
                if removed >= _REMOVE_STEP or time.monotonic() - started > _STEP_SECONDS:
                    break
        del due[len(due) - finished :]
        return removed

    def _tidy(self, now: float, statuses_kept: float) -> Iterator[int]:
        with self._database.write() as connection:
            words = readings.remove_unused_words(connection, _REMOVE_STEP)
            tokens.remove_expired(connection, now)
            old = statuses.thin(connection, now - statuses_kept)
        yield words + old
        removed = _REMOVE_STEP
        while removed == _REMOVE_STEP:
            with self._database.write() as connection:
                removed = audit.thin(
                    connection, now - self._keep.audit, self._keep.audit_records, _REMOVE_STEP
                )
            yield removed
