"""A thread that runs what is posted to it, in order, and some of it later."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic

__all__ = ["Lane", "Timer"]

_log = logging.getLogger("callboard.link")


class Timer:
    """Something to be run later; :meth:`cancel` forgets it."""

    __slots__ = ("_work",)

    def __init__(self, work: Callable[[], object]) -> None:
        self._work: Callable[[], object] | None = work

    def cancel(self) -> None:
        """Don't run it, if it has not begun."""
        self._work = None

    def fire(self) -> None:
        """Run it once."""
        work, self._work = self._work, None
        if work is not None:
            work()


class Lane:
    """Runs work one after the other on a thread of its own.

    Work that raises is logged and stops nothing. The thread starts with the first post.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: SimpleQueue[Callable[[], object] | tuple[float, Timer] | None] = SimpleQueue()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._stopped = False

    @property
    def inside(self) -> bool:
        """True on the lane's own thread."""
        return threading.current_thread() is self._thread

    def post(self, work: Callable[[], object]) -> None:
        """Run ``work`` after everything posted before; on the caller's thread once the lane has stopped."""
        self._put(work)

    def later(self, delay: float, work: Callable[[], object]) -> Timer:
        """Run ``work`` after ``delay`` seconds, unless the timer is cancelled."""
        timer = Timer(work)
        self._put((monotonic() + delay, timer))
        return timer

    def stop(self) -> None:
        """End the thread once what is already posted has run; timers are forgotten."""
        with self._lock:
            self._stopped = True
            self._queue.put(None)

    def join(self, timeout: float) -> None:
        """Wait for the thread's end, in seconds at most; returns at once on the lane's own thread."""
        if self._thread is not None and not self.inside:
            self._thread.join(timeout)

    def _put(self, item: Callable[[], object] | tuple[float, Timer]) -> None:
        with self._lock:
            if not self._stopped:
                self._queue.put(item)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                    self._thread.start()
                return
        if not isinstance(item, tuple):
            self._try(item)

    def _run(self) -> None:
        while True:
            self._fire_due()
            try:
                item = self._queue.get(timeout=self._until_next())
            except Empty:
                continue
            if item is None:
                return
            if isinstance(item, tuple):
                heapq.heappush(self._timers, (item[0], next(self._order), item[1]))
            else:
                self._try(item)

    def _until_next(self) -> float | None:
        return max(0.0, self._timers[0][0] - monotonic()) if self._timers else None

    def _fire_due(self) -> None:
        while self._timers and self._timers[0][0] <= monotonic():
            self._try(heapq.heappop(self._timers)[2].fire)

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception:  # noqa: BLE001 - whatever it was, the thread must go on
            _log.exception("%s: work failed", self._name)
