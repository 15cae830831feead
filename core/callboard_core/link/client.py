"""A paho client that reads ahead and writes in one go; the only place that knows paho's inside."""

from __future__ import annotations

import logging
import socket
import ssl
from time import monotonic
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode

__all__ = ["BufferedClient"]

_log = logging.getLogger("callboard.link")

#: Seconds for the broker to take our DISCONNECT and close the connection.
LINGER = 0.5
#: Bytes asked of the socket at once.
READ_AHEAD = 65_536


class BufferedClient(Client):
    """Serves most reads from one large one, and sends all that was queued with one system call.

    Paho asks the socket for one byte, then the length, then the rest of each packet, and sends each packet by
    itself; every such call gives other threads the interpreter for up to 5 ms.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._ahead = b""
        self._at = 0
        self._out = bytearray()
        self.leaving = False
        self.on_socket_register_write = _nothing  # paho then leaves it to us when to write

    @property
    def buffered(self) -> bool:
        """True while there is something to read that the selector cannot see."""
        sock: Any = self.socket()
        return self._at < len(self._ahead) or (isinstance(sock, ssl.SSLSocket) and sock.pending() > 0)

    @property
    def unsent(self) -> int:
        """Bytes that wait for the socket to take them."""
        return len(self._out)

    def want_write(self) -> bool:
        """True while something waits to be sent."""
        return bool(self._out) or super().want_write()

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it."""
        if super().want_write():
            self.loop_write()
        if not self._out or self.socket() is None:
            return
        try:
            sent = super()._sock_send(self._out)
        except BlockingIOError:
            return
        except OSError as error:
            _log.debug("the connection broke: %s", error)
            self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)
            return
        del self._out[:sent]

    def _sock_send(self, buf: bytes | bytearray) -> int:
        self._out += buf
        return len(buf)

    def _sock_recv(self, bufsize: int) -> bytes:
        if self._at >= len(self._ahead):
            self._ahead, self._at = super()._sock_recv(READ_AHEAD), 0
        chunk = self._ahead[self._at : self._at + bufsize]
        self._at += len(chunk)
        return chunk

    def _sock_close(self) -> None:
        sock: Any = self.socket()
        if sock is not None and self.leaving:
            _say_goodbye(sock, self._out)
        super()._sock_close()


def _nothing(*_: object) -> None:
    """Whether there is something to write is asked, not told."""


def _say_goodbye(sock: socket.socket, rest: bytearray) -> None:
    """Send the rest, and let the broker read our DISCONNECT before the socket is closed.

    Closing a socket with unread data resets the connection; the broker may then find it broken before it has
    read the DISCONNECT, and publishes the will.
    """
    deadline = monotonic() + LINGER
    try:
        sock.settimeout(LINGER)
        sock.sendall(rest)
        sock.shutdown(socket.SHUT_WR)
        while (left := deadline - monotonic()) > 0:
            sock.settimeout(left)
            if not sock.recv(READ_AHEAD):
                return
    except OSError as error:
        _log.debug("the broker closed first: %s", error)
