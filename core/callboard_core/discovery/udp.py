"""UDP broadcast: a thread that answers for a board, and a query that waits for answers."""

from __future__ import annotations

import contextlib
import errno
import logging
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from callboard_core.discovery.networks import listening, own_networks, targets
from callboard_core.discovery.offers import Offers
from callboard_core.discovery.wire import ANSWER_LIMIT, QUERY_LIMIT, Board, Found, Query, answer
from callboard_core.errors import BadRequest, CallboardError, Conflict

if TYPE_CHECKING:
    from _typeshed import HasFileno

__all__ = ["Asker", "Responder"]

log = logging.getLogger(__name__)

#: Seconds between a query and its repetitions; the last one is kept. Datagrams get lost, and networks come up late.
_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.0)


class Responder:
    """Answers queries on the board's network until it is stopped.

    Attributes:
        answered: queries answered.
        ignored: datagrams that were no query.
    """

    def __init__(self, board: Board, *, bind: str, port: int) -> None:
        self.answered = 0
        self.ignored = 0
        self._board = board
        self._bind = bind
        self._port = port
        self._running: tuple[threading.Thread, socket.socket] | None = None

    def start(self) -> None:
        """Listen.

        Raises:
            Conflict: another program holds the port.
            BadRequest: the address is not this machine's.
        """
        listener = _listener(listening(self._bind, own_networks()), self._port)
        stop_reader, stop_writer = socket.socketpair()
        thread = threading.Thread(
            target=self._run, args=(listener, stop_reader), name="discovery-udp", daemon=True
        )
        self._running = thread, stop_writer
        thread.start()

    def stop(self) -> None:
        """Stop listening; returns when the port is free. Nothing happens if it never started."""
        if self._running is not None:
            thread, stop_writer = self._running
            self._running = None
            stop_writer.close()  # its other end becomes readable
            thread.join()

    def _run(self, listener: socket.socket, stop: socket.socket) -> None:
        with listener, stop:
            while stop not in _ready(listener, stop):
                self._serve(listener)

    def _serve(self, listener: socket.socket) -> None:
        """Take one datagram. Whatever it holds, and whatever the network does, the next one is served too."""
        try:
            packet, sender = listener.recvfrom(QUERY_LIMIT + 1)
            reply = answer(packet, self._board)
            if reply is not None:
                listener.sendto(reply, sender)
                self.answered += 1
        except CallboardError as error:
            self.ignored += 1
            log.debug("ignored a datagram: %s", error)
        except OSError as error:
            log.debug("could not answer: %s", error)


def _listener(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    # Several boards of one machine share the port: a broadcast reaches every socket that allows it.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setblocking(False)
    try:
        listener.bind((address, port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise Conflict(
                f"UDP port {port} is taken by another program; stop it, choose another discovery.port (on every "
                "node too), or switch discovery off (discovery.enabled = false)"
            ) from None
        raise BadRequest(f"cannot listen for discovery on {address}:{port}: {error.strerror}") from None
    return listener


class Asker:
    """One query: repeated until the time is over or an offer has come by any way."""

    def __init__(self, offers: Offers, *, port: int) -> None:
        self._offers = offers
        self._port = port
        self._query = Query(callboard=1, ask="board", nonce=secrets.token_hex(8), site=offers.site)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._socket.setblocking(False)
        self._repeat_at = 0.0
        self._pauses = _pauses()

    def close(self) -> None:
        """Free the socket."""
        self._socket.close()

    def wait(self, until: float) -> Found | None:
        """Ask, and return the first offer; ``None`` when the monotonic clock reaches ``until`` without one."""
        while (now := time.monotonic()) < until and self._offers.first is None:
            if now >= self._repeat_at:
                self._send()
                self._repeat_at = now + next(self._pauses)
            if self._socket in _ready(self._socket, self._offers, timeout=min(until, self._repeat_at) - now):
                self._receive()
        return self._offers.first

    def _send(self) -> None:
        packet = self._query.encode()
        for target in targets(own_networks()):
            # A network that is down must not keep the query from the others.
            with contextlib.suppress(OSError):
                self._socket.sendto(packet, (target, self._port))

    def _receive(self) -> None:
        try:
            packet, (host, _) = self._socket.recvfrom(ANSWER_LIMIT + 1)
            found = Found.from_answer(packet, host, self._query.nonce)
        except (CallboardError, OSError) as error:
            log.debug("ignored an answer: %s", error)
            found = None
        if found is None:
            self._offers.refuse()
        else:
            self._offers.add(found)


def _pauses() -> Iterator[float]:
    yield from _PAUSES
    while True:
        yield _PAUSES[-1]


def _ready(*sources: HasFileno, timeout: float | None = None) -> list[object]:
    """Wait until some of ``sources`` can be read; ``select`` itself refuses descriptors over 1023."""
    with selectors.DefaultSelector() as selector:
        for source in sources:
            selector.register(source, selectors.EVENT_READ)
        return [key.fileobj for key, _ in selector.select(timeout)]
