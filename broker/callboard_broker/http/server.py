"""Serves the application from the running event loop, on a port that is ours or an error that says whose it is."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from callboard_broker.http.errors import answer
from callboard_core.errors import BadRequest
from callboard_core.trust.serving import Listening

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:  # where it has no wheel
    HttpToolsProtocol = None  # type: ignore[assignment,misc]

__all__ = ["HttpServer"]

#: Seconds that open requests get to finish at the end.
_GRACE = 2
#: Seconds a fresh connection has to send its first request; without a bound, idle ones use up the open files.
FIRST_REQUEST = 10.0
#: Longest head of a request, in bytes; what h11 takes.
LONGEST_HEAD = 65_536


class _Impatient:
    """Closes a connection on which no whole request head arrives in time, or one that is none."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    cycle: object

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to wait."""
        super().connection_made(transport)  # type: ignore[misc]
        self.loop.call_later(FIRST_REQUEST, self._give_up)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request of HTTP's, in the form of every other error."""
        body = bytes(answer(BadRequest(msg)).body)
        head = (
            "HTTP/1.1 400 Bad Request",
            "content-type: application/json",
            f"content-length: {len(body)}",
            "connection: close",
        )
        self.transport.write("\r\n".join((*head, "", "")).encode() + body)
        self.transport.close()

    def _give_up(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


class _Plain(_Impatient, H11Protocol):  # type: ignore[misc]
    pass


def _protocol() -> type[asyncio.Protocol]:
    """The quicker parser where it is installed."""
    if HttpToolsProtocol is None:
        return _Plain

    class Quick(_Impatient, HttpToolsProtocol):  # type: ignore[misc]
        """Refuses, as the other parser does by itself, a request head that is too long."""

        _head = 0
        _in_body = False

        def data_received(self, data: bytes) -> None:
            if not self._in_body:
                self._head += len(data)
            super().data_received(data)
            if self._head > LONGEST_HEAD and not self.transport.is_closing():
                self.send_400_response(f"The head of the request is longer than {LONGEST_HEAD} bytes.")

        def on_headers_complete(self) -> None:
            self._head, self._in_body = 0, True
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._in_body = False
            super().on_message_complete()

    return Quick


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, secure: Listening | None) -> None:
        super().__init__(config)
        self._secure = secure
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say when it answers."""
        await super().startup(sockets)
        if self._secure is not None:
            await self._secure.serve(self)
        self.up.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process: it stops more than this server."""
        yield


class HttpServer:
    """One application on one socket, and encrypted on a second one if wanted."""

    def __init__(self, app: Any, listener: socket.socket, secure: Listening | None = None) -> None:
        self._listener = listener
        config = uvicorn.Config(
            app,
            http=_protocol(),
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=_GRACE,
        )
        self._server = _Server(config, secure)
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port in force."""
        return int(self._listener.getsockname()[1])

    async def start(self) -> None:
        """Begin to answer."""
        self._task = asyncio.create_task(self._server.serve([self._listener]), name="http")
        up = asyncio.create_task(self._server.up.wait())
        await asyncio.wait([up, self._task], return_when=asyncio.FIRST_COMPLETED)
        if not up.done():
            up.cancel()
            await self._task

    async def wait(self) -> None:
        """Return when the server has ended."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def stop(self) -> None:
        """Finish open requests and end."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._listener.close()
