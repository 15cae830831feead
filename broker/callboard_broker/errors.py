"""Errors of the board's own parts; each is one of core's, so it keeps a stable code on every face."""

from __future__ import annotations

from callboard_core.errors import Conflict, Failed, NotFound, Unavailable

__all__ = ["BadBackup", "Damaged", "NewerDatabase", "NoRoom", "StoreBusy", "StoreUnavailable", "WrongOffset"]


class BadBackup(Failed):
    """A backup is damaged or was tampered with; nothing was restored from it."""


class NewerDatabase(Conflict):
    """The database was written by a newer Callboard than this one."""


class StoreUnavailable(Unavailable):
    """The database does not answer at the moment (stalled, locked, disk full)."""


class StoreBusy(Conflict):
    """Another process holds the broker's state folder."""


class Damaged(NotFound):
    """An artifact is not on the disk any more as it was stored; it has been set aside."""


class NoRoom(Unavailable):
    """The disk, or what artifacts may take of it, is full."""


class WrongOffset(Conflict):
    """An upload does not continue where the earlier one ended; ``offset`` is where it has to."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset
