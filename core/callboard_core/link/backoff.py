"""How long to wait between attempts to connect. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential delays with jitter.

    A delay lies between half of and the full exponential step, so that a fleet that lost its broker at one
    moment does not come back at one moment.

    Attributes:
        first: longest delay before the first retry, in seconds.
        cap: longest delay ever, in seconds; what was cut off is at work again within 5 s of the repair.
        refused: delay after the broker refused the credential or the id, in seconds; only a person can heal
            that, so there is no hurry.
        steady: a connection shorter than this counts as a failed attempt, in seconds; two clients that
            throw each other out thus slow down.
    """

    first: float = 0.1
    cap: float = 3.0
    refused: float = 30.0
    steady: float = 5.0

    def delay(self, attempt: int, chance: float) -> float:
        """Seconds to wait before retry number ``attempt`` (from 0), for a ``chance`` in [0, 1)."""
        step = min(self.cap, self.first * 2.0 ** min(attempt, 32))
        return step * (0.5 + chance / 2)
