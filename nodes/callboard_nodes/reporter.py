"""When a sensor's readings are sent: deadband, rate limit and batches. Pure; the node does the sending."""

from __future__ import annotations

from dataclasses import dataclass, field

from callboard_core.cards import SensorCard
from callboard_core.messages import Level, Reading, Value

__all__ = ["PROOF_OF_LIFE", "SHORTEST_INTERVAL", "Due", "Reporter"]

#: Least seconds between two states of a thing, whatever it asks for.
SHORTEST_INTERVAL = 1.0
#: Seconds after which a value inside the deadband is sent again, so that a flat line is a line.
PROOF_OF_LIFE = 60.0


@dataclass(frozen=True)
class Due:
    """What is to be sent now: a state, and the readings that were held back since the last one."""

    state: Reading
    level: Level
    batch: list[Reading] = field(default_factory=list)


class Reporter:
    """Decides for one sensor which readings count and when they are sent.

    A reading counts unless it differs from the last one that counted by less than the deadband (for anything
    but numbers: not at all) while its level is the same; without a deadband every reading counts.
    Of the readings that count, at most one per interval (``min_interval``, at least a second) becomes a state; those
    in between are sent together as a batch. A change of level waits for a second at most.
    """

    def __init__(self, card: SensorCard) -> None:
        self._card = card
        self._interval = max(card.min_interval or 0.0, SHORTEST_INTERVAL)
        self._last: Reading | None = None
        self._level: Level | None = None
        self._last_kept = 0.0
        self._sent = -float("inf")
        self._sent_level: Level | None = None
        self._held: list[Reading] = []

    @property
    def last(self) -> Reading | None:
        """The newest reading that counted."""
        return self._last

    def keeps(self, reading: Reading, now: float) -> bool:
        """Tell whether a reading counts; if it does, it is held until :meth:`due` gives it out.

        Args:
            reading: the new reading.
            now: seconds on any steady clock.
        """
        level = self._card.level(reading.v)
        if self._still(reading.v) and level is self._level and now - self._last_kept < PROOF_OF_LIFE:
            return False
        self._last, self._level, self._last_kept = reading, level, now
        self._held.append(reading)
        return True

    def when(self) -> float | None:
        """Return the time at which something is due; ``None`` when nothing is held."""
        if not self._held:
            return None
        changed = self._level is not self._sent_level
        return self._sent + (SHORTEST_INTERVAL if changed else self._interval)

    def due(self, now: float, *, force: bool = False) -> Due | None:
        """Return what has to be sent at ``now``, and count it as sent; with ``force``, all that is held."""
        at = self.when()
        if at is None or (now < at and not force):
            return None
        *batch, newest = self._held
        self._held = []
        self._sent, self._sent_level = now, self._level
        return Due(newest, self._card.level(newest.v), batch)

    def forget(self) -> None:
        """Let the next reading count in any case, and be due within a second (something else was shown meanwhile)."""
        self._last = self._level = self._sent_level = None

    def _still(self, value: Value) -> bool:
        if self._last is None or self._card.deadband is None:
            return False
        before = self._last.v
        if isinstance(value, bool | str) or isinstance(before, bool | str):
            return value == before
        return abs(value - before) < self._card.deadband or value == before
