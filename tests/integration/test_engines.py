"""The engines that are not our own code: Mosquitto as we run it, and a broker that runs somewhere."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from callboard_broker.access import Role, credential_file, ensure_first_users
from callboard_broker.access.roles import make_rule
from callboard_broker.access.rules import AUDIT_FEED
from callboard_broker.engine import credential_for, endpoint_of, make_engine
from callboard_broker.engine.external import ExternalEngine
from callboard_broker.engine.mosquitto import MosquittoEngine, find_program, version
from callboard_core.errors import BadRequest, Conflict, Failed, Forbidden, NotFound, Unauthorized, Unavailable
from callboard_core.link import Credential, Endpoint, Link
from callboard_core.processes import free_port
from callboard_core.settings import Settings, load_settings
from support import packets, wire
from support.timing import Stopwatch
from support.up import eventually


def settings_in(state: Path, **flags: object) -> Settings:
    state.mkdir(mode=0o700, exist_ok=True)
    wanted = {"mqtt.engine": "mosquitto", "mqtt.port": free_port("127.0.0.1"), **flags}
    return load_settings(flags={"state": state, **wanted}, env={}).value


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[MosquittoEngine]:
    engine = make_engine(settings, ensure_first_users(settings.state))
    assert isinstance(engine, MosquittoEngine)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


def pid_of(engine: MosquittoEngine) -> int:
    assert engine._process is not None
    return engine._process.pid


@asynccontextmanager
async def link(settings: Settings, role: Role, client_id: str = "greenhouse") -> AsyncIterator[Link]:
    made = Link(
        client_id=client_id, endpoint=endpoint_of(settings), credential=credential_for(settings, role)
    )
    made.start()
    try:
        await asyncio.to_thread(made.wait_connected, 10)
        yield made
    finally:
        await asyncio.to_thread(made.stop)


async def publish(link: Link, topic: str, payload: bytes, *, retain: bool = True) -> None:
    await asyncio.wrap_future(link.publish(topic, payload, qos=1, retain=retain))


async def received(link: Link, topic_filter: str) -> dict[str, bytes]:
    """What is retained under a filter, as far as the link may see it."""
    found: dict[str, bytes] = {}
    subscription = link.subscribe(
        topic_filter, lambda message: found.update({message.topic: message.payload})
    )
    await asyncio.wrap_future(subscription.ready)
    await asyncio.wrap_future(link.round_trip(10))
    return found


async def test_it_starts_lets_clients_in_and_leaves_nothing(tmp_path: Path):
    settings = settings_in(tmp_path)
    async with running(settings) as engine:
        pid = pid_of(engine)
        async with link(settings, Role.VIEWER) as viewer:
            assert viewer.connected
    assert not exists(pid)
    assert modes(tmp_path / "mosquitto", "mosquitto.conf", "passwords", "access") == {0o600}


def modes(folder: Path, *files: str) -> set[int]:
    return {(folder / file).stat().st_mode & 0o777 for file in files}


async def test_each_role_may_do_what_the_rules_say(tmp_path: Path):
    settings = settings_in(tmp_path)
    async with (
        running(settings),
        link(settings, Role.NODE) as node,
        link(settings, Role.VIEWER, "looker") as viewer,
    ):
        await publish(node, "callboard/greenhouse/status", b"node")
        await publish(node, "callboard/pump/command/control/fan", b"node")
        await publish(node, "other/greenhouse/status", b"node")
        await publish(viewer, "callboard/pump/status", b"viewer")
        await publish(viewer, "callboard/pump/command/control/fan", b"viewer")
        assert await received(viewer, "callboard/#") == {"callboard/greenhouse/status": b"node"}
        await publish(node, "callboard/greenhouse/state/sensor/a", b"1")
        seen = await received(node, "#")
        assert set(seen) == {"callboard/greenhouse/status", "callboard/greenhouse/state/sensor/a"}


async def test_a_wrong_password_is_refused(tmp_path: Path):
    settings = settings_in(tmp_path)
    async with running(settings):
        wrong = Link(client_id="x", endpoint=endpoint_of(settings), credential=Credential("viewer", "guess"))
        wrong.start()
        with pytest.raises((Unauthorized, Forbidden)):
            await asyncio.to_thread(wrong.wait_connected, 10)
        await asyncio.to_thread(wrong.stop)


async def test_a_refused_log_in_is_told_to_the_board_alone(tmp_path: Path):
    settings = settings_in(tmp_path)
    async with running(settings) as engine:
        address = (engine.endpoint.host, engine.endpoint.port)

        def told() -> list[Any]:
            with (
                wire.connect(
                    address, "board-x", username="board", password=_secret(settings, "board")
                ) as board,
                wire.connect(address, "v", username="viewer", password=_secret(settings, "viewer")) as viewer,
            ):
                for one in (board, viewer):
                    one.subscribe((AUDIT_FEED, 1))
                viewer.publish(AUDIT_FEED, b"made up", qos=0)
                with wire.Wire(address) as wrong:
                    assert wrong.connect("w", username="ann", password="guess").code in {4, 5}
                found = json.loads(board.message().payload)
                assert viewer.is_quiet()
                return list(found)

        (entry,) = await asyncio.to_thread(told)
        assert entry[1:6] == ["", "", "127.0.0.1", "", "unauthorized"]
        assert entry[-1] == "login"


@pytest.mark.parametrize("how", ["disable", "remove", "change_password"])
async def test_a_revoked_credential_ends_its_session_within_5_seconds(tmp_path: Path, how: str):
    settings = settings_in(tmp_path / "state")
    users = ensure_first_users(settings.state)
    users.put("ann", Role.OPERATOR, "ann's password")
    async with running(settings) as engine:
        address = (engine.endpoint.host, engine.endpoint.port)

        def revoke() -> Stopwatch:
            with (
                wire.connect(address, "anns", username="ann", password="ann's password") as ann,
                wire.connect(
                    address, "other", username="viewer", password=_secret(settings, "viewer")
                ) as other,
            ):
                since = Stopwatch()
                getattr(users, how)("ann", *(["another password"] if how == "change_password" else []))
                assert ann.is_closed(50)
                since.stop()
                assert other.is_quiet()
                return since

        since = await asyncio.to_thread(revoke)
        assert since.within(5), since
        with wire.Wire(address) as again:
            assert again.connect("anns", username="ann", password="ann's password").code in {4, 5}


async def test_a_new_user_is_let_in_and_a_changed_role_is_in_force_without_a_restart(tmp_path: Path):
    settings = settings_in(tmp_path / "state")
    async with running(settings) as engine:
        address = (engine.endpoint.host, engine.endpoint.port)
        users = ensure_first_users(settings.state)
        users.roles.put("gardener", make_rule(publish=["{site}/pump/command/#"]))
        users.put("gus", "gardener", "gus's password")

        def log_in() -> wire.Wire | None:
            client = wire.Wire(address)
            if client.connect("can", username="gus", password="gus's password").code == 0:
                return client
            client.close()
            return None

        gus = await asyncio.to_thread(eventually, log_in, "the new user")
        assert gus is not None
        with gus, wire.connect(address, "w", username="admin", password=_secret(settings, "admin")) as watch:
            watch.subscribe(("callboard/pump/#", 1))
            gus.publish("callboard/pump/command/action/on", b"1", qos=1)
            assert watch.message().payload == b"1"
            users.roles.put("gardener", make_rule(publish=["{site}/tap/command/#"]))

            def refused() -> bool:
                with wire.connect(address, "can2", username="gus", password="gus's password") as again:
                    again.send(packets.publish("callboard/pump/command/action/on", b"2", qos=0))
                    again.disconnect()
                watch.publish("callboard/pump/status", b"end", qos=1)
                first = watch.message().payload
                return first == b"end" or watch.message().payload != b"end"

            await asyncio.to_thread(eventually, refused, "the changed role")


def _secret(settings: Settings, name: str) -> str:
    return credential_file(settings.state, name).read_text().strip()


async def test_a_change_of_the_directory_survives_kill_9_a_moment_later(tmp_path: Path):
    settings = settings_in(tmp_path)
    for number in range(5):
        async with running(settings) as engine:
            async with link(settings, Role.VIEWER, "looker") as viewer:
                before = await received(viewer, "callboard/+/announce/#")
                assert len(before) == number
            async with link(settings, Role.NODE) as node:
                await publish(node, f"callboard/greenhouse/announce/sensor/s{number}", b"{}")
            await asyncio.sleep(1.0)  # a settling time and a save are promised within this
            os.kill(pid_of(engine), signal.SIGKILL)
            with pytest.raises(Failed, match="-9"):
                await engine.wait()


async def test_its_death_is_noticed_with_its_last_words(tmp_path: Path):
    settings = settings_in(tmp_path)
    async with running(settings) as engine:
        os.kill(pid_of(engine), signal.SIGKILL)
        with pytest.raises(Failed, match="mosquitto ended with -9"):
            await asyncio.wait_for(engine.wait(), 30)


async def test_a_taken_port_is_told_with_its_holder(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = settings_in(tmp_path, **{"mqtt.port": listener.getsockname()[1]})
        engine = make_engine(settings, ensure_first_users(tmp_path))
        with pytest.raises(Conflict, match=rf"pid {os.getpid()}"):
            await engine.start()


def test_it_dies_with_the_process_that_started_it(tmp_path: Path):
    settings = settings_in(tmp_path / "state")
    ensure_first_users(settings.state)
    file = tmp_path / "settings.json"
    file.write_text(settings.model_dump_json())
    command = [sys.executable, "-m", "callboard_console.cli.role", "broker", str(file)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as role:
        try:
            child = eventually(lambda: children(role.pid), "mosquitto")[0]
        finally:
            role.kill()
    eventually(lambda: not exists(child), "the end of mosquitto", timeout=30)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}/exe").exists()


def test_the_program_is_found_and_tells_its_version():
    assert version(find_program())[0].isdigit()


def test_a_missing_program_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shutil.which", lambda *_args, **_more: None)
    with pytest.raises(NotFound, match="apt install mosquitto"):
        find_program()


async def test_an_external_broker_that_answers_is_taken(tmp_path: Path):
    settings = settings_in(tmp_path)
    async with running(settings) as ours:
        outside = ExternalEngine(ours.endpoint, credential_for(settings, Role.BOARD))
        await outside.start()
        waiting = asyncio.create_task(outside.wait())
        await outside.stop()
        await asyncio.wait_for(waiting, 30)
        with pytest.raises(Unauthorized, match=r"mqtt\.username"):
            await ExternalEngine(ours.endpoint, Credential("board", "guess")).start()


@pytest.mark.parametrize(
    ("host", "said"), [("127.0.0.1", "is a broker running there"), ("no-such-host.invalid", "is not known")]
)
async def test_an_external_broker_that_cannot_be_reached_says_why(host: str, said: str):
    with pytest.raises(Unavailable, match=said):
        await ExternalEngine(Endpoint(host, free_port("127.0.0.1")), timeout=2).start()


async def test_something_that_is_no_broker_is_told():
    with socket.create_server(("127.0.0.1", 0)) as dumb:
        endpoint = Endpoint("127.0.0.1", dumb.getsockname()[1])
        with pytest.raises(Unavailable, match="no MQTT session"):
            await ExternalEngine(endpoint, timeout=0.5).start()


def test_the_credential_for_a_broker_that_is_not_ours_is_the_one_that_is_set(tmp_path: Path):
    ensure_first_users(tmp_path)
    secret = tmp_path / "secret"
    secret.write_text("hush\n")
    url = {"mqtt.engine": "mqtts://broker.example"}
    known = settings_in(tmp_path, **url, **{"mqtt.username": "callboard", "mqtt.password_file": secret})
    assert credential_for(known, Role.BOARD) == Credential("callboard", "hush")
    assert endpoint_of(known) == Endpoint("broker.example", 8883, tls=True)
    assert credential_for(settings_in(tmp_path, **url), Role.NODE).username == "node"
    with pytest.raises(BadRequest, match="password file"):
        credential_for(
            settings_in(tmp_path, **url, **{"mqtt.username": "x", "mqtt.password_file": tmp_path / "no"}),
            Role.NODE,
        )
