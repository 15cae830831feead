"""Sockets whose other end has fallen silent: cut, so that the client notices and comes back at once."""

from __future__ import annotations

from typing import Protocol

from callboard_core.silence import LOOK, Silence, Socket

__all__ = ["Unheard"]


class Wire(Protocol):
    """What can be cut."""

    def cut(self) -> None:
        """Reset the connection."""


class Unheard:
    """The silences of all sockets."""

    def __init__(self) -> None:
        self._silences: dict[Wire, Silence] = {}
        self._due = 0.0

    def add(self, wire: Wire, connection: Socket) -> None:
        """Look after a socket."""
        self._silences[wire] = Silence(connection)

    def remove(self, wire: Wire) -> None:
        """Look after it no more."""
        self._silences.pop(wire, None)

    def look(self, now: float) -> None:
        """Cut the sockets whose other end is not heard; ``now`` is the monotonic clock."""
        if now < self._due:
            return
        self._due = now + LOOK
        for wire in [wire for wire, silence in self._silences.items() if silence.is_deadly(now)]:
            wire.cut()
