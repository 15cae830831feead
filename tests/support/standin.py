"""Stands in for a board that machines join: real TLS and HTTP, scripted decisions, a record of all it was told."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from callboard_broker.access.certificates import (
    Pair,
    certify_node,
    certify_server,
    cross_sign,
    new_authority,
    pem_of,
)
from callboard_core.trust import JoinCode, fingerprint_of_pem
from callboard_core.trust.keys import check_request, new_key, read_key

#: What a wish to be let in is answered with: HTTP status and JSON, given how many were made before.
Decide = Callable[[int, dict[str, Any]], tuple[int, dict[str, Any]]]
TOKEN = "ab" * 16
UPDATE_KEY = base64.b64encode(b"u" * 32).decode()
PASSWORD = "only-for-the-right-board"


@dataclass
class StandIn:
    """A board's HTTPS side on a free port of loopback."""

    site: str = "callboard"
    authority: Pair = field(default_factory=lambda: new_authority("callboard", dt.datetime.now(dt.UTC)))
    decide: Decide | None = None
    #: Shown at /trust/ca instead of its own; what an impostor would do.
    shows: str | None = None
    told: list[tuple[str, str, str, dict[str, Any]]] = field(default_factory=list)
    bundle: str = ""
    chain: str = ""
    renewals: int = 0
    #: Whether it lets nobody in any more whom it has let in before.
    withdrawn: bool = False
    tickets: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    #: How many have connected, whether they spoke or not.
    met: int = 0
    _listener: socket.socket | None = None

    def __post_init__(self) -> None:
        self.bundle = self.bundle or pem_of(self.authority.certificate)
        self._key = new_key()
        self._certify()

    def rotate(self) -> None:
        """Put another authority in force, certified by the one before."""
        before, self.authority = self.authority, new_authority(self.site, dt.datetime.now(dt.UTC))
        self.bundle = pem_of(self.authority.certificate, before.certificate)
        self.chain = pem_of(cross_sign(before, self.authority))
        self._certify()

    def finish(self) -> None:
        """Trust the old authority no more."""
        self.bundle, self.chain = pem_of(self.authority.certificate), ""
        self._certify()

    def _certify(self) -> None:
        certificate = certify_server(
            self.authority, read_key(self._key).public_key(), ["localhost", "127.0.0.1"]
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(self._key + pem_of(certificate) + self.chain)
            file.flush()
            context.load_cert_chain(file.name)
        self._context = context

    @property
    def port(self) -> int:
        assert self._listener is not None
        return int(self._listener.getsockname()[1])

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def code(self, *addresses: str, token: str = TOKEN, expires: int = 4_000_000_000) -> JoinCode:
        fingerprint = fingerprint_of_pem(pem_of(self.authority.certificate))
        return JoinCode(self.site, addresses or (self.address,), fingerprint, UPDATE_KEY, token, expires)

    def secrets_told(self) -> str:
        """Everything it was sent, to look for secrets in."""
        return repr(self.told)

    # -- what it answers

    def accepted(self, wish: dict[str, Any]) -> dict[str, Any]:
        certificate = certify_node(self.authority, check_request(wish["csr"]), wish["id"])
        return {
            "state": "accepted", "site": self.site, "id": wish["id"], "certificate": pem_of(certificate),
            "password": PASSWORD, "bundle": self.bundle, "update_key": UPDATE_KEY,
            "mqtt_port": self.port, "http_port": self.port, "addresses": [self.address],
        }  # fmt: skip

    def answer(self, method: str, path: str, authorization: str, body: dict[str, Any]) -> tuple[int, Any]:
        wishes = sum(path == "/api/v1/enrol" for _, path, _, _ in self.told)
        self.told.append((method, path, authorization, body))
        if path == "/api/v1/trust/ca":
            return 200, self.shows or self.bundle
        if path == "/api/v1/enrol" and self.decide is not None:
            return self.decide(wishes, body)
        if path == "/api/v1/enrol":
            return 200, self.accepted(body)
        if path == "/api/v1/me":
            return (401, error("unauthorized", "who are you?")) if self.withdrawn else (200, {})
        if path == "/api/v1/enrol/renew":
            self.renewals += 1
            return 200, self.accepted({"id": "pi", **body})
        ticket = path.removeprefix("/api/v1/enrol/")
        return self.tickets.get(ticket, (404, error("not_found", "no such ticket")))

    # -- serving

    @contextlib.contextmanager
    def serving(self, host: str = "127.0.0.1", port: int = 0) -> Iterator[StandIn]:
        self._listener = listener = socket.create_server((host, port), backlog=64)
        thread = threading.Thread(target=self._serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            listener.close()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                raw, peer = listener.accept()
            except OSError:
                return
            self.met += 1
            threading.Thread(target=self._talk, args=(raw, peer), daemon=True).start()

    def _talk(self, raw: socket.socket, peer: Any) -> None:
        board = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else {}
                authorization = self.headers.get("Authorization", "")
                status, answer = board.answer(self.command, self.path, authorization, body)
                data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET  # noqa: N815 - so the library wants it

            def log_message(self, *_: object) -> None:
                pass

        raw.settimeout(10)
        with (
            contextlib.suppress(OSError),
            raw,
            self._context.wrap_socket(raw, server_side=True) as connection,
        ):
            Handler(connection, peer, None)  # type: ignore[arg-type]


def error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}
