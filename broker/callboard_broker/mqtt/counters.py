"""What the broker counts: plain integers, raised in place, read by ``$SYS`` and ``/metrics``."""

from __future__ import annotations

from collections import Counter

__all__ = ["Counters"]


class Counters:
    """Running totals since start.

    ``refused`` counts by reason (``publish``, ``subscribe``, ``receive``, ``connect`` …), ``bounds`` by the name of the
    limit that was hit.
    """

    __slots__ = (
        "bounds",
        "bytes_in",
        "bytes_out",
        "connects",
        "dropped",
        "expired_sessions",
        "messages_in",
        "messages_out",
        "publish_bytes_in",
        "publish_bytes_out",
        "publish_in",
        "publish_out",
        "refused",
        "sockets",
        "taken_over",
    )

    def __init__(self) -> None:
        self.bytes_in = 0
        self.bytes_out = 0
        self.messages_in = 0
        self.messages_out = 0
        self.publish_in = 0
        self.publish_out = 0
        self.publish_bytes_in = 0
        self.publish_bytes_out = 0
        self.connects = 0
        self.sockets = 0
        self.dropped = 0
        self.expired_sessions = 0
        self.refused: Counter[str] = Counter()
        self.bounds: Counter[str] = Counter()
        self.taken_over: Counter[str] = Counter()
