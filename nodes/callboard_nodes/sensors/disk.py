"""Disk: how full the file system is that holds the root."""

from __future__ import annotations

import os
from pathlib import Path

from callboard_nodes.things import Sensor, sensor

__all__ = ["disk_used", "sensors"]


def disk_used(path: str = "/") -> float:
    """Return the per cent in use of what ordinary users can have, as ``df`` counts it."""
    found = os.statvfs(path)
    used = found.f_blocks - found.f_bfree
    return round(100 * used / max(used + found.f_bavail, 1), 1)


def sensors(_proc: Path, _sys: Path) -> list[Sensor]:
    """Return the root file system's sensor."""
    return [
        sensor(
            disk_used_of_root,
            name="disk",
            label="Disk",
            unit="%",
            every=60,
            minimum=0,
            maximum=100,
            normal={"high": 85},
            warning={"high": 95},
            description="share of the root file system in use",
            tags=["system"],
        )
    ]


def disk_used_of_root() -> float:
    """Return the per cent of the root file system in use."""
    return disk_used("/")
