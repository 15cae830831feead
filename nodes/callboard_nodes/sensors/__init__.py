"""Sensors every machine has: load, memory, disk, network, temperatures. ``builtin()`` lists those of this one."""

from __future__ import annotations

from pathlib import Path

from callboard_nodes.sensors import cpu, disk, elsewhere, memory, network, system, temperature
from callboard_nodes.things import Sensor

__all__ = ["builtin"]

_SOURCES = (cpu, memory, disk, network, system, temperature)


def builtin(*, proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> list[Sensor]:
    """Return the sensors this machine has.

    Args:
        proc: where the kernel's ``proc`` file system is mounted. Without one (not Linux) psutil is asked instead.
        sys: where ``sysfs`` is mounted.
    """
    if not (proc / "stat").exists():
        return elsewhere.sensors()
    return [sensor for source in _SOURCES for sensor in source.sensors(proc, sys)]
