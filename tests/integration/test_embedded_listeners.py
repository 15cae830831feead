"""TCP, TLS, WebSocket and secure WebSocket on the embedded engine; certificates that are renewed and that log in."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import websockets

from callboard_broker.access import Role, Users
from callboard_broker.engine.embedded import EmbeddedEngine
from callboard_broker.mqtt.counters import Counters
from callboard_broker.mqtt.limits import Limits
from callboard_core.errors import BadRequest, Conflict
from callboard_core.settings import load_settings
from support import packets as p
from support import wire
from support.embedded import Certificates, ThreadedEngine, embedded_engine
from support.kernel import state_of
from support.waiting import wait_until


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def _secure(certificates: Certificates, name: str, **more: Any) -> dict[str, Any]:
    certificate, key = certificates.issue(name)
    return {"bind": "127.0.0.1:0", "ssl": True, "certfile": str(certificate), "keyfile": str(key)} | more


def _trusting(certificates: Certificates) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificates.ca))


def test_clients_of_tcp_and_tls_talk_to_each_other(certificates: Certificates) -> None:
    config = {"listeners": {"tls": _secure(certificates, "server")}}
    with (
        embedded_engine(config=config) as engine,
        wire.connect(engine.address("tls"), "secure", tls=_trusting(certificates)) as secure,
        wire.connect(engine.address(), "plain") as plain,
    ):
        secure.subscribe(("a/#", 1))
        plain.publish("a/b", b"x" * 100_000, qos=1)
        assert secure.message().payload == b"x" * 100_000


def test_tls_older_than_1_2_is_refused(certificates: Certificates) -> None:
    config = {"listeners": {"tls": _secure(certificates, "server")}}
    old = _trusting(certificates)
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with embedded_engine(config=config) as engine, pytest.raises((ssl.SSLError, ConnectionError)):
        wire.Wire(engine.address("tls"), tls=old)


def test_a_renewed_certificate_is_shown_to_new_clients_and_old_ones_stay(certificates: Certificates) -> None:
    config = {"listeners": {"tls": _secure(certificates, "server")}}
    trust = _trusting(certificates)
    with (
        embedded_engine(config=config) as engine,
        wire.connect(engine.address("tls"), "old", tls=trust) as old,
    ):
        before = old.socket.getpeercert()["serialNumber"]
        certificates.issue("server")
        engine.call(engine.engine.reload_certificates)
        with wire.connect(engine.address("tls"), "new", tls=trust) as new:
            assert new.socket.getpeercert()["serialNumber"] != before
        assert old.is_quiet()


def test_a_client_certificate_logs_its_common_name_in(certificates: Certificates, tmp_path: Path) -> None:
    users = Users(tmp_path / "users.json")
    users.put("viewer", Role.VIEWER, "secret")
    config = {"listeners": {"tls": _secure(certificates, "server", cafile=str(certificates.ca))}}
    known, stranger = _trusting(certificates), _trusting(certificates)
    known.load_cert_chain(*certificates.issue("viewer"))
    stranger.load_cert_chain(*certificates.issue("nobody"))
    with embedded_engine(config=config, users=users, grants=users.grant) as engine:
        with wire.connect(engine.address("tls"), "me", tls=known) as client:
            assert client.subscribe("callboard/#").codes == (0,)
        with wire.Wire(engine.address("tls"), tls=stranger) as refused:
            assert refused.connect("me too").code == 5
        with wire.Wire(engine.address("tls"), tls=_trusting(certificates)) as without:
            assert without.connect("me three").code == 5


@pytest.mark.parametrize("kind", ["tcp", "ws"])
def test_an_authority_that_was_withdrawn_is_trusted_no_more_without_a_restart(
    certificates: Certificates, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "old").mkdir()
    old, bundle = Certificates(tmp_path / "old"), tmp_path / "bundle.pem"
    bundle.write_text(certificates.ca.read_text() + old.ca.read_text())
    listener = _secure(certificates, "server", cafile=str(bundle), type=kind)
    asks = p.connect("me", level=4) if kind == "tcp" else b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    shown = _trusting(certificates)
    shown.load_cert_chain(*old.issue("viewer"))
    with embedded_engine(config={"listeners": {"it": listener}}) as engine:

        def is_let_in() -> bool:
            with (
                socket.create_connection(engine.address("it"), 30) as plain,
                shown.wrap_socket(plain, server_hostname="localhost") as secure,
            ):
                secure.sendall(asks)
                try:
                    return bool(secure.recv(1))
                except ssl.SSLError:
                    return False

        assert is_let_in()
        bundle.write_text(certificates.ca.read_text())
        wait_until(lambda: not is_let_in(), 30)


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
async def test_websocket_clients_publish_and_subscribe(certificates: Certificates, secure: bool) -> None:
    listener = _secure(certificates, "server") if secure else {"bind": "127.0.0.1:0"}
    context = _trusting(certificates) if secure else None
    with embedded_engine(config={"listeners": {"web": {"type": "ws", **listener}}}) as engine:
        url = f"{'wss' if secure else 'ws'}://localhost:{engine.address('web')[1]}/mqtt"
        async with websockets.connect(url, subprotocols=["mqtt"], ssl=context, compression=None) as socket:
            assert socket.subprotocol == "mqtt"  # MQTT-6.0.0-4
            await socket.send(p.connect("web", level=4))
            assert await socket.recv() == b"\x20\x02\x00\x00"
            whole = p.subscribe([("a/#", 1)], pid=1, level=4) + p.publish(
                "a/b", b"hello", qos=0, pid=0, level=4
            )
            for start in range(len(whole)):  # packets need not align with frames (MQTT-6.0.0-2)
                await socket.send(whole[start : start + 1])
            received = b""
            while b"hello" not in received:
                received += await asyncio.wait_for(socket.recv(), 30)
            await socket.send("text")  # MQTT-6.0.0-1
            with pytest.raises(websockets.ConnectionClosed):
                await asyncio.wait_for(socket.recv(), 30)


@contextlib.asynccontextmanager
async def _never_reads(engine: ThreadedEngine) -> AsyncIterator[websockets.ClientConnection]:
    """A WebSocket client that subscribes to `a` and takes nothing of it."""
    url = f"ws://127.0.0.1:{engine.address('web')[1]}"
    async with websockets.connect(
        url, subprotocols=["mqtt"], compression=None, max_queue=1, close_timeout=1
    ) as client:
        await client.send(p.connect("web", level=4) + p.subscribe([("a", 0)], pid=1, level=4))
        await client.recv()
        yield client


def _flood(engine: ThreadedEngine, enough: Callable[[Counters], bool]) -> None:
    packet = p.publish("a", b"x" * 60_000, qos=0, pid=0, level=4)
    with wire.connect(engine.address(), "flood") as flooder:
        while not enough(engine.engine.hub.counters):
            flooder.send(packet * 20)
            flooder.backlog()


WEB = {"listeners": {"web": {"type": "ws", "bind": "127.0.0.1:0"}}}


async def test_a_websocket_client_that_never_reads_is_bounded() -> None:
    with embedded_engine(config=WEB) as engine:
        async with _never_reads(engine):
            flooded = asyncio.to_thread(_flood, engine, lambda counters: counters.dropped > 0)
            await asyncio.wait_for(flooded, 30)
            assert engine.engine.hub.counters.dropped > 0


async def test_a_websocket_client_that_never_reads_is_cut() -> None:
    with embedded_engine(config=WEB, limits=Limits(stall_timeout=0.5)) as engine:
        async with _never_reads(engine) as reader:
            flooded = asyncio.to_thread(_flood, engine, lambda counters: counters.bounds["stall_timeout"] > 0)
            await asyncio.wait_for(flooded, 30)
            raw = reader.transport.get_extra_info("socket")
            port = engine.address("web")[1]
            await asyncio.to_thread(wait_until, lambda: state_of(port, raw) is None)


@pytest.mark.parametrize("listener", ["default", "web"])
def test_a_taken_port_is_a_conflict_that_names_who_has_it(listener: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        engine = (
            EmbeddedEngine(port=port)
            if listener == "default"
            else EmbeddedEngine(
                port=0, config={"listeners": {"web": {"type": "ws", "bind": f"127.0.0.1:{port}"}}}
            )
        )
        with pytest.raises(
            Conflict, match=rf"port {port} \(mqtt.*\) is taken by .*pid {os.getpid()}.*--mqtt-port"
        ):
            asyncio.run(engine.start())


def test_listeners_are_taken_from_the_settings_file(certificates: Certificates, tmp_path: Path) -> None:
    certificate, key = certificates.issue("server")
    file = tmp_path / "callboard.toml"
    file.write_text(
        f"""
        state = "{tmp_path}"
        [mqtt]
        port = 0
        [mqtt.amqtt.listeners.tls]
        bind = "127.0.0.1:0"
        ssl = true
        certfile = "{certificate}"
        keyfile = "{key}"
        """
    )
    settings = load_settings(file=file, env={}).value
    users = Users(tmp_path / "users.json")
    users.put("viewer", Role.VIEWER, "secret")
    engine = EmbeddedEngine.from_settings(settings, users)

    async def connects() -> int:
        await engine.start()
        try:
            address = ("127.0.0.1", engine.port("tls"))
            with await asyncio.to_thread(wire.Wire, address, tls=_trusting(certificates)) as client:
                answer = await asyncio.to_thread(client.connect, "a", username="viewer", password="secret")
                return answer.code
        finally:
            await engine.stop()

    assert asyncio.run(connects()) == 0


@pytest.mark.parametrize(
    ("listeners", "said"),
    [
        (
            {"tls": {"bind": "127.0.0.1:0", "ssl": True, "certfile": "/none", "keyfile": "/none"}},
            r"certfile.* does not exist",
        ),
        (
            {"tls": {"bind": "127.0.0.1:0", "ssl": True, "certfile": __file__, "keyfile": __file__}},
            r"cannot use certificate .*correct mqtt\.amqtt\.listeners",
        ),
        ({"tls": {"bind": "127.0.0.1:0", "nonsense": 1}}, "nonsense"),
        (["tls"], "table"),
    ],
)
def test_a_listener_that_cannot_be_is_a_bad_request(listeners: Any, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        asyncio.run(EmbeddedEngine(port=0, config={"listeners": listeners}).start())


def test_an_address_of_another_machine_is_said_to_be_one() -> None:
    with pytest.raises(BadRequest, match=r"192\.0\.2\.1 is no address of this machine"):
        asyncio.run(EmbeddedEngine(bind="192.0.2.1", port=0).start())


def test_how_often_the_broker_reports_can_be_set() -> None:
    with embedded_engine(sys_interval=0.3) as engine, wire.connect(engine.address(), "s") as client:
        client.subscribe("$SYS/broker/uptime")
        assert len({client.message().payload for _ in range(3)}) == 3  # at most the 1 s that the text counts
