"""Steady ticks: when a thing is due next, without drift, and how many ticks a slow handler missed. Pure."""

from __future__ import annotations

import math

__all__ = ["Ticker"]


class Ticker:
    """Ticks at ``start``, ``start + every``, ``start + 2 * every`` and so on.

    Attributes:
        skipped: ticks that passed while the handler was still running.
    """

    def __init__(self, every: float, start: float) -> None:
        self._every = every
        self._start = start
        self._index = 0
        self.skipped = 0

    @property
    def next(self) -> float:
        """The time of the tick to wait for, on the clock that ``start`` was read from."""
        return self._start + self._index * self._every

    def advance(self, now: float) -> None:
        """Move on to the first tick after the current one that is not past ``now``; those between are skipped."""
        # A tick that is less than a thousandth of its period late is not a missed one.
        due = math.ceil((now - self._start) / self._every - 1e-3)
        following = max(self._index + 1, due)
        self.skipped += following - self._index - 1
        self._index = following
