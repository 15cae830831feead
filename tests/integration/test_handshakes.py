"""TLS handshakes that fail, on a real listener: each is refused and told of in the log, and many are counted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from callboard_broker.access.authority import Authority
from callboard_core.trust.handshakes import tell_failures
from callboard_core.trust.serving import ServerContext


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def listening(folder: Path, clock: Clock) -> AsyncIterator[tuple[str, int]]:
    authority = Authority(folder, "callboard")
    authority.ensure(["localhost"])
    context = ServerContext(authority.files.server).context
    tell_failures(context, "the test", clock)
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[:2]


def shake(address: tuple[str, int], context: ssl.SSLContext) -> None:
    with socket.create_connection(address, timeout=20) as plain, contextlib.suppress(OSError):
        context.wrap_socket(plain, server_hostname="localhost").recv(1)


def too_old() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_a_client_that_is_too_old_and_one_that_trusts_another_board_are_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    clock = Clock()
    async with listening(tmp_path, clock) as address:
        await asyncio.to_thread(shake, address, too_old())
        clock.now += 60
        await asyncio.to_thread(shake, address, ssl.create_default_context())
    old, other = [record.getMessage() for record in caplog.records if "handshake" in record.getMessage()]
    assert old == "a TLS handshake of the test failed: unsupported protocol"
    assert "alert unknown ca" in other


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_many_are_counted_and_who_does_better_gets_through(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    clock, trusting = Clock(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    async with listening(tmp_path, clock) as address:
        trusting.load_verify_locations(tmp_path / "trust" / "ca.crt")
        for _ in range(4):
            await asyncio.to_thread(shake, address, too_old())
        reader, writer = await asyncio.open_connection(*address, ssl=trusting, server_hostname="localhost")
        del reader
        writer.close()
        clock.now += 60
        await asyncio.to_thread(shake, address, too_old())
    told = [
        one.getMessage()
        for one in caplog.records
        if one.levelno == logging.WARNING and "TLS" in one.getMessage()
    ]
    assert len(told) == 2
    assert told[1].endswith("unsupported protocol, as did 3 before it")
