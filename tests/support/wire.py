"""A tiny, readable MQTT client on a raw socket: it does what a test says, right or wrong, and nothing else."""

from __future__ import annotations

import itertools
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from support import packets as p
from support.packets import Packet, Will

__all__ = ["Closed", "Packet", "Will", "Wire", "connect", "rejected"]

PATIENCE = 20.0  # seconds a test waits for what must come; generous, because machines are noisy


class Closed(ConnectionError):
    """The broker closed the connection."""


class Wire:
    """One connection. `level` is 4 (MQTT 3.1.1) or 5."""

    def __init__(
        self, address: tuple[str, int], *, level: int = 4, tls: ssl.SSLContext | None = None
    ) -> None:
        self.level = level
        self.socket: socket.socket = socket.create_connection(address, timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.connack = Packet(0)
        self._buffer = bytearray()
        self._pids = itertools.cycle(range(1, 65536))
        self.kept: list[Packet] = []  # read while waiting for something else

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "socket"):  # nobody listened otherwise
            self.socket.close()  # a test that fails half-way must not warn about its socket as well

    def close(self) -> None:
        """Drop the connection without DISCONNECT."""
        self.socket.close()

    def reset(self) -> None:
        """Drop the connection with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def send(self, *raw: bytes) -> None:
        self.socket.sendall(b"".join(raw))

    # -- reading ---------------------------------------------------------------------------------------

    def receive(self, timeout: float = PATIENCE) -> Packet:
        """The next packet; raises Closed at the end of the stream and TimeoutError when none comes."""
        return self.kept.pop(0) if self.kept else self._next(time.monotonic() + timeout)

    def _next(self, deadline: float) -> Packet:
        while (packet := self._pop()) is None:
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                chunk = self.socket.recv(1 << 18)
            except ConnectionError as error:
                raise Closed(str(error)) from error
            if not chunk:
                raise Closed("end of stream")
            self._buffer += chunk
        return packet

    def _pop(self) -> Packet | None:
        size, shift = 0, 0
        for at in range(1, min(5, len(self._buffer))):
            size |= (self._buffer[at] & 127) << shift
            shift += 7
            if self._buffer[at] < 128:
                end = at + 1 + size
                if len(self._buffer) < end:
                    return None
                first, body = self._buffer[0], bytes(self._buffer[at + 1 : end])
                del self._buffer[:end]
                return p.parse(first, body, self.level)
        return None

    def wait_for(self, want: Callable[[Packet], bool], timeout: float = PATIENCE) -> Packet:
        """The first packet that satisfies `want`; others are kept for later `receive` calls."""
        for index, packet in enumerate(self.kept):
            if want(packet):
                return self.kept.pop(index)
        deadline = time.monotonic() + timeout
        while not want(packet := self._next(deadline)):
            self.kept.append(packet)
        return packet

    def expect(self, kind: int, pid: int | None = None, timeout: float = PATIENCE) -> Packet:
        """The next packet, which has to be of that kind (and identifier)."""
        packet = self.receive(timeout)
        assert packet.kind == kind, f"expected {p.NAMES[kind]}, got {packet}"
        assert pid is None or packet.pid == pid, f"expected identifier {pid}, got {packet}"
        return packet

    def message(self, timeout: float = PATIENCE) -> Packet:
        """The next PUBLISH, answered as its QoS asks."""
        packet = self.expect(p.PUBLISH, timeout=timeout)
        self.answer(packet)
        return packet

    def messages(self, count: int, timeout: float = PATIENCE) -> list[Packet]:
        return [self.message(timeout) for _ in range(count)]

    def answer(self, packet: Packet) -> None:
        """Finish the handshake of a received PUBLISH."""
        if packet.qos == 1:
            self.send(p.ack(p.PUBACK, packet.pid))
        elif packet.qos == 2:
            self.send(p.ack(p.PUBREC, packet.pid))
            self.wait_for(lambda other: other.kind == p.PUBREL and other.pid == packet.pid)
            self.send(p.ack(p.PUBCOMP, packet.pid))

    def backlog(self) -> list[Packet]:
        """Everything the broker had sent us before it answered a ping. No guessing with sleeps."""
        self.send(p.PING)
        self.wait_for(lambda packet: packet.kind == p.PINGRESP)
        found, self.kept = self.kept, []
        return found

    def is_quiet(self) -> bool:
        found = self.backlog()
        assert not found, f"unexpected: {found}"
        return True

    def is_closed(self, timeout: float = PATIENCE) -> bool:
        """Whether the broker closes this connection within `timeout` seconds; packets before that are kept."""
        deadline = time.monotonic() + timeout
        try:
            while True:
                self.kept.append(self._next(deadline))
        except Closed:
            return True
        except TimeoutError:
            return False

    # -- the usual exchanges ---------------------------------------------------------------------------

    def pid(self) -> int:
        return next(self._pids)

    def connect(self, client_id: str, **options: Any) -> Packet:
        """CONNECT and return what came back, normally CONNACK."""
        self.send(p.connect(client_id, level=self.level, **options))
        self.connack = self.receive()
        return self.connack

    def subscribe(self, *filters: str | tuple[str, int], props: p.Properties | None = None) -> Packet:
        """SUBSCRIBE (QoS 0 when only a name is given) and return the SUBACK."""
        wanted = [(each, 0) if isinstance(each, str) else each for each in filters]
        pid = self.pid()
        self.send(p.subscribe(wanted, pid=pid, level=self.level, props=props))
        return self.wait_for(lambda packet: packet.kind == p.SUBACK and packet.pid == pid)

    def unsubscribe(self, *filters: str) -> Packet:
        pid = self.pid()
        self.send(p.unsubscribe(filters, pid=pid, level=self.level))
        return self.wait_for(lambda packet: packet.kind == p.UNSUBACK and packet.pid == pid)

    def publish(self, topic: str, payload: bytes = b"", *, qos: int = 0, **options: Any) -> Packet | None:
        """PUBLISH with the whole handshake; returns the last acknowledgement, None for QoS 0."""
        pid = self.pid() if qos else 0
        self.send(p.publish(topic, payload, qos=qos, pid=pid, level=self.level, **options))
        if not qos:
            return None
        got = self.wait_for(lambda packet: packet.kind in {p.PUBACK, p.PUBREC} and packet.pid == pid)
        if qos == 2 and got.kind == p.PUBREC and got.code < 0x80:
            self.send(p.ack(p.PUBREL, pid))
            got = self.wait_for(lambda packet: packet.kind == p.PUBCOMP and packet.pid == pid)
        return got

    def disconnect(
        self, code: int | None = None, props: Sequence[Any] | dict[str, Any] | None = None
    ) -> None:
        """Clean DISCONNECT; returns when the broker has closed its side."""
        self.send(p.disconnect(code, dict(props) if props else None))
        self.is_closed()
        self.close()


def connect(
    address: tuple[str, int],
    client_id: str,
    *,
    level: int = 4,
    tls: ssl.SSLContext | None = None,
    **options: Any,
) -> Wire:
    """A connection that the broker accepted."""
    wire = Wire(address, level=level, tls=tls)
    answer = wire.connect(client_id, **options)
    assert answer.kind == p.CONNACK, answer
    assert answer.code == 0, answer
    return wire


def rejected(address: tuple[str, int], raw: bytes, *, level: int = 4) -> Packet | None:
    """Send raw bytes as the first ones; the broker must close. Returns the CONNACK it sent before, if any."""
    with Wire(address, level=level) as wire:
        try:
            wire.send(raw)
        except ConnectionError:
            return None
        assert wire.is_closed(), "the broker kept the connection"
        return wire.receive() if wire.kept else None
