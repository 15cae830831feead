"""Wakes the network thread out of its wait for the socket."""

from __future__ import annotations

import socket

__all__ = ["Waker"]


class Waker:
    """A socket pair: :meth:`wake` from any thread makes ``reader`` readable."""

    def __init__(self) -> None:
        self.reader, self._writer = socket.socketpair()
        self.reader.setblocking(False)
        self._writer.setblocking(False)
        self._pending = False

    def wake(self) -> None:
        """End the current or next wait."""
        if self._pending:
            return
        self._pending = True
        try:
            self._writer.send(b"\0")
        except OSError:
            self._pending = True  # full means awake already; closed means nobody waits any more

    def clear(self) -> None:
        """Note that the wait has ended."""
        try:
            self.reader.recv(4096)
        except BlockingIOError:
            return
        finally:
            self._pending = False

    def close(self) -> None:
        """Give the sockets back."""
        self.reader.close()
        self._writer.close()
