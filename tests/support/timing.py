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
    """Runs from its making until it is stopped or asked; its `seconds` are those of the wall."""

    def __init__(self) -> None:
        self._began, self._waited = time.monotonic(), _waited()
        self._stopped: tuple[float, float] | None = None

    def stop(self) -> None:
        self._stopped = self._read()

    def _read(self) -> tuple[float, float]:
        """Seconds since the start, and the share of them in which somebody waited for a processor, from 0 to 1."""
        now, seconds = _waited(), time.monotonic() - self._began
        if now is None or self._waited is None:
            return seconds, min(1.0, max(0.0, os.getloadavg()[0] / (os.cpu_count() or 1) - 0.5))
        return seconds, min(1.0, (now - self._waited) / max(seconds, 1e-6))

    @property
    def seconds(self) -> float:
        return (self._stopped or self._read())[0]

    def within(self, limit: float) -> bool:
        """Whether it took less, or not too much more on a machine that was busy with something else."""
        seconds, pressure = self._stopped or self._read()
        return seconds < limit * (1 + (PATIENCE - 1) * pressure)

    def __repr__(self) -> str:
        seconds, pressure = self._stopped or self._read()
        return f"{seconds:.2f} s, in {pressure:.0%} of which somebody waited for a processor"
