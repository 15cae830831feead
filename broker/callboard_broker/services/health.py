"""Whether all is well, and if not, why and what happens meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from callboard_broker.services.buffer import Buffer
from callboard_broker.services.writer import Condition, Writer
from callboard_core.link import Link

__all__ = ["Health"]

#: Above this part of the buffer, readings are about to be lost.
_NEARLY_FULL = 0.8
#: Seconds for which lost readings are told.
_RECENT = 60.0


class Health:
    """Asks the parts how they are."""

    def __init__(
        self,
        *,
        links: Sequence[Link],
        writer: Writer,
        buffer: Buffer,
        farm: Callable[[], str] = lambda: "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._links = links
        self._writer = writer
        self._buffer = buffer
        self._farm = farm
        self._clock = clock
        self._dropped = 0
        self._dropped_at: float | None = None

    def reasons(self) -> list[str]:
        """Return one sentence for everything that is not as it should be."""
        return [*self._broker(), *self._database(), *self._losses(), *self._rendering()]

    def _broker(self) -> list[str]:
        if all(link.connected for link in self._links):
            return []
        return ["the board is not connected to the broker; it tries again by itself"]

    def _database(self) -> list[str]:
        writer, waiting = self._writer, len(self._buffer)
        match writer.condition:
            case Condition.FULL:
                why = writer.shortage or writer.problem
                return [f"the disk is full ({why}): the oldest readings make room, {waiting} wait"]
            case Condition.STALLED:
                why = f" ({writer.problem})" if writer.problem else ""
                return [
                    f"the database has taken nothing for {writer.stalled_for:.0f} s{why}; {waiting} readings wait"
                ]
        if writer.low:
            return [
                f"the disk is nearly full ({writer.shortage}): the oldest readings make room for new ones"
            ]
        return []

    def _rendering(self) -> list[str]:
        problem = self._farm()
        return [f"the farm waits, its state cannot be written ({problem})"] if problem else []

    def _losses(self) -> list[str]:
        now = self._clock()
        if self._buffer.dropped > self._dropped:
            self._dropped, self._dropped_at = self._buffer.dropped, now
        found = []
        if self._dropped_at is not None and now - self._dropped_at < _RECENT:
            found.append(f"readings were lost in the last minute ({self._dropped} in all)")
        if len(self._buffer) > _NEARLY_FULL * self._buffer.limit:
            found.append(
                f"the buffer for readings is nearly full ({len(self._buffer)} of {self._buffer.limit})"
            )
        return found
