"""Errors as a person at a shell gets them: one line that says what to do, and the exit code. Pure."""

from __future__ import annotations

import errno

from callboard_console.cli.output import plain
from callboard_core.errors import BadRequest, CallboardError

__all__ = ["FAILED", "USAGE", "describe", "trace"]

#: Exit codes.
FAILED = 1
USAGE = 2

_REMEDIES = {
    errno.ENOSPC: "no space is left on its disk; free some, or use another folder with --state",
    errno.EDQUOT: "your disk quota is used up; free some, or use another folder with --state",
    errno.EROFS: "it is on a read-only file system; use another folder with --state",
    errno.EACCES: "you may not write there; give yourself the folder, or use another with --state",
    errno.EPERM: "you may not write there; give yourself the folder, or use another with --state",
    errno.EEXIST: "that is a file, not a folder; use another folder with --state",
    errno.ENOTDIR: "a part of that path is a file, not a folder; use another folder with --state",
}


def describe(error: CallboardError | OSError) -> tuple[str, int]:
    """Return the line to print and the exit code."""
    if isinstance(error, CallboardError):
        cause = getattr(error, "cause", error)
        return _one_line(error.message), USAGE if isinstance(cause, BadRequest) else FAILED
    where = f"{error.filename}: " if error.filename else ""
    what = _REMEDIES.get(error.errno or 0) or error.strerror or str(error)
    return _one_line(f"{where}{what}"), FAILED


def trace(error: CallboardError | OSError) -> str:
    """Return where a worker's function raised, if the worker allows to tell; else nothing."""
    told = error.traceback if isinstance(error, CallboardError) else None
    return "".join(f"{plain(line)}\n" for line in (told or "").splitlines())


def _one_line(text: str) -> str:
    return plain(" ".join(text.split()))
