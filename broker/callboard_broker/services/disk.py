"""How much room is left where the database lives. Pure but for one look at the file system."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["is_low", "minimum", "room"]

#: Once short of room, this much more than the minimum must be free before all is well again.
_HYSTERESIS = 1.2


def room(path: Path) -> int:
    """Return the free bytes of the file system that holds ``path``."""
    return shutil.disk_usage(path.parent).free


def minimum(path: Path, wanted: int) -> int:
    """Return how many bytes are to stay free: ``wanted``, but on a small file system at most a tenth of it."""
    return min(wanted, shutil.disk_usage(path.parent).total // 10)


def is_low(free: int, least: int, *, was_low: bool) -> bool:
    """Tell whether the database may no longer grow."""
    return free < least * (_HYSTERESIS if was_low else 1)
