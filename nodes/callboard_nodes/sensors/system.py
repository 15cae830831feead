"""The system as a whole: load average, uptime, and whether a Raspberry Pi is throttled."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from callboard_nodes.things import Sensor, sensor

__all__ = ["load", "sensors", "throttled", "uptime"]

#: Bits of the firmware's answer that describe the present (Raspberry Pi documentation, vcgencmd get_throttled).
_NOW = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
_FIRMWARE = "devices/platform/soc/soc:firmware/get_throttled"


def load(proc: Path) -> float:
    """Return how many processes ran or waited, averaged over a minute."""
    return float((proc / "loadavg").read_text("ascii").split()[0])


def uptime(proc: Path) -> int:
    """Return whole seconds since the machine started."""
    return int(float((proc / "uptime").read_text("ascii").split()[0]))


def throttled(answer: str) -> str:
    """Return in words what the firmware's number (``0x50005``) says about now; ``ok`` when nothing is wrong."""
    bits = int(answer.strip().removeprefix("throttled="), 16)
    return ", ".join(word for bit, word in _NOW.items() if bits >> bit & 1) or "ok"


def sensors(proc: Path, sys: Path) -> list[Sensor]:
    """Return the system's sensors."""
    found = [
        sensor(lambda: load(proc), name="load", label="Load", every=5, minimum=0, tags=["system"]),
        sensor(lambda: uptime(proc), name="uptime", label="Uptime", unit="s", every=60, tags=["system"]),
    ]
    ask = _throttle_source(sys)
    if ask is not None:
        found.append(
            sensor(ask, name="throttled", label="Throttling", type="text", every=10, tags=["system"])
        )
    return found


def _throttle_source(sys: Path) -> _Ask | None:
    if (sys / _FIRMWARE).exists():
        return _Ask(sys / _FIRMWARE)
    program = shutil.which("vcgencmd") if sys == Path("/sys") else None
    return _Ask(program) if program else None


class _Ask:
    """Asks the firmware through sysfs or, on older systems, through ``vcgencmd``."""

    def __init__(self, source: Path | str) -> None:
        self._source = source

    def __call__(self) -> str:
        if isinstance(self._source, Path):
            return throttled(self._source.read_text("ascii"))
        command = [self._source, "get_throttled"]
        return throttled(
            subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
        )
