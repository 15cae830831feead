"""Who waits until a pool has so many members that can be called."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from callboard_core.calls.attempts import settle
from callboard_core.errors import TimedOut, Unavailable
from callboard_core.link.lane import Timer

__all__ = ["Waiters"]

#: Tells whether so many members can be called; None: all that are announced together.
Enough = Callable[[int | None], bool]


class Waiters:
    """Futures that are done when there are enough members. Thread-safe.

    Args:
        service: what people call the pool.
        later: runs something after so many seconds.
        enough: asked each time members have come.
    """

    def __init__(
        self, service: str, later: Callable[[float, Callable[[], object]], Timer], enough: Enough
    ) -> None:
        self._service, self._later, self._enough = service, later, enough
        self._lock = threading.Lock()
        self._waiting: list[tuple[int | None, Future[None]]] = []
        self._closed = False

    def wait(self, members: int | None, timeout: float) -> Future[None]:
        """Wait for so many members, for so many seconds."""
        ready: Future[None] = Future()
        with self._lock:
            if not self._closed:
                self._waiting.append((members, ready))
        if self._closed:
            settle(ready, error=self._end())
        self.tell()
        if not ready.done():
            who = "nobody" if members == 1 else f"not {members or 'all'}"
            late = TimedOut(f"{self._service}: {who} to call within {timeout:g} s")
            timer = self._later(timeout, partial(self._give_up, ready, late))
            ready.add_done_callback(lambda _: timer.cancel())
        return ready

    def tell(self) -> None:
        """Look who has waited for what is there now."""
        if not self._waiting:
            return
        with self._lock:
            told = [one for one in self._waiting if self._enough(one[0])]
            self._waiting = [one for one in self._waiting if one not in told]
        for _, ready in told:
            settle(ready)

    def close(self) -> None:
        """End all waiting, now and from now on."""
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, []
        for _, ready in waiting:
            settle(ready, error=self._end())

    def _give_up(self, ready: Future[None], late: TimedOut) -> None:
        with self._lock:
            self._waiting = [one for one in self._waiting if one[1] is not ready]
        settle(ready, error=late)

    def _end(self) -> Unavailable:
        return Unavailable(f"{self._service}: the pool was closed")
