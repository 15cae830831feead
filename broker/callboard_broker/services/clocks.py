"""When each node was last heard of, and what its clock shows."""

from __future__ import annotations

from collections.abc import Mapping

from callboard_broker.services.skew import Skew

__all__ = ["Clock", "Clocks"]


class Clock:
    """One node's clock; ``last_seen`` in Unix seconds by the board's clock."""

    __slots__ = ("last_seen", "skew")

    def __init__(self, skew: Skew, last_seen: float | None = None) -> None:
        self.skew = skew
        self.last_seen = last_seen


class Clocks:
    """The clocks of all nodes. Written by the threads that receive; reading needs no lock."""

    def __init__(self) -> None:
        self._clocks: dict[str, Clock] = {}

    def of(self, node: str) -> Clock:
        """Return a node's clock; a new node's is unknown."""
        clock = self._clocks.get(node)
        return clock if clock is not None else self._clocks.setdefault(node, Clock(Skew()))

    def known(self) -> Mapping[str, Clock]:
        """Return a copy of all clocks by node."""
        return dict(self._clocks)

    def forget(self, node: str) -> None:
        """Drop what is known of a node."""
        self._clocks.pop(node, None)
