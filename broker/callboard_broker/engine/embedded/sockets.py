"""MQTT over an asyncio transport (TCP and TLS): bytes go to a connection, what it puts out goes to the socket."""

from __future__ import annotations

import asyncio
import contextlib
from socket import SO_KEEPALIVE, SO_LINGER, SOL_SOCKET
from struct import pack
from typing import Any, cast

from callboard_broker.engine.embedded.door import Door
from callboard_broker.mqtt.connection import Connection
from callboard_core.trust.certificates import fingerprint

__all__ = ["RESET", "SocketProtocol", "note_certificate"]

#: Seconds a closing socket gets for its last bytes.
_LINGER = 2.0
#: For ``SO_LINGER``: closing waits for nothing and sends RST (socket(7)).
RESET = pack("ii", 1, 0)


class SocketProtocol(asyncio.Protocol):
    """One accepted socket.

    Args:
        door: where it goes.
        pinned: of a client's certificate its fingerprint counts, not its name.
    """

    __slots__ = ("_connection", "_door", "_hub", "_paused", "_pinned", "_transport", "_turn")

    def __init__(self, door: Door, *, pinned: bool = False) -> None:
        self._door = door
        self._pinned = pinned
        self._hub = door.hub
        self._turn = door.turn
        self._paused = False
        self._transport: asyncio.Transport | None = None
        self._connection: Connection | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Make a connection, if there is room for one more."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else "local"
        if not self._door.enter(address):
            self._transport.abort()
            return
        high = self._hub.limits.write_buffer_bytes
        self._transport.set_write_buffer_limits(high=high, low=high // 4)
        socket = transport.get_extra_info("socket")
        if socket is not None and isinstance(peer, tuple):
            socket.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
            self._door.unheard.add(self, socket)
        connection = self._connection = Connection(self._hub, address)
        connection.transport = self
        note_certificate(connection, transport, pinned=self._pinned)

    def data_received(self, data: bytes) -> None:
        """Feed the connection."""
        connection = self._connection
        if connection is not None:
            connection.receive(data)
            if connection.pressed and self._transport is not None:
                self._transport.pause_reading()
            self._turn.soon()

    def go_on(self) -> None:
        """The connection is no longer pressed: read again."""
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        del exc
        self._door.unheard.remove(self)
        connection, self._connection = self._connection, None
        if connection is not None:
            self._door.leave(connection.address)
            connection.close()
            connection.transport = None
            self._turn.soon()

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        if self._connection is not None:
            self._connection.choke(True)

    def resume_writing(self) -> None:
        """The socket takes more again."""
        if self._connection is not None:
            self._connection.choke(False)
            self._turn.soon()
        if self._paused:
            self._paused = False
            if self._connection is not None and not self._connection.pressed:
                self.go_on()

    def write(self, data: bytes) -> None:
        """Write; a peer that sends without reading what it is answered is not read from meanwhile."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(data)
        waiting = transport.get_write_buffer_size()
        if (
            waiting > 2 * self._hub.limits.write_buffer_bytes
            and not self._paused
            and not transport.is_closing()
        ):
            self._paused = True
            transport.pause_reading()

    def finish(self) -> None:
        """Close after the last bytes; one that does not take them in time is cut."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.close()
        if transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(_LINGER, self.cut)

    def cut(self) -> None:
        """Reset: otherwise the kernel keeps megabytes for a peer that does not read, as long as its machine lives."""
        transport = self._transport
        if transport is None or self._connection is None:
            return
        socket = transport.get_extra_info("socket")
        if socket is not None:
            # Closed but not reported as lost yet; uvloop's sockets have a negative descriptor then.
            with contextlib.suppress(OSError, ValueError):
                socket.setsockopt(SOL_SOCKET, SO_LINGER, RESET)
        transport.abort()


def note_certificate(connection: Connection, transport: asyncio.BaseTransport, *, pinned: bool) -> None:
    """Tell a connection what certificate its client has shown, if any: the fingerprint of it, or else whose it is."""
    tls = transport.get_extra_info("ssl_object")
    if tls is None:
        return
    if pinned:
        shown = tls.getpeercert(binary_form=True)
        connection.fingerprint = "" if shown is None else fingerprint(shown)
    else:
        connection.certificate = _common_name(tls.getpeercert())


def _common_name(certificate: Any) -> str:
    """Return the common name of a client certificate as :mod:`ssl` gives it, or an empty string."""
    for part in (certificate or {}).get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return str(value)
    return ""
