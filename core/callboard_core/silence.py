"""Whether the other end of a TCP connection has fallen silent, by what the kernel knows of it (Linux).

TCP repeats what is not acknowledged at ever longer intervals. After an outage it thus goes on waiting for as long again,
and whoever waits for the answer with it. It is better to begin a new connection. The other end waits no less long, which
cannot be seen from here; whoever has nothing to send therefore has the kernel ask now and then (:func:`probe`).
"""

from __future__ import annotations

import socket
from typing import Protocol

__all__ = ["DEAD", "LOOK", "Silence", "probe"]

#: Seconds between two looks.
LOOK = 1.0
#: Seconds of repeating or probing in vain after which a connection counts as dead.
DEAD = 4.0
#: Unanswered probes after which the kernel itself ends a connection at the latest; only where nobody looks.
_PROBES = 10

_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)
#: Bytes of the kernel's answer that are read; the last are ``tcpi_retransmits`` and ``tcpi_probes`` (linux/tcp.h): what was
#: repeated and probed since the last acknowledgement. A peer that acknowledges and takes no more for now (a window of zero)
#: is not counted there.
_HEAD, _VAIN = 4, slice(2, 4)


def probe(connection: socket.socket, idle: int) -> None:
    """Have the kernel probe a connection on which nothing was heard for ``idle`` seconds, and then every second.

    The other end's kernel answers; neither its process nor ours is woken.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", idle), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", _PROBES)):
        option: int | None = getattr(socket, name, None)
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


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
        if not self._asks_in_vain():
            self._since = None
            return False
        if self._since is None:
            self._since = now
        return now - self._since >= DEAD

    def _asks_in_vain(self) -> bool:
        if _TCP_INFO is None:
            return False
        try:
            return any(self._socket.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _HEAD)[_VAIN])
        except (OSError, ValueError):  # closed, or no TCP; uvloop's sockets have a negative descriptor then
            return False
