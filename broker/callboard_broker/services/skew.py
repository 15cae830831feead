"""How far a node's clock is from the board's, judged from what arrives. Pure.

A message is never received before it was sent, so ``t - received`` is at most the skew: a message that claims to be
newer than the estimate proves it wrong at once; an older one may just have been delayed, so it needs a second one
that agrees. (The same reasoning as NTP's minimum filter, RFC 5905, section 10.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["TOLERANCE", "Skew"]

#: Seconds a clock may be wrong before its times are no longer believed.
TOLERANCE = 30.0
#: Seconds within which two observations say the same. The estimate moves in such steps, so that a reading which is
#: delivered twice is corrected to the same time twice.
_AGREE = 5.0
#: Seconds that must lie between an observation and the one that confirms it: what was buffered comes in a burst.
_CONFIRM = 2.0


@dataclass(frozen=True, slots=True)
class Skew:
    """What is known of one node's clock.

    Attributes:
        seconds: node's clock minus board's clock; None while nothing is known.
        doubt: an observation (skew, when) that waits to be confirmed.
    """

    seconds: float | None = None
    doubt: tuple[float, float] | None = None

    @property
    def wrong(self) -> bool:
        """True when the node's times are not believed."""
        return self.seconds is not None and abs(self.seconds) > TOLERANCE

    def stamped(self, t: float, received: float) -> Skew:
        """Learn from a message that was stamped when it was sent (a status)."""
        return self._settle(t - received)

    def live(self, t: float, received: float) -> Skew:
        """Learn from a message that was published when its reading was taken, or some time later."""
        seen = t - received
        if seen >= self._least():
            return self._settle(seen)
        if self.doubt is None or abs(self.doubt[0] - seen) > _AGREE:
            return replace(self, doubt=(seen, received))
        return self._settle(seen) if received - self.doubt[1] >= _CONFIRM else self

    def batch(self, newest: float, received: float) -> Skew:
        """Learn from readings that may have waited: they can only show that the clock is ahead."""
        seen = newest - received
        return self._settle(seen) if seen >= self._least() else self

    def correct(self, t: float, received: float) -> float | None:
        """Return a node's time by the board's clock, or None if it cannot be believed (still in the future)."""
        believed = t - self.seconds if self.wrong and self.seconds is not None else t
        return believed if 0 <= believed <= received + TOLERANCE else None

    def _least(self) -> float:
        return -TOLERANCE if self.seconds is None else self.seconds - _AGREE

    def _settle(self, seen: float) -> Skew:
        if self.seconds is not None and abs(seen - self.seconds) <= _AGREE:
            return self if self.doubt is None else Skew(self.seconds)
        return Skew(seen)
