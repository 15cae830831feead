"""Who calls whom: sessions, as the heartbeats of the called count them. Pure; no I/O, no clock.

A node counts the calls to each of its workers by client, whatever way they came, and names with 0 who waits for an older one; the board, which calls for people
who come over HTTP or plain MQTT, counts those by who asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from callboard_core.topics import BOARD

__all__ = ["KEEP", "Session", "Sessions"]

#: Seconds that a session lives in which nothing is called or worked on, and over which its rate is averaged.
KEEP = 5.0
#: Seconds between two heartbeats, unless they say otherwise by coming.
_BEAT = 1.5


@dataclass(frozen=True, slots=True)
class Session:
    """One client that calls one worker of a node, or, through the board, a service; ``rate`` is calls/s.

    ``worker`` is the worker's name; through the board it is the service and ``node`` is ``board``.
    ``caller`` is a client's id (a node's is its own), ``http:USER``, or ``*`` for all beyond the first hundred.
    """

    caller: str
    node: str
    worker: str
    rate: float
    last: float


class Sessions:
    """One thread at a time.

    Args:
        keep: seconds that a session lives in which nothing is called or worked on.
    """

    def __init__(self, keep: float = KEEP) -> None:
        self._keep = keep
        self._calls: dict[tuple[str, str, str], deque[tuple[float, int]]] = {}
        self._began: dict[str, float] = {}

    def note(self, node: str, data: Mapping[str, Any], now: float) -> None:
        """Take in a heartbeat's data."""
        self._began.setdefault(node, now - _BEAT)
        for called in ("workers", "services") if node == BOARD else ("workers",):
            for worker, caller, calls in _counted(data.get(called)):
                self._calls.setdefault((caller, node, worker), deque()).append((now, calls))

    def live(self, now: float) -> list[Session]:
        """Return the sessions in which something was called, or was still worked on, lately; the busiest first."""
        self._expire(now)
        found = [
            Session(caller, node, worker, self._rate(node, beats, now), beats[-1][0])
            for (caller, node, worker), beats in self._calls.items()
        ]
        return sorted(found, key=lambda one: (-one.rate, one.caller, one.node, one.worker))

    def _rate(self, node: str, beats: deque[tuple[float, int]], now: float) -> float:
        span = min(self._keep, now - self._began[node])
        return sum(calls for _, calls in beats) / max(span, _BEAT)

    def _expire(self, now: float) -> None:
        for key, beats in list(self._calls.items()):
            while beats and now - beats[0][0] > self._keep:
                beats.popleft()
            if not beats:
                del self._calls[key]
        called = {node for _, node, _ in self._calls}
        self._began = {node: began for node, began in self._began.items() if node in called}


def _counted(workers: object) -> Iterator[tuple[str, str, int]]:
    """Worker, caller and number of new calls, which is 0 while an older one is worked on; what is none is left out."""
    for worker, told in workers.items() if isinstance(workers, Mapping) else ():
        callers = told.get("callers") if isinstance(told, Mapping) else None
        for caller, calls in callers.items() if isinstance(callers, Mapping) else ():
            if isinstance(calls, int) and not isinstance(calls, bool) and calls >= 0:
                yield str(worker), str(caller), calls
