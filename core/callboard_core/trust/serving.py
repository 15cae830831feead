"""How a server shows who it is: a TLS context that follows its files, and an encrypted listener beside a plain one."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from callboard_core.errors import Failed
from callboard_core.listening import listen
from callboard_core.trust.handshakes import tell_failures

__all__ = ["Encrypted", "Listening", "ServerContext", "stamps"]

_log = logging.getLogger(__name__)

#: Seconds between two looks at the files, and that a client has for its handshake.
_LOOK = 2.0
_HANDSHAKE = 10.0
#: A burst of this many connections waits in the kernel instead of being refused.
_BACKLOG = 2_048


def stamps(files: Iterable[Path]) -> list[tuple[int, int]]:
    """Return something that is another once one of the files is.

    Raises:
        OSError: one is not there.
    """
    found = (file.stat() for file in files)
    return [(one.st_ino, one.st_mtime_ns) for one in found]


class ServerContext:
    """A context for TLS 1.2 and later.

    Args:
        file: the server's key and its certificate chain, PEM.

    Raises:
        Failed: the file cannot be used.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            self._seen = stamps([file])
            self.context.load_cert_chain(file)
        except OSError as error:  # ssl.SSLError is one
            raise Failed(
                f"the server's certificate {file} cannot be used: {error.strerror or error}; "
                "restart the board, which makes a new one"
            ) from None

    def follow(self) -> bool:
        """Read the file again if it was changed; connections stay. Returns whether it was.

        Raises:
            OSError: it cannot be used; what was in force stays in force.
        """
        found = stamps([self._file])
        if found == self._seen:
            return False
        self.context.load_cert_chain(self._file)
        self._seen = found
        return True

    async def watch(self) -> None:
        """Follow the file until cancelled."""
        while True:
            await asyncio.sleep(_LOOK)
            try:
                if self.follow():
                    _log.info("the server's certificate was read again")
            except OSError as error:
                _log.error("%s: %s; the certificate in force stays", self._file, error)


@dataclass(frozen=True)
class Encrypted:
    """An encrypted listener that is wanted beside a plain one.

    Attributes:
        bind: address to listen on.
        port: TCP port.
        flag: the setting that chooses another port, for messages.
        file: the server's key and its certificate chain, PEM.
    """

    bind: str
    port: int
    flag: str
    file: Path

    def listening(self, *, what: str) -> Listening:
        """Listen; ``what`` for messages.

        Raises:
            CallboardError: the port cannot be had, or the certificate cannot be used.
        """
        certificate = ServerContext(self.file)
        tell_failures(certificate.context, what)
        return Listening(
            listen(self.bind, self.port, what=what, flag=self.flag, backlog=_BACKLOG), certificate
        )


class Listening:
    """A socket on which an HTTP server can answer encrypted; closed at the end of a ``with`` block."""

    def __init__(self, listener: socket.socket, certificate: ServerContext) -> None:
        self._listener = listener
        self._listener.setblocking(False)
        self._certificate = certificate
        self._watching: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, and watching the certificate."""
        if self._watching is not None:
            self._watching.cancel()
        self._listener.close()

    async def serve(self, server: Any) -> None:
        """Let a ``uvicorn.Server`` that has just started answer here, too; it ends with the server."""

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = server.config.http_protocol_class(
                config=server.config, server_state=server.server_state, app_state=server.lifespan.state
            )
            return made

        loop = asyncio.get_running_loop()
        listening = await loop.create_server(
            protocol,
            sock=self._listener,
            ssl=self._certificate.context,
            ssl_handshake_timeout=_HANDSHAKE,
            backlog=_BACKLOG,
        )
        server.servers.append(listening)
        self._watching = loop.create_task(self._certificate.watch(), name="certificate")
