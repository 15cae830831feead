"""When absent sessions are due: their wills, and their ends."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from callboard_broker.mqtt.message import NEVER

if TYPE_CHECKING:
    from callboard_broker.mqtt.session import Session

__all__ = ["Timers"]

#: Timers that may lie about although nobody wants them any more.
_SLACK = 1_000


class Timers:
    """Points in time (Unix seconds), each with the session to look at.

    Args:
        sessions: all there are; a session that is not among them any more is not waited for.
    """

    def __init__(self, sessions: Mapping[str, Session]) -> None:
        self._sessions = sessions
        self._heap: list[tuple[float, int, Session]] = []
        self._serial = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    def wake_at(self, when: float, session: Session) -> None:
        """Look at a session at ``when``."""
        heapq.heappush(self._heap, (when, next(self._serial), session))
        if len(self._heap) > _SLACK + 4 * len(self._sessions):
            self._forget_the_unwanted()

    def _forget_the_unwanted(self) -> None:
        """Sessions that came and went leave timers behind that may be due in a month: keep those still wanted."""
        self._heap = [
            (when, next(self._serial), session)
            for session in self._sessions.values()
            if session.connection is None
            for when in (session.disconnected_at + session.expiry, session.will_at)
            if when != NEVER
        ]
        heapq.heapify(self._heap)

    def due(self, now: float) -> Iterator[Session]:
        """Yield the absent sessions whose time has come, those of the past first."""
        while self._heap and self._heap[0][0] <= now:
            session = heapq.heappop(self._heap)[2]
            if session.connection is None and self._sessions.get(session.client_id) is session:
                yield session
