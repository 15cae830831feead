"""Timers of an agent: run on time without drift, listed, stopped; one that fails goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import count
from time import monotonic
from typing import Any

from callboard_core.calls.names import numbered
from callboard_core.link.lane import Lane
from callboard_core.link.lane import Timer as Alarm
from callboard_nodes.ticker import Ticker

__all__ = ["TimerInfo", "Timers"]


@dataclass(frozen=True)
class TimerInfo:
    """One timer; seconds.

    Attributes:
        every: the period, or None for one that runs once.
        due: until the next run.
        runs: how often it has run.
        skipped: ticks that passed while it was still running.
        failed: how often it raised.
    """

    name: str
    every: float | None
    due: float
    runs: int
    skipped: int
    failed: int


class Timers:
    """The timers of one agent.

    Args:
        lane: the agent's thread, which keeps the time.
        run: runs a function; called on the lane.
        failed: told of what a function raised, with the timer's name.
    """

    def __init__(
        self,
        lane: Lane,
        run: Callable[[Callable[[], Any]], Future[Any]],
        failed: Callable[[str, BaseException], None],
    ) -> None:
        self._lane, self._run, self._failed = lane, run, failed
        self._lock = threading.Lock()
        self._timers: dict[str, _Timer] = {}

    def add(self, seconds: float, function: Callable[[], Any], *, repeat: bool, name: str | None) -> str:
        """Start a timer; returns its name, which is numbered when it is taken."""
        wanted = name or str(getattr(function, "__name__", "timer"))
        with self._lock:
            free = next(one for taken in count() if (one := numbered(wanted, taken)) not in self._timers)
            timer = self._timers[free] = _Timer(free, function, seconds, repeat)
            self._set(timer)
        return free

    def stop(self, name: str) -> bool:
        """Stop a timer; returns False if there is none."""
        with self._lock:
            timer = self._timers.pop(name, None)
            if timer is None:
                return False
            if timer.alarm is not None:
                timer.alarm.cancel()
            return True

    def list(self) -> list[TimerInfo]:
        """All that run."""
        now = monotonic()
        with self._lock:
            return [timer.describe(now) for timer in self._timers.values()]

    def close(self) -> None:
        """Stop all."""
        with self._lock:
            for timer in self._timers.values():
                if timer.alarm is not None:
                    timer.alarm.cancel()
            self._timers.clear()

    def _set(self, timer: _Timer) -> None:
        timer.alarm = self._lane.later(max(0.0, timer.ticker.next - monotonic()), partial(self._fire, timer))

    def _fire(self, timer: _Timer) -> None:
        self._run(timer.function).add_done_callback(partial(self._ran, timer))

    def _ran(self, timer: _Timer, outcome: Future[Any]) -> None:
        error = None if outcome.cancelled() else outcome.exception()
        with self._lock:
            timer.runs += 1
            timer.failed += error is not None
            if self._timers.get(timer.name) is timer:
                if timer.repeat:
                    timer.ticker.advance(monotonic())
                    self._set(timer)
                else:
                    del self._timers[timer.name]
        if error is not None:
            self._failed(timer.name, error)


class _Timer:
    def __init__(self, name: str, function: Callable[[], Any], seconds: float, repeat: bool) -> None:
        self.name, self.function, self.seconds, self.repeat = name, function, seconds, repeat
        self.ticker = Ticker(seconds or 1.0, monotonic() + seconds)  # the first tick is one period from now
        self.alarm: Alarm | None = None
        self.runs = self.failed = 0

    def describe(self, now: float) -> TimerInfo:
        every = self.seconds if self.repeat else None
        due = max(0.0, self.ticker.next - now)
        return TimerInfo(self.name, every, round(due, 3), self.runs, self.ticker.skipped, self.failed)
