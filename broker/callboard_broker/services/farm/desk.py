"""The farm's one thread: takes what is to be done in batches, writes what changed in one transaction, then answers.

Nobody outside hears of anything that is not in the database, and a hundred things that come at once cost one commit.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TypeVar

from callboard_broker.store import farm as store
from callboard_broker.store.database import Database, Trouble, trouble
from callboard_core.errors import CallboardError, Failed, Overloaded, Unavailable
from callboard_core.steady import Steady

__all__ = ["Desk", "Timer"]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")
Work = Callable[[], object]

#: Things done per transaction, and how many may wait.
BATCH = 500
WAITING = 50_000
#: Seconds before a write is tried again, from first to most.
_RETRY = (0.05, 2.0)


class Timer:
    """Something to be done later."""

    __slots__ = ("work",)

    def __init__(self, work: Work) -> None:
        self.work: Work | None = work

    def cancel(self) -> None:
        """Don't do it."""
        self.work = None


class Desk:
    """Runs work one after the other; ``lock`` is held while anything changes.

    Args:
        database: where changes are kept.
        settle: called after each batch of work, for what follows from it.
        collect: returns what the batch has changed, and begins anew.

    Attributes:
        lock: hold it to read what the work changes.
        batches: transactions so far.
        problem: why the last write failed; empty when it did not.
    """

    def __init__(
        self, database: Database, *, settle: Callable[[], object], collect: Callable[[], store.Changes]
    ) -> None:
        self.lock = threading.RLock()
        self.batches = 0
        self.problem = ""
        self._database = database
        self._settle = settle
        self._collect = collect
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._effects: list[Work] = []
        self._stopping = threading.Event()
        self._steady = Steady(_log, "the farm")
        self._thread = threading.Thread(target=self._run, name="farm", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Finish the batch that is being worked on and end; False if that takes longer than ``timeout`` seconds."""
        self._stopping.set()
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def inside(self) -> bool:
        """True on the farm's own thread."""
        return threading.current_thread() is self._thread

    def ask(self, work: Callable[[], _T]) -> Future[_T]:
        """Have ``work`` done; the future is done once what it changed is written.

        What raises a ``CallboardError`` must not have changed anything before.
        """
        future: Future[_T] = Future()
        if self._stopping.is_set():
            future.set_exception(Unavailable("the board stops; ask again when it is back"))
        elif self._queue.qsize() >= WAITING:
            future.set_exception(Overloaded("the farm has too much to do; try again later"))
        else:
            self._queue.put(lambda: self._answer(work, future))
        return future

    def do(self, work: Callable[[], _T], timeout: float = 30.0) -> _T:
        """The same, and wait for it.

        Raises:
            Unavailable: it is not written in time.
            CallboardError: what the work raised.
        """
        try:
            return self.ask(work).result(timeout)
        except TimeoutError:
            raise Unavailable("the database does not answer; look again whether it was done") from None

    def post(self, work: Work) -> None:
        """Have ``work`` done without wanting to know when."""
        self._queue.put(work)

    def later(self, delay: float, work: Work) -> Timer:
        """Have ``work`` done after ``delay`` seconds; only for work itself to call."""
        timer = Timer(work)
        heapq.heappush(self._timers, (time.monotonic() + delay, next(self._order), timer))
        return timer

    def then(self, effect: Work) -> None:
        """Have ``effect`` happen once what this batch changes is written; only for work itself to call."""
        self._effects.append(effect)

    def _answer(self, work: Callable[[], _T], future: Future[_T]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = work()
        except CallboardError as error:
            self.then(lambda error=error: future.set_exception(error))  # type: ignore[misc]
        except Exception as error:
            self.then(lambda error=error: future.set_exception(Failed(f"{type(error).__name__}: {error}")))  # type: ignore[misc]
            raise
        else:
            self.then(lambda: future.set_result(result))

    def _run(self) -> None:
        while not self._stopping.is_set():
            batch = self._take()
            with self.lock:
                for work in batch:
                    with self._steady:
                        work()
                with self._steady:
                    self._settle()
                changes = self._collect()
                effects, self._effects = self._effects, []
            if changes and not self._write(changes):
                return
            for effect in effects:
                with self._steady:
                    effect()

    def _take(self) -> list[Work]:
        """Wait for something to do; return all there is."""
        batch = self._due()
        try:
            wait = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
            work = self._queue.get_nowait() if batch else self._queue.get(timeout=wait)
            while work is not None and len(batch) < BATCH:
                batch.append(work)
                work = self._queue.get_nowait()
            if work is not None:
                batch.append(work)
        except Empty:
            batch += self._due() if not batch else []
        return batch

    def _due(self) -> list[Work]:
        found: list[Work] = []
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.work is not None:
                found.append(timer.work)
        return found

    def _write(self, changes: store.Changes) -> bool:
        """Write until it succeeds; False if the farm is stopped before."""
        pause = _RETRY[0]
        while True:
            try:
                self._save(changes)
            except Exception as error:  # noqa: BLE001 - whatever it is, nobody may be told that it was done
                self._failed(error)
            else:
                self.batches += 1
                if self.problem:
                    _log.warning("the farm's state can be written again")
                    self.problem = ""
                return True
            if self._stopping.wait(pause):
                return False
            pause = min(pause * 2, _RETRY[1])

    def _save(self, changes: store.Changes) -> None:
        try:
            with self._database.write() as connection:
                store.save(connection, changes)
        except Exception as error:
            if trouble(error) is not Trouble.BUG:
                raise
            # One row that no database takes must not keep all others waiting.
            for refused in store.save_apart(self._database.write, changes):
                _log.error("a row of the farm cannot be stored, it is left out", exc_info=refused)

    def _failed(self, error: Exception) -> None:
        if not self.problem:
            _log.error("the farm's state cannot be written (%s): %s; it waits", trouble(error).value, error)
        self.problem = str(getattr(error, "orig", error)).strip() or type(error).__name__
