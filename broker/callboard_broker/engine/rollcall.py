"""Who was alive when a broker was started and has not been heard of since. Pure.

A broker that is killed takes the last wills of its clients with it. A node that died meanwhile would stay
``ready`` for ever; so after a start everybody has to show up again, or is marked ``lost``.
"""

from __future__ import annotations

from callboard_core.messages import Status, StatusName

__all__ = ["RollCall"]

#: Seconds a living node may take to connect again: its longest pause between attempts, and some.
_RECONNECT = 15.0
#: A node notices a connection that died silently after this many keep-alives.
_KEEPALIVES = 1.5
_USUAL_KEEPALIVE = 10.0
#: A sleeping node is away on purpose.
_EXPECTED = frozenset({StatusName.INIT, StatusName.READY})


class RollCall:
    """Statuses from before the start, until their nodes answer or are overdue.

    Args:
        now: monotonic time of the broker's start.
    """

    def __init__(self, now: float) -> None:
        self._started = now
        self._missing: dict[str, Status] = {}
        self._keepalives: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._missing)

    def remembered(self, node: str, status: Status) -> None:
        """Note a status from before the start."""
        if status.status in _EXPECTED:
            self._missing[node] = status

    def keepalive(self, node: str, seconds: float) -> None:
        """Note a node's keep-alive."""
        self._keepalives[node] = seconds

    def heard(self, node: str) -> None:
        """Note that a node has published its status, whatever it is."""
        self._missing.pop(node, None)

    def overdue(self, now: float) -> dict[str, Status]:
        """Return, once each, the last status of nodes that should have answered by ``now`` (monotonic)."""
        late = {node: status for node, status in self._missing.items() if now >= self._due(node)}
        for node in late:
            del self._missing[node]
        return late

    def _due(self, node: str) -> float:
        return self._started + _RECONNECT + _KEEPALIVES * self._keepalives.get(node, _USUAL_KEEPALIVE)
