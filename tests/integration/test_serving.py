"""An HTTP server that answers encrypted beside plain: a new certificate, a damaged one, a client that says nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from callboard_broker.access.authority import Authority
from callboard_broker.http.server import HttpServer
from callboard_core.errors import Conflict, Failed
from callboard_core.listening import listen
from callboard_core.trust import pinned_context, serving, unverified_context
from callboard_core.trust.serving import Encrypted, Listening, ServerContext
from support.waiting import wait_until


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path, "callboard")
    made.ensure(["localhost", "127.0.0.1"])
    return made


def wanted(authority: Authority, port: int = 0) -> Encrypted:
    return Encrypted("127.0.0.1", port, "lan.http_port", authority.files.server)


async def _says_its_scheme(scope: dict[str, Any], _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["scheme"].encode()})


@pytest.fixture
async def ports(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[int, int]]:
    """Of a running server: the plain port, and the encrypted one."""
    monkeypatch.setattr(serving, "_LOOK", 0.02)
    plain = listen("127.0.0.1", 0, what="http", flag="--http-port")
    with wanted(authority).listening(what="encrypted http") as secure:
        port = _port_of(secure)
        server = HttpServer(_says_its_scheme, plain, secure)
        await server.start()
        try:
            yield server.port, port
        finally:
            await server.stop()


def _port_of(listening: Listening) -> int:
    return int(listening._listener.getsockname()[1])


def _shown(port: int) -> bytes | None:
    """The certificate that a new client is shown."""
    with (
        socket.create_connection(("127.0.0.1", port), 20) as plain,
        unverified_context().wrap_socket(plain) as tls,
    ):
        return tls.getpeercert(binary_form=True)


async def test_one_server_answers_both_and_knows_which(authority: Authority, ports: tuple[int, int]) -> None:
    plain, secure = ports
    async with httpx.AsyncClient(verify=pinned_context(authority.bundle)) as client:
        assert (await client.get(f"http://127.0.0.1:{plain}/")).text == "http"
        assert (await client.get(f"https://127.0.0.1:{secure}/")).text == "https"


async def test_a_new_certificate_is_shown_to_new_clients_and_connections_stay(
    authority: Authority, ports: tuple[int, int]
) -> None:
    _, secure = ports
    before = await asyncio.to_thread(_shown, secure)
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(verify=pinned_context(authority.bundle), limits=limits) as client:
        await client.get(f"https://127.0.0.1:{secure}/")
        (kept,) = client._transport._pool.connections  # type: ignore[attr-defined]
        authority.rotate(["localhost"])
        await asyncio.to_thread(wait_until, lambda: _shown(secure) != before)
        assert (await client.get(f"https://127.0.0.1:{secure}/")).text == "https"
        assert client._transport._pool.connections == [kept]  # type: ignore[attr-defined]


async def test_a_damaged_certificate_changes_nothing(
    authority: Authority, ports: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    _, secure = ports
    before = await asyncio.to_thread(_shown, secure)
    authority.files.server.write_text("nonsense")
    await asyncio.to_thread(wait_until, lambda: "the certificate in force stays" in caplog.text)
    assert await asyncio.to_thread(_shown, secure) == before


async def test_a_client_that_does_not_begin_to_speak_is_sent_away(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_HANDSHAKE", 0.2)
    plain = listen("127.0.0.1", 0, what="http", flag="--http-port")
    with wanted(authority).listening(what="encrypted http") as secure:
        server = HttpServer(_says_its_scheme, plain, secure)
        await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", _port_of(secure))
        assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()
        await server.stop()


def test_a_port_that_is_taken_and_a_certificate_that_is_not_there_are_told(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(Conflict, match=rf"port {port} \(encrypted http\).*lan\.http_port"):
            wanted(authority, port).listening(what="encrypted http")
    authority.files.server.unlink()
    with pytest.raises(Failed, match="restart the board"):
        ServerContext(authority.files.server)
