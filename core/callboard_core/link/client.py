"""A paho client whose messages go past paho, many at a time; the only place that knows paho's inside."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable
from time import monotonic
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode

__all__ = ["BufferedClient", "Taken"]

_log = logging.getLogger("callboard.link")

#: Seconds for the broker to take our DISCONNECT and close the connection.
LINGER = 0.5
#: Bytes asked of the socket at once.
READ_AHEAD = 65_536
#: First bytes, and bits of them, of packets (MQTT 3.1.1, 2.2).
_KIND, _PUBLISH, _PUBACK = 0xF0, 0x30, 0x40
_QOS, _QOS_2, _RETAIN = 6, 4, 1
#: The longest length has four bytes of seven bits each (MQTT 3.1.1, 2.2.3).
_MORE, _DIGIT, _LONGEST_SHIFT = 0x80, 0x7F, 21

#: Takes a message: topic, payload, QoS, whether it was retained, packet id (0 with QoS 0).
Taken = Callable[[bytes, bytes, int, bool, int], None]


class BufferedClient(Client):
    """Reads ahead, and takes and makes the packets of messages itself; connecting and subscribing is paho's.

    Paho asks the socket for one byte, then the length, then the rest of each packet, and makes a dozen objects for
    each message and each acknowledgement.

    Attributes:
        taken: takes the messages that arrive; each with QoS 1 is to be acknowledged.
        unacknowledged: packet ids of the messages sent with QoS 1 that the broker has not acknowledged.
        leaving: a DISCONNECT is on its way; the socket is closed when the broker has had time to read it.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._ahead = b""
        self._at = 0
        self._sending = bytearray()
        self.taken: Taken = _ignore
        self.unacknowledged: set[int] = set()
        self.leaving = False
        self.on_socket_register_write = _nothing  # paho then leaves it to us when to write

    @property
    def buffered(self) -> bool:
        """True while there is something to read that the selector cannot see."""
        sock: Any = self.socket()
        return self._next_packet() is not None or (isinstance(sock, ssl.SSLSocket) and sock.pending() > 0)

    @property
    def unsent(self) -> int:
        """Bytes that wait for the socket to take them."""
        return len(self._sending)

    def want_write(self) -> bool:
        """True while something waits to be sent."""
        return bool(self._sending) or super().want_write()

    def read(self, most: int, paused: Callable[[], bool]) -> None:
        """Handle packets that have arrived, ``most`` of them and until ``paused``; reads once if none is whole."""
        if self._next_packet() is None:
            self._read_ahead()
        for _ in range(most):
            packet = self._next_packet()
            if packet is None or self.socket() is None or paused():
                return
            self._take(*packet)

    def send_message(self, topic: str, payload: bytes, qos: int, retain: bool) -> int:
        """Put a message out; returns its packet id, or 0 with QoS 0."""
        if self._out_packet:  # what paho wants to send goes first
            self.loop_write()
        name = topic.encode()
        length = 2 + len(name) + len(payload) + (2 if qos else 0)
        out = self._sending
        out.append(_PUBLISH | qos << 1 | int(retain))
        while length > _DIGIT:
            out.append(length & _DIGIT | _MORE)
            length >>= 7
        out.append(length)
        out += len(name).to_bytes(2, "big")
        out += name
        number = 0
        if qos:
            number = self._mid_generate()
            self.unacknowledged.add(number)
            out += number.to_bytes(2, "big")
        out += payload
        return number

    def acknowledge(self, number: int) -> None:
        """Acknowledge a message with QoS 1."""
        self._sending += bytes((_PUBACK, 2, number >> 8, number & 0xFF))

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it."""
        if super().want_write():
            self.loop_write()
        if not self._sending or self.socket() is None:
            return
        try:
            sent = super()._sock_send(self._sending)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error)
            return
        del self._sending[:sent]
        self._last_msg_out = monotonic()

    # -- reading ---------------------------------------------------------------------------------------------

    def _read_ahead(self) -> None:
        if self.socket() is None:
            return
        try:
            data = super()._sock_recv(READ_AHEAD)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error)
            return
        if not data:
            self._lose("closed by the broker")
            return
        self._ahead, self._at = self._ahead[self._at :] + data, 0
        self._last_bytes_received = monotonic()

    def _next_packet(self) -> tuple[int, int, int] | None:
        """The first byte of the next packet, where the rest begins and where it ends; None if it is not whole."""
        ahead, start = self._ahead, self._at + 1
        end = len(ahead)
        length = shift = 0
        while start < end:
            digit = ahead[start]
            start += 1
            length |= (digit & _DIGIT) << shift
            if digit < _MORE:
                return (ahead[self._at], start, start + length) if start + length <= end else None
            shift += 7
            if shift > _LONGEST_SHIFT:
                return (0, start, start)  # no packet at all, which paho refuses
        return None

    def _take(self, first: int, start: int, end: int) -> None:
        ahead, self._at = self._ahead, end
        if first & _KIND == _PUBLISH and first & _QOS < _QOS_2 and end - start > 1:
            self._take_message(first, ahead, start, end)
        elif first == _PUBACK and end - start == 2:  # noqa: PLR2004 - bytes of a packet id
            self.unacknowledged.discard(ahead[start] << 8 | ahead[start + 1])
        else:
            self._leave_to_paho(first, ahead[start:end])

    def _take_message(self, first: int, ahead: bytes, start: int, end: int) -> None:
        begin = start + 2
        after = begin + (ahead[start] << 8 | ahead[start + 1])
        topic, number = ahead[begin:after], 0
        if first & _QOS:
            number = int.from_bytes(ahead[after : after + 2], "big")
            after += 2
        if after > end:
            self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_PROTOCOL)
            return
        self.taken(topic, ahead[after:end], (first & _QOS) >> 1, bool(first & _RETAIN), number)

    def _leave_to_paho(self, first: int, body: bytes) -> None:
        self._in_packet = {
            "command": first,
            "have_remaining": 1,
            "remaining_count": [],
            "remaining_mult": 1,
            "remaining_length": len(body),
            "packet": bytearray(body),
            "to_process": 0,
            "pos": 0,
        }
        try:
            outcome = self._packet_handle()
        except Exception as error:  # noqa: BLE001 - whatever the broker sent, the connection ends and begins anew
            _log.warning("the broker sent what is no packet: %s", error)
            outcome = MQTTErrorCode.MQTT_ERR_PROTOCOL
        if outcome > 0:
            self._loop_rc_handle(outcome)

    def _lose(self, why: object) -> None:
        _log.debug("the connection broke: %s", why)
        self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)

    # -- what paho asks for ----------------------------------------------------------------------------------

    def _sock_send(self, buf: bytes | bytearray) -> int:
        self._sending += buf
        return len(buf)

    def _sock_close(self) -> None:
        sock: Any = self.socket()
        if sock is not None and self.leaving:
            _say_goodbye(sock, self._sending)
        super()._sock_close()


def _ignore(*_: object) -> None:
    """Messages before anybody takes them."""


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
