"""The phases of a connection's life."""

from __future__ import annotations

from enum import Enum

__all__ = ["Phase"]


class Phase(Enum):
    """Where a connection stands."""

    FRESH = "waiting for CONNECT"
    CHECKING = "credentials are being checked"
    OPEN = "open"
    CLOSED = "closed"
