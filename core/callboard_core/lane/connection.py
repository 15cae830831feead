"""One caller's connection, as the worker's process sees it: who it is, its calls, and its answers."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from callboard_core.calls.envelopes import Asked, read_asked
from callboard_core.errors import BadPayload, CallboardError, Unauthorized
from callboard_core.lane import frames
from callboard_core.lane.frames import Decoder, Hello, Kind, Welcome
from callboard_core.lane.sender import Sender
from callboard_core.lane.wires import Wire
from callboard_core.messages import ErrorBody, parse

__all__ = ["HANDSHAKE", "SILENCE", "Connection", "Host", "Work"]

_log = logging.getLogger("callboard.lane")

#: Seconds within which a caller must have said who it is.
HANDSHAKE = 5.0
#: Seconds after which a caller that says nothing, not even a ping, is gone.
SILENCE = 20.0

Work = Callable[[], object]


class Host(Protocol):
    """What a connection needs of its server. All but ``take`` are quick."""

    instance: str

    def reply_topic(self, caller: str) -> str:
        """Where a caller's answers go through the broker."""

    def admit(self, hello: Hello) -> bool:
        """Tell whether the ticket is good."""

    def lease(self) -> float:
        """Seconds for which a ticket admits."""

    def take(self, connection: Connection, call: Asked, worker: str) -> None:
        """Take a call."""

    def post(self, caller: str, payload: bytes) -> None:
        """Send an answer by the other road."""

    def ended(self, connection: Connection) -> None:
        """A connection is over."""


class Connection:
    """Thread-safe. One thread at a time reads: :meth:`serve` returns when another has taken over.

    What is answered after it was lost goes to the caller's reply topic through the broker.

    Args:
        wire: the connection.
        host: its server.
        trusted: whether the kernel vouches for the caller, so that it needs no ticket.
    """

    def __init__(self, wire: Wire, host: Host, *, trusted: bool) -> None:
        self.caller = ""
        self.until: float | None = None  # when the ticket's time is over; None: never
        self.busy_since: float | None = None  # since when the reading thread works on something else
        self._wire, self._host, self._trusted = wire, host, trusted
        self._decoder = Decoder()
        self._sender = Sender(wire, self.lose)
        self._frames: deque[tuple[Kind, bytes]] = deque()
        self._lock = threading.Lock()
        self._reader = 0
        self._reply_to = ""
        self._over = False

    def serve(self) -> None:
        """Let the caller say who it is, then read."""
        try:
            self._shake_hands()
        except (CallboardError, OSError, ValueError) as error:
            self.lose(str(error))
            return
        self._read(self._reader)

    def hand_over(self) -> None:
        """Let another thread read: the one that did works on something that takes long."""
        with self._lock:
            if self.busy_since is None or self._over:
                return
            self._reader += 1
            self.busy_since = None
            reader = self._reader
        name = threading.current_thread().name
        threading.Thread(target=self._read, args=(reader,), name=f"{name}-{reader}", daemon=True).start()

    def answer(self, payload: bytes) -> None:
        """Send an answer, whichever way is open; from any thread, never waits."""
        if self._over or not self._sender.send(frames.encode(Kind.ANSWER, payload)):
            self._host.post(self.caller, payload)

    def run(self, work: Work) -> float:
        """Do something on the reading thread; if it takes long, another one reads meanwhile. Returns the seconds."""
        self.busy_since = began = monotonic()
        work()
        if self.busy_since is began:  # else another thread is at work by now
            self.busy_since = None
        return monotonic() - began

    def lose(self, reason: str) -> None:
        """End it."""
        with self._lock:
            if self._over:
                return
            self._over = True
        _log.debug("the lane of %s has ended: %s", self.caller or "a stranger", reason)
        self._wire.close()
        self._host.ended(self)

    def close(self) -> None:
        """End it on purpose."""
        self._sender.send(frames.encode(Kind.BYE))
        self.lose("closed")

    # -- reading ---------------------------------------------------------------------------------------------

    def _shake_hands(self) -> None:
        deadline = monotonic() + HANDSHAKE
        while not self._frames:
            self._fetch(max(0.0, deadline - monotonic()), "it did not say who it is")
        kind, body = self._frames.popleft()
        if kind is not Kind.HELLO:
            raise BadPayload("it did not begin with who it is")
        hello = parse(Hello, body)
        self.caller, self._reply_to = hello.caller, self._host.reply_topic(hello.caller)
        self._let_in(hello)
        self._decoder.limit = frames.LIMIT

    def _let_in(self, hello: Hello) -> None:
        lease = None if self._trusted else self._host.lease()
        known = hello.version == frames.VERSION and hello.caller == self.caller
        if not known or not (self._trusted or self._host.admit(hello)):
            error = Unauthorized("the ticket is not good (any more)")
            self._sender.send(frames.encode(Kind.REFUSED, ErrorBody.of(error).encode()))
            raise error
        self.until = None if lease is None else monotonic() + lease
        self._sender.send(
            frames.encode(Kind.WELCOME, Welcome(instance=self._host.instance, lease=lease).encode())
        )

    def _read(self, reader: int) -> None:
        try:
            while self._reader == reader and not self._over:
                if self._frames:
                    self._handle(*self._frames.popleft())
                else:
                    self._fetch(SILENCE, "it is silent")
        except (CallboardError, OSError, ValueError) as error:
            self.lose(str(error))

    def _fetch(self, patience: float, what: str) -> None:
        data = self._wire.read(patience)
        if data is None:
            raise OSError(what)
        if not data:
            raise OSError("the caller has closed it")
        self._frames.extend(self._decoder.feed(data))

    def _handle(self, kind: Kind, body: bytes) -> None:
        if kind is Kind.CALL:
            worker, envelope = frames.read_call(body)
            call = read_asked(envelope)
            if call.reply_to is not None and call.reply_to != self._reply_to:
                raise BadPayload("it calls in another's name")
            self._host.take(self, call, worker)
        elif kind is Kind.PING:
            self._sender.send(frames.encode(Kind.PONG))
        elif kind is Kind.RENEW:
            self._let_in(parse(Hello, body))
        elif kind is Kind.BYE:
            self.lose("the caller said good-bye")
        else:
            raise BadPayload(f"a caller sends no {kind.name}")
