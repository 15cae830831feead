"""Errors of the board's own parts; each is one of core's, so it keeps a stable code on every face."""

from __future__ import annotations

from callboard_core.errors import Conflict, Unavailable

__all__ = ["NewerDatabase", "PortTaken", "StoreBusy", "StoreUnavailable"]


class NewerDatabase(Conflict):
    """The database was written by a newer Callboard than this one."""


class PortTaken(Conflict):
    """Another process already listens where the board wants to."""


class StoreUnavailable(Unavailable):
    """The database does not answer at the moment (stalled, locked, disk full)."""


class StoreBusy(Conflict):
    """Another process holds the broker's state folder."""
