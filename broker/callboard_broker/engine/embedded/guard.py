"""Who may even open a socket: connections at once, at once from one address, and new ones a second. Pure."""

from __future__ import annotations

from collections import Counter

from callboard_broker.mqtt.counters import Counters
from callboard_broker.mqtt.limits import Limits

__all__ = ["Guard"]


class Guard:
    """Counts sockets. ``now`` is any clock in seconds that never goes back."""

    def __init__(self, limits: Limits, counters: Counters) -> None:
        self._limits = limits
        self._counters = counters
        self._by_address: Counter[str] = Counter()
        self._all = 0
        self._tokens = float(limits.connect_rate)
        self._last = 0.0

    def enter(self, address: str, now: float) -> bool:
        """Tell whether one more socket from ``address`` is welcome; if so it must :meth:`leave` later."""
        limits = self._limits
        bound = ""
        if self._all >= limits.connections:
            bound = "connections"
        elif self._by_address[address] >= limits.connections_per_address:
            bound = "connections_per_address"
        elif not self._token(now):
            bound = "connect_rate"
        if bound:
            self._counters.bounds[bound] += 1
            return False
        self._all += 1
        self._by_address[address] += 1
        return True

    def leave(self, address: str) -> None:
        """A socket that entered is closed."""
        self._all -= 1
        self._by_address[address] -= 1
        if self._by_address[address] <= 0:
            del self._by_address[address]

    def _token(self, now: float) -> bool:
        rate = self._limits.connect_rate
        self._tokens = min(float(rate), self._tokens + (now - self._last) * rate)
        self._last = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
