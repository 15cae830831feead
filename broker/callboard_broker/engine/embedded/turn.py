"""One turn of the event loop: what was produced in it is made durable first, then written, once per connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from callboard_broker.mqtt.connection import Connection
from callboard_broker.mqtt.hub import Hub

__all__ = ["Sent", "Transport", "Turn"]


#: Seconds since the last turn after which the loop counts as idle: nobody gains from waiting for others then.
_IDLE = 30e-6


class Transport(Protocol):
    """What the turn needs of a socket."""

    def write(self, data: bytes) -> None:
        """Take bytes; never blocks."""

    def finish(self) -> None:
        """Close once everything is written, or give up after a while."""

    def cut(self) -> None:
        """Close at once; what was not taken is thrown away, by the kernel as well."""

    def go_on(self) -> None:
        """Read again after the connection was pressed."""


class Sent(Protocol):
    """Wants to see what goes out."""

    def sent(self, connection: Connection, data: bytes) -> None:
        """Whole packets went out."""


class Turn:
    """Collects what connections put out and hands it to their transports at the end of the loop's turn.

    Args:
        hub: whose connections.
        login: called with every connection whose CONNECT waits for a decision.
        commit: makes what the journal was told durable.
    """

    def __init__(self, hub: Hub, login: Callable[[Connection], None], commit: Callable[[], None]) -> None:
        self._hub = hub
        self._login = login
        self._commit = commit
        self._loop = asyncio.get_running_loop()
        self._scheduled = False
        self._last = 0.0
        self.observer: Sent | None = None

    def soon(self) -> None:
        """Something may have been produced: write at once if the loop was idle, else once this turn is over."""
        if self._scheduled:
            return
        if self._loop.time() - self._last > _IDLE:
            self._run()
        else:
            self._scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        hub = self._hub
        while hub.logins:
            self._login(hub.logins.pop())
        hub.settle()
        self.flush()
        pressed = hub.pressed
        went_on = hub.go_on()
        if pressed is not hub.pressed:
            self._read_again(pressed)
        self._last = self._loop.time()
        if went_on or hub.dirty or hub.logins:
            self.soon()

    @staticmethod
    def _read_again(connections: list[Connection]) -> None:
        for connection in connections:
            transport = cast("Transport | None", connection.transport)
            if transport is not None and not connection.pressed:
                transport.go_on()

    def flush(self) -> None:
        """Commit and write everything now."""
        self._commit()
        hub = self._hub
        written = 0
        dirty, hub.dirty = hub.dirty, []
        for connection in dirty:
            transport = cast("Transport | None", connection.transport)
            out, connection.out = connection.out, []
            if transport is None:
                continue
            if connection.cut:
                transport.cut()
                continue
            if out:
                data = out[0] if len(out) == 1 else b"".join(out)
                written += len(data)
                if self.observer is not None:
                    self.observer.sent(connection, data)
                transport.write(data)
            if connection.closing:
                transport.finish()
        hub.counters.bytes_out += written
