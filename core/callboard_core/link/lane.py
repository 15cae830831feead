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

#: Timers from which on the cancelled ones are swept out.
SWEEP = 1024


class Timer:
    """Something to be run later; :meth:`cancel` forgets it."""

    __slots__ = ("_work",)

    def __init__(self, work: Callable[[], object]) -> None:
        self._work: Callable[[], object] | None = work

    @property
    def live(self) -> bool:
        """False once it has run or was cancelled."""
        return self._work is not None

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

    Work that raises is logged and stops nothing. The thread starts with the first post. Setting a timer wakes the
    thread only if it is the next to fire: nearly all are cancelled long before.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._sweep_at = SWEEP
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._stopped = False

    @property
    def inside(self) -> bool:
        """True on the lane's own thread."""
        return threading.current_thread() is self._thread

    def post(self, work: Callable[[], object]) -> None:
        """Run ``work`` after everything posted before; on the caller's thread once the lane has stopped."""
        with self._lock:
            stopped = self._stopped
            if not stopped:
                self._put(work)
        if stopped:
            self._try(work)

    def later(self, delay: float, work: Callable[[], object]) -> Timer:
        """Run ``work`` after ``delay`` seconds, unless the timer is cancelled or the lane stopped before."""
        timer = Timer(work)
        due = monotonic() + delay
        with self._lock:
            if self._stopped:
                return timer
            heapq.heappush(self._timers, (due, next(self._order), timer))
            if self._timers[0][2] is timer:
                self._put(_wake)
            if len(self._timers) >= self._sweep_at:
                self._sweep()
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

    def _put(self, work: Callable[[], object]) -> None:
        self._queue.put(work)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def _sweep(self) -> None:
        """Forget cancelled timers, at a cost that is small per timer set."""
        self._timers = [entry for entry in self._timers if entry[2].live]
        heapq.heapify(self._timers)
        self._sweep_at = max(SWEEP, 2 * len(self._timers))

    def _run(self) -> None:
        while True:
            wait = self._fire_due()
            try:
                work = self._queue.get(timeout=wait)
            except Empty:
                continue
            if work is None:
                return
            self._try(work)

    def _fire_due(self) -> float | None:
        """Run the timers that are due; returns the seconds until the next one."""
        while True:
            with self._lock:
                if not self._timers:
                    return None
                left = self._timers[0][0] - monotonic()
                if left > 0:
                    return left
                timer = heapq.heappop(self._timers)[2]
            self._try(timer.fire)

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception:  # noqa: BLE001 - whatever it was, the thread must go on
            _log.exception("%s: work failed", self._name)


def _wake() -> None:
    """Makes the thread look at its timers."""
