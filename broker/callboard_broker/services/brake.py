"""Slows down whoever guesses passwords: after a few failures each further one costs twice the wait. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

__all__ = ["Brake"]


@dataclass(frozen=True, slots=True)
class _Failures:
    count: int
    last: float


class Brake:
    """Remembers failures per key (address and user name) for a while.

    Args:
        free: failures that cost nothing.
        first: seconds to wait after the first one that does; doubles up to ``longest``.
        longest: seconds.
        remembered: seconds after the last failure until all is forgotten.
        most: keys that are remembered; the oldest go first.
    """

    def __init__(
        self,
        *,
        free: int = 5,
        first: float = 1.0,
        longest: float = 60.0,
        remembered: float = 900.0,
        most: int = 10_000,
    ) -> None:
        self._free = free
        self._first = first
        self._longest = longest
        self._remembered = remembered
        self._most = most
        self._failures: OrderedDict[Hashable, _Failures] = OrderedDict()

    def wait(self, key: Hashable, now: float) -> float:
        """Return the seconds until ``key`` may try again; 0 if now."""
        found = self._failures.get(key)
        if found is None or found.count < self._free or now - found.last > self._remembered:
            return 0.0
        penalty = min(self._longest, self._first * (1 << min(found.count - self._free, 30)))
        return max(0.0, found.last + penalty - now)

    def failures(self, key: Hashable, now: float) -> int:
        """Return how many failures of ``key`` are remembered."""
        found = self._failures.get(key)
        return 0 if found is None or now - found.last > self._remembered else found.count

    def failed(self, key: Hashable, now: float) -> None:
        """Note a failure at ``now`` (seconds)."""
        found = self._failures.pop(key, None)
        known = found is not None and now - found.last <= self._remembered
        self._failures[key] = _Failures(found.count + 1 if found and known else 1, now)
        if len(self._failures) > self._most:
            self._failures.popitem(last=False)

    def succeeded(self, key: Hashable) -> None:
        """Forget the failures of ``key``."""
        self._failures.pop(key, None)
