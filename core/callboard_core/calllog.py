"""Which calls a callee has seen, and for how long a call is valid. Pure."""

from __future__ import annotations

import heapq
import math
import threading
from array import array
from collections import OrderedDict
from enum import Enum, auto

from callboard_core.calls.envelopes import Asked

__all__ = ["CallKey", "CallLog", "Verdict", "remaining"]

#: Seconds a call without ``expires`` is valid, and the longest any id is remembered.
DEFAULT_VALIDITY = 60.0
LONGEST_VALIDITY = 24 * 3600.0

#: Most calls that are remembered, in some 130 MB: 50,000 a second with the usual 30 s, more than a process can answer.
CALLS = 1_500_000
#: Most bytes of answers that are kept in case a connection was lost with them.
ANSWERS = 4 * 1024 * 1024
#: What keeping one costs besides, in bytes.
_OVERHEAD = 200

#: Who called (the reply topic) and the call's id: ids of two callers may be equal.
CallKey = tuple[str | None, str]


class Verdict(Enum):
    """What to do with a call."""

    NEW = auto()
    DUPLICATE = auto()
    FULL = auto()


def remaining(call: Asked, *, waited: float, wall: float) -> float:
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
    """Which calls came, each remembered for as long as it is valid, so that a duplicate runs once. Thread-safe.

    The latest answers are kept, too, for callers that lost their connection before they got them. A call is
    remembered by a hash of 64 bits that nobody outside can foresee, and up to a second too long: so a busy callee
    can afford to remember all of them.
    """

    def __init__(self, limit: int = CALLS, answers: int = ANSWERS) -> None:
        self._limit = limit
        self._most = answers
        self._lock = threading.Lock()
        self._seen: set[int] = set()
        self._by_second: dict[int, array[int]] = {}  # of the clock, in which they are forgotten
        self._seconds: list[int] = []  # a heap of these
        # Ordered, because the first key of a dict takes the longer to find the more were removed before it.
        self._answers: OrderedDict[int, bytes] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._seen)

    def admit(self, key: CallKey, now: float, valid_for: float) -> Verdict:
        """Note a call that arrived ``now`` (seconds on any steady clock) and is valid for so many seconds."""
        mark = hash(key)
        with self._lock:
            if self._seconds and self._seconds[0] < now:
                self._forget(now)
            if mark in self._seen:
                return Verdict.DUPLICATE
            if len(self._seen) >= self._limit:
                return Verdict.FULL
            self._seen.add(mark)
            second = math.ceil(now + min(max(valid_for, 0.0), LONGEST_VALIDITY))
            marks = self._by_second.get(second)
            if marks is None:
                marks = self._by_second[second] = array("q")
                heapq.heappush(self._seconds, second)
            marks.append(mark)
            return Verdict.NEW

    def keep(self, key: CallKey, answer: bytes) -> None:
        """Keep the answer to a call, in the place of the oldest ones."""
        mark, size = hash(key), len(answer) + _OVERHEAD
        with self._lock:
            if mark not in self._seen or mark in self._answers or size > self._most:
                return
            self._answers[mark] = answer
            self._size += size
            while self._size > self._most:
                self._drop(next(iter(self._answers)))

    def answer(self, key: CallKey) -> bytes | None:
        """The answer that was given to a call, if it is still kept."""
        return self._answers.get(hash(key))

    def _forget(self, now: float) -> None:
        while self._seconds and self._seconds[0] < now:
            marks = self._by_second.pop(heapq.heappop(self._seconds))
            self._seen.difference_update(marks)
            for mark in marks:
                if mark in self._answers:
                    self._drop(mark)

    def _drop(self, mark: int) -> None:
        self._size -= len(self._answers.pop(mark)) + _OVERHEAD
