"""How far an attempt is, and how long it will still take. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

__all__ = ["Standing"]

#: Frame times from which the rest is estimated.
_SAMPLES = 16


@dataclass
class Standing:
    """How far an attempt is."""

    frame: int | None = None
    done: int = 0
    total: int = 1
    share: float = 0.0
    begun: bool = False
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_SAMPLES))

    @property
    def progress(self) -> float:
        """0 to 1."""
        return min(1.0, (self.done + self.share) / self.total)

    def eta(self, frame_seconds: float) -> float | None:
        """Seconds it will still take, when ``frame_seconds`` have gone into this frame; None while nobody knows."""
        if self.seconds:
            mean = sum(self.seconds) / len(self.seconds)
        elif self.share > 0:
            mean = frame_seconds / self.share
        else:
            return None
        return max(0.0, mean * (self.total - self.done) - (mean * self.share))
