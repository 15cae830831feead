"""Which calls a callee has seen, and for how long a call is valid. Pure."""

from __future__ import annotations

import heapq
from enum import Enum, auto

from callboard_core.messages import Call

__all__ = ["CallLog", "Verdict", "remaining"]

#: Seconds a call without ``expires`` is valid, and the longest any id is remembered.
DEFAULT_VALIDITY = 60.0
LONGEST_VALIDITY = 24 * 3600.0

#: Who called (the reply topic) and the call's id: ids of two callers may be equal.
CallKey = tuple[str | None, str]


class Verdict(Enum):
    """What to do with a call."""

    NEW = auto()
    DUPLICATE = auto()
    FULL = auto()


def remaining(call: Call, *, waited: float, wall: float) -> float:
    """Seconds for which a call is still valid; zero or less when it has expired.

    Args:
        call: with ``t``, its validity is ``expires - t`` and counts from its arrival, so that a callee whose
            clock is a day off still obeys; without, ``expires`` is read on the callee's clock.
        waited: seconds since its arrival.
        wall: the callee's clock at its arrival, Unix seconds.
    """
    if call.expires is None:
        return DEFAULT_VALIDITY - waited
    return call.expires - (wall if call.t is None else call.t) - waited


class CallLog:
    """Ids of calls, each remembered for as long as the call is valid, so that a duplicate runs once."""

    def __init__(self, limit: int = 100_000) -> None:
        self._limit = limit
        self._until: dict[CallKey, float] = {}
        self._queue: list[tuple[float, int, CallKey]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._until)

    def admit(self, key: CallKey, now: float, valid_for: float) -> Verdict:
        """Note a call that arrived ``now`` (seconds on any steady clock) and is valid for so many seconds."""
        self._forget(now)
        if key in self._until:
            return Verdict.DUPLICATE
        if len(self._until) >= self._limit:
            return Verdict.FULL
        until = now + min(max(valid_for, 0.0), LONGEST_VALIDITY)
        self._until[key] = until
        self._count += 1
        heapq.heappush(self._queue, (until, self._count, key))
        return Verdict.NEW

    def _forget(self, now: float) -> None:
        while self._queue and self._queue[0][0] < now:
            del self._until[heapq.heappop(self._queue)[2]]
