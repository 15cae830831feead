"""A node that has joined a real board: programs of its own, artifacts, other clients, and a renewal cut in the middle."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from callboard import Client, Node
from callboard_core.discovery import Found
from callboard_core.errors import Conflict, Forbidden, Unauthorized, Unavailable
from callboard_core.link import Credential, Link
from callboard_core.settings import Settings
from callboard_core.trust import JoinCode
from callboard_core.trust.enrolment import Renew
from callboard_core.trust.keys import new_key, signing_request
from callboard_nodes import locate
from callboard_nodes.enrolment import Applicant, Joining, Peer, Store
from callboard_nodes.locate import Locator
from support.up import CALLBOARD, Up, eventually, running_board

pytestmark = pytest.mark.timeout(240)

PORTS = {f"CALLBOARD_LAN_{name}_PORT": "0" for name in ("MQTT", "WS", "HTTP", "CONSOLE")}
#: Seconds for a node to be on the board.
SOON = 60.0


@pytest.fixture(scope="module", params=["embedded", "mosquitto"])
def up(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    env = PORTS | {"CALLBOARD_LAN_BIND": "127.0.0.1"}
    folder = tmp_path_factory.mktemp("board")
    with running_board(folder, "--lan", node=False, engine=request.param, env=env) as up:
        yield up


@pytest.fixture
def settings(up: Up, tmp_path: Path):
    """Settings of a node on another machine."""

    def make(node: str, **more) -> Settings:
        return Settings(state=tmp_path, node={"id": node, **more}, discovery={"enabled": False})

    return make


def enrolled(up: Up, settings: Settings) -> Store:
    store = Store(settings.node.state)
    code = JoinCode.parse(up.cli("join").stdout)
    Joining(code, Applicant(settings.node.id), store).run()
    return store


@contextmanager
def running(node: Node) -> Iterator[Node]:
    node.start(timeout=SOON)
    try:
        yield node
    finally:
        node.stop()


def test_a_program_joins_by_itself_and_keeps_artifacts_over_https(up, settings, tmp_path):
    file = tmp_path / "code"
    file.write_text(up.cli("join").stdout)
    node = Node("program", settings=settings("program", join_file=file))
    node.sensor(every=1)(answer)
    with running(node):
        assert not file.exists()
        eventually(lambda: up.nodes().get("program") == "ready", "it on the board")
        data = b"too large for a message" * 100_000
        assert node.artifacts.get(node.artifacts.put(data)) == data
        assert node._running.link.endpoint.tls
    with running(node):
        assert node.connected


def answer():
    return 42


def test_one_that_nobody_watches_comes_back_with_a_new_code_after_its_enrolment_was_withdrawn(
    up, settings, tmp_path
):
    file = tmp_path / "code"
    enrolled(up, settings("expelled"))
    up.cli("join", "revoke", "expelled")
    file.write_text(up.cli("join", "--id", "expelled").stdout)
    with running(Node("expelled", settings=settings("expelled", join_file=file))):
        eventually(lambda: up.nodes().get("expelled") == "ready", "it on the board")
    assert not file.exists()


def test_the_doctor_of_its_machine_says_how_it_stands_with_its_board(up, settings, tmp_path):
    def look() -> dict[str, dict]:
        words = [*CALLBOARD, "doctor", "--json", "--state", str(tmp_path)]
        env = up.env | {"CALLBOARD_NODE_ID": "patient"}
        done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=60, check=False)
        return {check["what"]: check for check in json.loads(done.stdout)["checks"]}

    enrolled(up, settings("patient"))
    found = look()
    assert found["joined"]["ok"]
    assert "log in" not in found, "there is nobody's password here"
    up.cli("join", "revoke", "patient")
    found = look()
    assert not found["joined"]["ok"]
    assert "has withdrawn that; join it again" in found["joined"]["found"]


def test_other_clients_of_its_machine_find_the_board_by_it_and_log_in_as_themselves(up, settings):
    chosen = settings("host")
    enrolled(up, chosen)
    who = {"username": "operator", "password": up.password("operator")}
    with Client(settings=chosen, **who) as client:
        assert client.link.endpoint.tls
        assert client.directory.node("board").live
        assert client.artifacts.get(client.artifacts.put(b"mine")) == b"mine"
    with pytest.raises(Unauthorized, match="not for others"):
        Locator(chosen, role="operator").endpoint()


def test_its_credential_is_worth_nothing_under_another_id(up, settings):
    locator = Locator(chosen := settings("honest"))
    enrolled(up, chosen)
    link = Link(
        client_id="somebody-else",
        endpoint=locator.endpoint,
        credential=locator.credential,
        tls=locator.tls,
    )
    link.start()
    try:
        with pytest.raises((Unauthorized, Conflict, Unavailable)):
            link.wait_connected(10, retry=False)
    finally:
        link.stop()


def test_one_that_was_switched_off_in_the_middle_of_a_renewal_still_gets_in(up, settings):
    chosen = settings("cut")
    store = enrolled(up, chosen)
    found = store.read()
    board = Peer(found.record.addresses[0], found.context(), found.credential)
    board.post("/api/v1/enrol/renew", Renew(csr=signing_request(new_key(), "cut")).model_dump())
    with running(Node("cut", settings=chosen)):
        eventually(lambda: up.nodes().get("cut") == "ready", "it on the board, with its password")


def test_people_do_not_renew_certificates(up, settings):
    found = enrolled(up, settings("renewing")).read()
    viewer = Credential("viewer", up.password("viewer"))
    board = Peer(found.record.addresses[0], found.context(), viewer)
    with pytest.raises(Forbidden, match="no node"):
        board.post("/api/v1/enrol/renew", Renew(csr=signing_request(new_key(), "renewing")).model_dump())


def test_a_machine_that_has_not_joined_is_told_how(monkeypatch, tmp_path):
    found = Found(site="callboard", host="192.0.2.7", mqtt_port=1883, mqtts=8883, https=8443)
    monkeypatch.setattr(locate, "find_board", lambda *_, **__: found)
    with pytest.raises(Unavailable, match=r"lets machines in with a join code.*callboard node --join"):
        Locator(Settings(state=tmp_path)).endpoint()
