"""Whose fault it is that an attempt cannot go on, for errors that come up around the renderer."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from callboard_core.errors import BadRequest, CallboardError, Forbidden, NotFound
from callboard_nodes.slots.engines.base import Fault, Trouble

__all__ = ["NO_ROOM", "Broken", "as_trouble", "check_room"]

#: What the system says when a disk, or a user's share of it, is full.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class Broken(Exception):
    """The attempt cannot go on."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.message)
        self.trouble = trouble


def check_room(folder: Path, least: int) -> None:
    """Make sure that there is room to work.

    Raises:
        Broken: there is not.
    """
    free = shutil.disk_usage(folder).free
    if free < least:
        message = f"only {free // 2**20} MiB are free in {folder}; {least // 2**20} are kept"
        raise Broken(Trouble("node", "disk_full", message))


#: Errors around the renderer: whose fault they are, and what they are called; the first that fits counts.
_ERRORS: Sequence[tuple[type[Exception], Fault, str]] = [
    (NotFound, "job", "input_missing"),
    (Forbidden, "node", "refused"),
    (BadRequest, "job", "bad_args"),
    (CallboardError, "node", "input_unreachable"),
    (ValidationError, "job", "bad_args"),
    (OSError, "node", "unwritable"),
]


def as_trouble(error: Exception) -> Trouble:
    """Say whose fault an error is that came up around the renderer."""
    if isinstance(error, Broken):
        return error.trouble
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return Trouble("node", "disk_full", str(error))
    for kind, fault, code in _ERRORS:
        if isinstance(error, kind):
            return Trouble(fault, code, str(error))
    return Trouble("node", "failed", f"{type(error).__name__}: {error}")
