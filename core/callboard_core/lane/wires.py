"""The bytes of a lane: a stream socket, plain or under TLS, read by one thread and written by any."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import struct
import threading
from time import monotonic
from typing import Protocol

__all__ = ["CHUNK", "Plain", "Tls", "Wire", "peer_user", "same_user"]

#: Bytes read at a time, and when the last ones were as many.
SMALL, CHUNK = 16 * 1024, 256 * 1024
#: Seconds for which what usually comes at once is looked for again and again. To be woken up takes longer than most calls
#: do, above all where the processor has gone to sleep meanwhile, and costs more of its time. Between two looks whoever waits
#: for the same processor, perhaps the other side, has its turn.
SPIN = 100e-6
#: Whether there is a processor left on which the other side can work meanwhile.
_MAY_SPIN = (os.cpu_count() or 1) > 1
_TIMEVAL = struct.Struct("ll")
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid (Linux, unix(7), SO_PEERCRED)


class Wire(Protocol):
    """A connection."""

    def fileno(self) -> int:
        """What to wait on."""

    def read(self, timeout: float) -> bytes | None:
        """Return what has come, empty at the end, or None if nothing comes within ``timeout`` seconds.

        Raises:
            OSError: the connection is broken.
        """

    def write(self, data: bytes | memoryview) -> int:
        """Write as much as can be without waiting; returns how many bytes.

        Raises:
            OSError: the connection is broken.
        """

    def wait_writable(self, timeout: float) -> bool:
        """Wait until more can be written."""

    def close(self) -> None:
        """Close; wakes who reads."""


class Plain:
    """An ordinary socket.

    Args:
        sock: connected.
        patience: seconds for which it is mostly read; the kernel then keeps the time, which spares asking it first.
    """

    def __init__(self, sock: socket.socket, patience: float) -> None:
        self._socket, self._patience, self._size = sock, patience, SMALL
        self._brisk = False  # the last bytes came so soon that the next ones are worth a spin
        sock.settimeout(None)
        seconds, rest = divmod(patience, 1.0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.pack(int(seconds), int(rest * 1e6)))
        self._readable = select.poll()
        self._readable.register(sock, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(sock, select.POLLOUT)
        self._receive, self._poll, self._send = sock.recv, self._readable.poll, sock.send

    def fileno(self) -> int:
        """See :class:`Wire`."""
        return self._socket.fileno()

    def read(self, timeout: float) -> bytes | None:
        """See :class:`Wire`."""
        began = monotonic()
        is_here = self._brisk and timeout > SPIN and self._spin(began + SPIN)
        if not is_here and timeout != self._patience and not self._poll(timeout * 1000):
            return None
        try:
            data = self._receive(self._size)
        except BlockingIOError:
            return None
        self._brisk = _MAY_SPIN and monotonic() - began < 2 * SPIN
        self._size = CHUNK if len(data) == self._size else SMALL
        return data

    def _spin(self, until: float) -> bool:
        while not self._poll(0):
            if monotonic() > until:
                return False
            os.sched_yield()
        return True

    def write(self, data: bytes | memoryview) -> int:
        """See :class:`Wire`."""
        try:
            return self._send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def wait_writable(self, timeout: float) -> bool:
        """See :class:`Wire`."""
        return bool(self._writable.poll(timeout * 1000))

    def close(self) -> None:
        """See :class:`Wire`."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Tls:
    """A socket under TLS. OpenSSL allows one thread at a time, so nobody waits inside it."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._socket = sock
        sock.setblocking(False)
        self._lock = threading.Lock()
        self._readable = select.poll()
        self._readable.register(sock, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(sock, select.POLLOUT)

    def fileno(self) -> int:
        """See :class:`Wire`."""
        return self._socket.fileno()

    def read(self, timeout: float) -> bytes | None:
        """See :class:`Wire`."""
        deadline = monotonic() + timeout
        while True:
            found = self._take()
            if found is not None:
                return found
            left = deadline - monotonic()
            if left <= 0 or not self._readable.poll(left * 1000):
                return None

    def _take(self) -> bytes | None:
        """Everything that is there, of one record or several."""
        parts: list[bytes] = []
        with self._lock:
            try:
                while not parts or (self._socket.pending() and len(parts) * 16_384 < CHUNK):
                    parts.append(self._socket.recv(CHUNK))
                    if not parts[-1]:
                        break
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return b"".join(parts) if parts else None
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b"".join(parts)
        return b"".join(parts)

    def write(self, data: bytes | memoryview) -> int:
        """See :class:`Wire`."""
        with self._lock:
            try:
                return self._socket.send(data)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return 0

    def wait_writable(self, timeout: float) -> bool:
        """See :class:`Wire`."""
        return bool(self._writable.poll(timeout * 1000))

    def close(self) -> None:
        """See :class:`Wire`."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def peer_user(sock: socket.socket) -> int | None:
    """User id of the process at the other end of a Unix socket, as the kernel tells it; None if it does not."""
    if sock.family != socket.AF_UNIX or not hasattr(socket, "SO_PEERCRED"):
        return None
    found: int = _CREDENTIALS.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )[1]
    return found


def same_user(sock: socket.socket) -> bool:
    """Tell whether the other end runs as the same user as this process, or as root, who may do anything anyway."""
    return peer_user(sock) in {os.geteuid(), 0}
