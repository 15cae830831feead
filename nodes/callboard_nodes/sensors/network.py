"""Network: bytes per second in and out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from callboard_nodes.things import Sensor, sensor

__all__ = ["NetworkRate", "parse_dev", "sensors"]

#: Columns of ``/proc/net/dev`` (proc(5)) after the interface's name.
RECEIVED, SENT = 0, 8


class NetworkRate:
    """Bytes per second since the previous call, over all physical interfaces; nothing at the first call."""

    def __init__(
        self, proc: Path, sys: Path, column: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._proc, self._sys, self._column, self._clock = proc, sys, column, clock
        self._before: tuple[float, dict[str, int]] | None = None

    def __call__(self) -> float | None:
        """Read once more."""
        now, counters = self._clock(), self._read()
        before, self._before = self._before, (now, counters)
        if before is None or now <= before[0]:
            return None
        # A counter that fell belongs to an interface that was made anew.
        grown = sum(max(0, count - before[1].get(name, count)) for name, count in counters.items())
        return round(grown / (now - before[0]), 1)

    def _read(self) -> dict[str, int]:
        found = parse_dev((self._proc / "net" / "dev").read_text("ascii"), self._column)
        found.pop("lo", None)
        # Bridges and tunnels count bytes that a physical interface has counted already.
        physical = {
            name: count
            for name, count in found.items()
            if (self._sys / "class/net" / name / "device").exists()
        }
        return physical or found


def parse_dev(text: str, column: int) -> dict[str, int]:
    """Return one column of ``/proc/net/dev`` by interface."""
    rows = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name.strip(): int(counters.split()[column]) for name, _, counters in rows}


def sensors(proc: Path, sys: Path) -> list[Sensor]:
    """Return the network's two sensors."""
    return [
        sensor(
            NetworkRate(proc, sys, column),
            name=f"network-{way}",
            label=label,
            unit="B/s",
            every=5,
            tags=["system"],
        )
        for way, label, column in (("in", "Network in", RECEIVED), ("out", "Network out", SENT))
    ]
