"""Wakes the network thread out of its wait for the socket."""

from __future__ import annotations

import socket

__all__ = ["Waker"]


class Waker:
    """A socket pair: :meth:`wake` from any thread makes ``reader`` readable."""

    def __init__(self) -> None:
        self._reader: socket.socket | None = None
        self._writer: socket.socket | None = None
        self._pending = False

    @property
    def reader(self) -> socket.socket:
        """What the network thread waits for; made on first use."""
        if self._reader is None:
            self._reader, self._writer = socket.socketpair()
            self._reader.setblocking(False)
            self._writer.setblocking(False)
        return self._reader

    def wake(self) -> None:
        """End the current or next wait."""
        writer = self._writer
        if self._pending or writer is None:
            return
        self._pending = True
        try:
            writer.send(b"\0")
        except OSError:
            self._pending = True  # full means awake already; closed means nobody waits any more

    def clear(self) -> None:
        """Note that the wait has ended. Look at what one was woken for only after this."""
        try:
            self.reader.recv(4096)
        except BlockingIOError:
            return
        finally:
            self._pending = False

    def close(self) -> None:
        """Give the sockets back; only for the network thread, at its end."""
        for end in (self._reader, self._writer):
            if end is not None:
                end.close()
