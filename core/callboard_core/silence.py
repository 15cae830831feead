"""Whether the other end of a TCP connection has fallen silent, by what the kernel knows of it (Linux).

TCP repeats what is not acknowledged at ever longer intervals. After an outage it thus goes on waiting for as long again,
and whoever waits for the answer with it. It is better to begin a new connection.
"""

from __future__ import annotations

import socket
from typing import Protocol

__all__ = ["DEAD", "LOOK", "Silence"]

#: Seconds between two looks.
LOOK = 1.0
#: Seconds of repeating in vain after which a connection counts as dead.
DEAD = 4.0

_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)
#: Bytes of the kernel's answer that are read; the last is ``tcpi_retransmits`` (linux/tcp.h): repetitions since the last
#: acknowledgement. A peer that acknowledges and takes no more for now (a window of zero) is not counted there.
_HEAD = 3


class Socket(Protocol):
    """What is needed of a socket."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        """See :meth:`socket.socket.getsockopt`."""


class Silence:
    """The silence of one connection."""

    __slots__ = ("_due", "_since", "_socket")

    def __init__(self, connection: Socket) -> None:
        self._socket = connection
        self._since: float | None = None
        self._due = 0.0

    def is_deadly(self, now: float) -> bool:
        """Tell, at the monotonic time ``now``, whether the other end has been silent for too long.

        Ask at least every second; it is looked at no more often than that.
        """
        if now < self._due:
            return False
        self._due = now + LOOK
        if not self._repeats():
            self._since = None
            return False
        if self._since is None:
            self._since = now
        return now - self._since >= DEAD

    def _repeats(self) -> bool:
        if _TCP_INFO is None:
            return False
        try:
            return self._socket.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _HEAD)[-1] > 0
        except (OSError, ValueError):  # closed, or no TCP; uvloop's sockets have a negative descriptor then
            return False
