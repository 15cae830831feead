"""How long something took, judged by what the machine had to spare: strict where it is idle, patient where it is not."""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["Stopwatch"]

#: How many times as long something may take on a machine where somebody waits for a processor all the time.
PATIENCE = 10
_PRESSURE = Path("/proc/pressure/cpu")


def _waited() -> float | None:
    """Seconds since the boot in which somebody waited for a processor (Linux' pressure stall information)."""
    try:
        some = _PRESSURE.read_text().splitlines()[0]
    except OSError:
        return None
    return int(some.rpartition("total=")[2]) / 1e6


class Stopwatch:
    """Runs from its making; its `seconds` are those of the wall."""

    def __init__(self) -> None:
        self._began, self._waited = time.monotonic(), _waited()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def pressure(self) -> float:
        """The share of its time in which somebody waited for a processor, from 0 to 1."""
        now = _waited()
        if now is None or self._waited is None:
            return min(1.0, max(0.0, os.getloadavg()[0] / (os.cpu_count() or 1) - 0.5))
        return min(1.0, (now - self._waited) / max(self.seconds, 1e-6))

    def within(self, seconds: float) -> bool:
        """Whether it took less, or not too much more on a machine that was busy with something else."""
        return self.seconds < seconds * (1 + (PATIENCE - 1) * self.pressure)

    def __repr__(self) -> str:
        return f"{self.seconds:.2f} s, in {self.pressure:.0%} of which somebody waited for a processor"
