"""The one thread that writes to the database: readings in batches, small jobs, and upkeep in between.

Whatever the database does (locked, stopped, disk full) the thread keeps what it has and tries again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from enum import StrEnum

from sqlalchemy import Connection

from callboard_broker.services.buffer import Buffer, Item
from callboard_broker.services.disk import is_low, minimum, room
from callboard_broker.services.upkeep import Upkeep
from callboard_broker.store import readings, rollups, series
from callboard_broker.store.database import Database, Trouble, trouble
from callboard_broker.store.rollups import MINUTE, Level
from callboard_core.errors import Overloaded

__all__ = ["Condition", "Job", "Writer"]

_log = logging.getLogger(__name__)

Job = Callable[[Connection], None]

#: Readings per transaction: large enough to be fast, small enough to be short (50 ms).
BATCH = 20_000
#: Jobs per transaction, and how many may wait.
_JOBS = 500
_JOBS_WAITING = 100_000
#: Seconds between two rounds of rolling up, of thinning, and two looks at the disk.
_ROLL_EVERY = 5.0
_THIN_EVERY = 60.0
_LOOK_EVERY = 2.0
#: Seconds before trying again, from first to most.
_RETRY = (0.1, 2.0)
#: Seconds a write may take before it counts as stalled.
_SLOW = 5.0


class Condition(StrEnum):
    """How writing goes."""

    WELL = "well"
    STALLED = "stalled"
    FULL = "full"


class Writer:
    """Start it after the database is open.

    Attributes:
        written: readings that reached the database.
        duplicates: readings that were there already.
        stalls: writes that had to be tried again.
        problem: why the last write failed; empty when it did not.
        low: True while the database is not allowed to grow, because the disk is nearly full.
    """

    def __init__(
        self,
        database: Database,
        buffer: Buffer,
        upkeep: Upkeep,
        *,
        flush_seconds: float,
        min_free: int,
    ) -> None:
        self.written = 0
        self.duplicates = 0
        self.stalls = 0
        self.problem = ""
        self.low = False
        self.shortage = ""
        self._database = database
        self._buffer = buffer
        self._upkeep = upkeep
        self._flush_seconds = flush_seconds
        self._min_free = min_free
        self._condition = Condition.WELL
        self._busy_since: float | None = None
        self._jobs: dict[Hashable, Job] = {}
        self._jobs_lock = threading.Lock()
        self._rounds = 0
        self._round_done = threading.Condition()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._chores: Iterator[int] = iter(())
        self._due = {"roll": 0.0, "thin": time.monotonic() + _THIN_EVERY, "look": 0.0}

    @property
    def condition(self) -> Condition:
        """How writing goes now; a write that does not return is a stall too."""
        if self._condition is Condition.WELL and self.stalled_for > _SLOW:
            return Condition.STALLED
        return self._condition

    @property
    def stalled_for(self) -> float:
        """Seconds since the write that has not succeeded yet began; 0 when there is none."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def jobs_waiting(self) -> int:
        """How many jobs wait."""
        return len(self._jobs)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Write what is buffered and end; False if that takes longer than ``timeout`` seconds."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def submit(self, key: Hashable, job: Job) -> None:
        """Have ``job`` run in a transaction soon; a job with the same key that still waits is replaced.

        Raises:
            Overloaded: too many wait because the database does not answer.
        """
        with self._jobs_lock:
            if len(self._jobs) >= _JOBS_WAITING and key not in self._jobs:
                raise Overloaded("the database has not answered for long; nothing more can be noted")
            self._jobs.pop(key, None)
            self._jobs[key] = job

    def wait_written(self, timeout: float) -> bool:
        """Wait until all that was added before is written; False after ``timeout`` seconds."""
        with self._round_done:
            # The round in progress may have looked before we added.
            wanted = self._rounds + 2
            self._wake.set()
            return self._round_done.wait_for(lambda: self._nudged(wanted), timeout)

    def _nudged(self, wanted: int) -> bool:
        if self._rounds >= wanted:
            return True
        self._wake.set()
        return False

    def _run(self) -> None:
        pause = 0.0
        loaded = False
        while True:
            self._wake.wait(max(pause, 0 if self._stopping.is_set() else self._flush_seconds))
            self._wake.clear()
            try:
                if not loaded:
                    self._upkeep.load()
                    loaded = True
                self._round()
                pause = 0.0
            except Exception as error:  # noqa: BLE001 - whatever it is, the next round must come
                pause = self._failed(error, pause)
            if self._stopping.is_set() and (not pause or pause >= _RETRY[1]):
                return

    def _round(self) -> None:
        self._begin()
        self._look_at_disk()
        while self._write_jobs():
            pass
        while self._write_readings():
            pass
        self._succeeded()
        self._do_chores()

    def _begin(self) -> None:
        if self._busy_since is None:
            self._busy_since = time.monotonic()

    def _succeeded(self) -> None:
        if self._condition is not Condition.WELL:
            _log.warning("the database takes writes again")
        self._busy_since = None
        self._condition = Condition.WELL
        self.problem = ""
        with self._round_done:
            self._rounds += 1
            self._round_done.notify_all()

    def _failed(self, error: Exception, pause: float) -> float:
        """Note what went wrong; return the seconds to wait."""
        self._chores = iter(())
        what = trouble(error)
        if what is Trouble.BUG:
            _log.error("a write failed for good", exc_info=error)
            self._busy_since = None
            return _RETRY[0]
        self.stalls += 1
        condition = Condition.FULL if what is Trouble.FULL else Condition.STALLED
        if condition is not self._condition:
            _log.warning("the database takes no writes (%s): %s", what.value, error)
        self._condition = condition
        self.problem = str(getattr(error, "orig", error)).strip()
        if what is Trouble.FULL and self._make_room():
            return 0.01
        return min(max(pause * 2, _RETRY[0]), _RETRY[1])

    def _make_room(self) -> bool:
        try:
            return self._upkeep.make_room() > 0
        except Exception as error:  # noqa: BLE001 - a full disk may refuse even a removal
            _log.debug("no room can be made: %s", error)
            return False

    def _look_at_disk(self) -> None:
        path = self._database.path
        if path is None or not self._is_due("look", _LOOK_EVERY):
            return
        free, least = room(path), minimum(path, self._min_free)
        low = is_low(free, least, was_low=self.low)
        self.shortage = (
            f"{free >> 20} MiB are free, history.min_free_mb asks for {least >> 20}" if low else ""
        )
        if low != self.low:
            _log.warning(
                "%s", f"the disk is nearly full: {self.shortage}" if low else "the disk has room again"
            )
        self.low = low
        self._database.may_grow = not low

    def _is_due(self, what: str, every: float) -> bool:
        now = time.monotonic()
        if now < self._due[what]:
            return False
        self._due[what] = now + every
        return True

    def _write_jobs(self) -> bool:
        with self._jobs_lock:
            batch = dict(list(self._jobs.items())[:_JOBS])
        if not batch:
            return False
        try:
            with self._database.write() as connection:
                for job in batch.values():
                    job(connection)
        except Exception as error:
            if trouble(error) is not Trouble.BUG:
                raise
            self._write_apart(batch)
        self._finish_jobs(batch)
        return True

    def _write_apart(self, batch: dict[Hashable, Job]) -> None:
        """One of these jobs cannot succeed; the others shall."""
        for key, job in batch.items():
            try:
                with self._database.write() as connection:
                    job(connection)
            except Exception as error:
                if trouble(error) is not Trouble.BUG:
                    raise
                _log.error("%s cannot be stored", key, exc_info=error)
            self._finish_jobs({key: job})

    def _finish_jobs(self, batch: dict[Hashable, Job]) -> None:
        with self._jobs_lock:
            for key, job in batch.items():
                if self._jobs.get(key) is job:
                    del self._jobs[key]

    def _write_readings(self) -> bool:
        items = self._buffer.take(BATCH)
        if not items:
            return False
        try:
            self._store(items)
        except Exception as error:
            if trouble(error) is Trouble.BUG:
                self._buffer.drop(items)
            else:
                self._buffer.put_back(items)
            raise
        self._buffer.settle(items)
        return len(items) == BATCH

    def _store(self, items: list[Item]) -> None:
        kept = self._upkeep.horizon(Level.RAW)
        with self._database.write() as connection:
            numbers = _numbers(connection, items)
            rows = sorted(
                (numbers[i.series.thing], i.t, i.value) for i in items if not isinstance(i.value, str)
            )
            texts = [(numbers[i.series.thing], i.t, i.value) for i in items if isinstance(i.value, str)]
            recent = [row for row in rows if row[1] >= kept]
            new = readings.insert(connection, recent)
            new += readings.insert(connection, [row for row in rows if row[1] < kept], "late")
            new += readings.insert_texts(connection, texts)
            marks = {(row[0], row[1] - row[1] % MINUTE) for row in recent} - self._upkeep.unrolled
            rollups.mark(connection, marks)
        self._upkeep.unrolled |= marks
        for item in items:
            item.series.number = numbers[item.series.thing]
        self.written += new
        self.duplicates += len(items) - new

    def _do_chores(self) -> None:
        """Go on with the upkeep until readings wait again."""
        if self._stopping.is_set():
            return
        until = time.monotonic() + self._flush_seconds
        while time.monotonic() < until and len(self._buffer) < BATCH:
            if next(self._chores, None) is None:
                chores = self._next_chores()
                if chores is None:
                    return
                self._chores = chores

    def _next_chores(self) -> Iterator[int] | None:
        if self._is_due("roll", _ROLL_EVERY):
            return self._upkeep.roll()
        if self._is_due("thin", _THIN_EVERY):
            return self._upkeep.thin()
        return None


def _numbers(connection: Connection, items: list[Item]) -> dict[series.Thing, int]:
    known = {item.series.thing: item.series.number for item in items}
    new = [thing for thing, number in known.items() if number is None]
    return {thing: number for thing, number in known.items() if number is not None} | (
        series.number(connection, new) if new else {}
    )
