"""A board on the network: encrypted everywhere, known by its authority, and each machine held to its own id."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import websockets.sync.client
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from callboard_broker.access.authority import Authority
from callboard_core.discovery import find_board
from callboard_core.runtime import Mqtt
from callboard_core.trust import JoinCode, is_in_bundle, pinned_context, unverified_context
from callboard_core.trust.keys import new_key, signing_request
from support import packets as p
from support.lanboard import LOOPBACK, LanBoard, Machine, lan_board
from support.up import CALLBOARD, Up, eventually, prepare_board
from support.wire import Wire

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanBoard]:
    with lan_board(tmp_path_factory.mktemp("lan"), console=True) as board:
        yield board


@pytest.fixture(scope="module")
def mosquitto_board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanBoard]:
    with lan_board(tmp_path_factory.mktemp("lan"), engine="mosquitto") as board:
        yield board


@pytest.fixture(params=["embedded", "mosquitto"])
def either(request: pytest.FixtureRequest) -> LanBoard:
    found = request.getfixturevalue("board" if request.param == "embedded" else "mosquitto_board")
    assert isinstance(found, LanBoard)
    return found


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority of another board."""
    made = Authority(tmp_path_factory.mktemp("other"), "callboard")
    made.ensure(["localhost", "127.0.0.1"])
    return made


def mosquitto_sub(board: LanBoard, ca: Path) -> subprocess.CompletedProcess[str]:
    command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(board.mqtts.port), "--cafile", str(ca)]
    command += [
        "-u",
        "viewer",
        "-P",
        board.up.password("viewer"),
        "-t",
        "callboard/board/status",
        "-C",
        "1",
        "-W",
        "20",
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_any_mqtt_client_with_the_authority_file_reads_the_board_encrypted(either: LanBoard) -> None:
    heard = mosquitto_sub(either, either.lan.ca)
    assert json.loads(heard.stdout)["status"] == "ready", heard.stderr


def test_a_client_that_knows_another_authority_refuses_the_board(
    either: LanBoard, stranger: Authority
) -> None:
    refused = mosquitto_sub(either, stranger.files.authority)
    assert (refused.returncode != 0, refused.stdout) == (True, "")
    assert "TLS error" in refused.stderr
    with pytest.raises(ssl.SSLCertVerificationError):
        either.wire(pinned_context(stranger.bundle))


def _old_client() -> ssl.SSLContext:
    context = unverified_context()
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def test_tls_older_than_1_2_is_refused_on_every_port(board: LanBoard) -> None:
    assert board.lan.console is not None
    for at in (board.mqtts, board.wss, board.lan.https, board.lan.console):
        with (
            socket.create_connection((at.host, at.port), 20) as plain,
            pytest.raises(ssl.SSLError),
        ):
            _old_client().wrap_socket(plain)
    for part in ("mqtt at 127.0.0.1:", "encrypted http", "encrypted console"):
        line = re.compile(rf"a TLS handshake of {part}\d* failed: unsupported protocol")
        eventually(lambda line=line: line.search(_logs(board)), part)


def _logs(board: LanBoard) -> str:
    return "".join(file.read_text() for file in (board.up.state / "log").glob("*.log"))


def test_tls_older_than_1_2_is_refused_by_mosquitto(mosquitto_board: LanBoard) -> None:
    for at in (mosquitto_board.mqtts, mosquitto_board.lan.https):
        with socket.create_connection((at.host, at.port), 20) as plain, pytest.raises(ssl.SSLError):
            _old_client().wrap_socket(plain)


def test_nothing_is_served_in_clear_on_the_encrypted_ports(board: LanBoard) -> None:
    with Wire(board.mqtt) as plain:
        plain.send(p.connect("x", level=4, username="viewer", password=board.up.password("viewer")))
        assert plain.is_closed()
    with pytest.raises(httpx.HTTPError):
        httpx.get(board.lan.https.url.replace("https", "http") + "/healthz")


def test_mqtt_over_websocket_is_encrypted_too(either: LanBoard) -> None:
    url, context = f"{either.wss.url}/mqtt", pinned_context(either.bundle)
    with websockets.sync.client.connect(url, subprotocols=["mqtt"], ssl=context, compression=None) as client:
        client.send(p.connect("web", level=4, username="viewer", password=either.up.password("viewer")))
        assert client.recv(20)[3] == 0


def test_programs_of_this_machine_are_told_where_it_all_is(board: LanBoard) -> None:
    lan = json.loads((board.up.state / "runtime.json").read_text())["lan"]
    assert lan["mqtts"]["url"] == f"mqtts://127.0.0.1:{board.mqtts.port}"
    assert lan["https"]["url"] in board.up.output
    assert lan["console"]["url"] in board.up.output
    assert lan["ca"] in board.up.output


def test_the_printed_join_code_is_good_for_this_board(board: LanBoard) -> None:
    found = re.search(r"callboard node --join (CB2-\S+)", board.up.output)
    assert found is not None
    code = JoinCode.parse(found[1])
    code.check()
    assert code.addresses == (f"127.0.0.1:{board.lan.https.port}",)
    with httpx.Client(verify=unverified_context()) as client:
        bundle = client.get(f"{board.lan.https.url}/api/v1/trust/ca").text
    assert is_in_bundle(bundle, code.authority)


def test_whoever_pins_the_board_is_told_its_ports_without_a_login(either: LanBoard) -> None:
    with either.http() as nobody:
        told = nobody.get("/api/v1/trust/reach").json()
    assert told == {
        "site": "callboard",
        "mqtt_port": either.mqtts.port,
        "http_port": either.lan.https.port,
    }


def test_a_search_tells_the_encrypted_ports(board: LanBoard) -> None:
    found = find_board("callboard", 20, port=int(board.up.env["CALLBOARD_DISCOVERY_PORT"]), mdns=False)
    assert (found.mqtts, found.https) == (board.mqtts.port, board.lan.https.port)


def test_the_plain_listeners_stay_on_loopback(board: LanBoard) -> None:
    assert board.up.runtime.mqtt.host == "127.0.0.1"
    assert board.up.runtime.http.url.startswith("http://127.0.0.1:")


def test_the_consoles_cookie_never_travels_in_clear(board: LanBoard) -> None:
    assert board.lan.console is not None
    assert board.up.runtime.console is not None
    form = {"username": "viewer", "password": board.up.password("viewer")}
    with httpx.Client(verify=pinned_context(board.bundle), timeout=30) as client:
        secure = client.post(f"{board.lan.console.url}/login", data=form)
        plain = client.post(f"{board.up.runtime.console.url}/login", data=form)
    assert (secure.status_code, plain.status_code) == (303, 303)
    assert "secure" in secure.headers["set-cookie"].lower()
    assert "secure" not in plain.headers["set-cookie"].lower()


def test_the_console_is_live_over_the_encrypted_port(board: LanBoard) -> None:
    assert board.lan.console is not None
    at, form = board.lan.console, {"username": "viewer", "password": board.up.password("viewer")}
    with httpx.Client(verify=pinned_context(board.bundle), timeout=30) as client:
        cookie = client.post(f"{at.url}/login", data=form).headers["set-cookie"].partition(";")[0]
    with websockets.sync.client.connect(
        at.url.replace("https", "wss") + "/_stcore/stream",
        ssl=pinned_context(board.bundle),
        origin=at.url,  # type: ignore[arg-type]  # a plain text is one
        additional_headers={"Cookie": cookie},
        subprotocols=["streamlit"],  # type: ignore[list-item]
        open_timeout=60,
    ) as live:
        assert live.response is not None
        assert live.response.status_code == 101


# ---- what a node's credential is good for, and what not


@pytest.fixture(scope="module")
def machine(board: LanBoard, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return board.enrol(tmp_path_factory.mktemp("greenhouse"), "greenhouse")


def test_a_node_logs_in_with_its_certificate_alone(board: LanBoard, machine: Machine) -> None:
    client = Client(CallbackAPIVersion.VERSION2, client_id="greenhouse")
    client.tls_set(str(board.lan.ca), str(machine.folder / "greenhouse.crt"), str(machine.key))
    answers: list[bool] = []
    client.on_connect = lambda _client, _data, _flags, reason, _properties: answers.append(
        not reason.is_failure
    )
    client.connect(*board.mqtt)
    client.loop_start()
    eventually(lambda: answers, "an answer")
    client.disconnect()
    client.loop_stop()
    assert answers == [True]


def test_a_node_logs_in_with_its_password_alone(either: LanBoard, tmp_path: Path) -> None:
    machine = either.enrol(tmp_path, f"pi-{either.up.runtime.engine}")

    def answers() -> bool:  # mosquitto is told of new users a moment later
        with either.wire(pinned_context(machine.got.bundle)) as wire:
            return wire.connect(machine.id, username=machine.id, password=machine.got.password).code == 0

    eventually(answers, "let in")


def test_a_nodes_certificate_is_good_for_its_own_id_and_topics_only(
    board: LanBoard, machine: Machine
) -> None:
    for other in ("another", "board", "board-history", ""):
        with board.wire(machine.context()) as thief:
            assert thief.connect(other).code != 0
    with (
        Wire((board.up.runtime.mqtt.host, board.up.runtime.mqtt.port)) as watch,
        board.wire(machine.context()) as wire,
    ):
        assert watch.connect("watch", username="admin", password=board.up.password("admin")).code == 0
        watch.subscribe("callboard/#")
        watch.backlog()
        assert wire.connect("greenhouse").code == 0
        for topic in (
            "another/status",
            "board/announce",
            "another/state/sensor/x",
            "board/command/worker/forget",
        ):
            wire.publish(f"callboard/{topic}", b"x", qos=1)
        wire.publish("other-site/greenhouse/status", b"x", qos=1)
        wire.publish("callboard/greenhouse/event/hello", b"x", qos=1)
        heard = [message.topic for message in watch.backlog() if message.payload == b"x"]
        assert heard == ["callboard/greenhouse/event/hello"]
        assert wire.subscribe("callboard/#").codes == (0x80,)
        assert wire.subscribe("$SYS/#").codes == (0x80,)


def test_a_nodes_certificate_does_not_make_it_somebody_else(board: LanBoard, machine: Machine) -> None:
    for username in ("admin", "viewer", "board"):
        with board.wire(machine.context()) as wire:
            assert wire.connect("x", username=username, password="wrong").code != 0
    with board.wire(machine.context()) as wire:
        assert wire.connect("x", username="viewer", password=board.up.password("viewer")).code == 0


def test_nobody_takes_a_nodes_id(board: LanBoard, machine: Machine, tmp_path: Path) -> None:
    other = board.enrol(tmp_path, "other")
    with board.wire(machine.context()) as owner:
        assert owner.connect("greenhouse").code == 0
        with board.wire(other.context()) as thief:
            assert thief.connect("greenhouse").code != 0
        for role in ("viewer", "operator", "node", "admin"):
            with board.wire(pinned_context(board.bundle)) as thief:
                assert thief.connect("greenhouse", username=role, password=board.up.password(role)).code != 0
        assert owner.is_quiet()


def test_on_mosquitto_who_takes_a_nodes_id_gets_none_of_its_rights_to_publish(
    mosquitto_board: LanBoard, tmp_path: Path
) -> None:
    """Mosquitto ties no user to a client id, as SECURITY.md says: it lets the thief in, but not do what the node may."""
    board = mosquitto_board
    mine, yours = (board.enrol(tmp_path, name) for name in ("mine", "yours"))

    def connected(client_id: str, username: str, secret: str) -> Wire | None:
        wire = board.wire(pinned_context(board.bundle))
        if wire.connect(client_id, username=username, password=secret).code == 0:
            return wire
        wire.close()
        return None

    def is_known() -> bool:
        wire = connected("mine", "mine", mine.got.password)
        if wire is not None:
            wire.close()
        return wire is not None

    eventually(is_known, "mosquitto knows both")
    owner = connected("yours", "yours", yours.got.password)
    watch = connected("watch-thief", "admin", board.up.password("admin"))
    assert owner is not None
    assert watch is not None
    watch.subscribe("callboard/yours/#")
    watch.backlog()
    thief = connected("yours", "mine", mine.got.password)
    assert thief is not None
    assert owner.is_closed()
    for topic in ("status", "state/sensor/x", "event/x", "announce"):
        thief.publish(f"callboard/yours/{topic}", b"stolen", qos=1)
    assert not [message for message in watch.backlog() if message.payload == b"stolen"]
    for wire in (owner, watch, thief):
        wire.close()


def test_over_http_a_node_is_no_more_than_a_node(board: LanBoard, machine: Machine) -> None:
    refused = ("/api/v1/nodes", "/api/v1/joins", "/api/v1/enrolments", "/api/v1/users", "/api/v1/trust")
    with board.http("greenhouse", machine.got.password) as client:
        assert {client.get(path).status_code for path in refused} == {403}
        assert client.post("/api/v1/joins", json={}).status_code == 403
        assert client.post("/api/v1/enrolments/1", json={"action": "accept"}).status_code == 403
        assert client.post("/api/v1/trust/rotate", json={}).status_code == 403
    with board.http() as nobody:
        assert {nobody.get(path).status_code for path in refused} == {401}
        assert nobody.post("/api/v1/enrol/renew", json={"csr": machine.csr()}).status_code == 401
    with board.http("viewer") as viewer:
        assert viewer.post("/api/v1/enrol/renew", json={"csr": machine.csr()}).status_code == 403
        assert viewer.get("/api/v1/joins").status_code == 403
        assert viewer.post("/api/v1/enrolments/1", json={"action": "accept"}).status_code == 403


def test_certificates_of_other_authorities_and_made_up_ones_log_nobody_in(
    board: LanBoard, stranger: Authority, tmp_path: Path
) -> None:
    fake = tmp_path / "greenhouse.crt"
    (tmp_path / "greenhouse.key").write_text(key := new_key())
    fake.write_text(stranger.certify(signing_request(key, "greenhouse"), "greenhouse"))
    context = pinned_context(board.bundle, certificate=fake, key=tmp_path / "greenhouse.key")
    with (
        pytest.raises((ssl.SSLError, ConnectionError, AssertionError, EOFError)),
        board.wire(context) as wire,
    ):
        assert wire.connect("greenhouse").code == 0
    # One that the board's own authority has signed, and that is not the one on record: an old one, or a stolen key's.
    own = Authority(board.up.state, "callboard")
    fake.write_text(own.certify(signing_request(key, "greenhouse"), "greenhouse"))
    context = pinned_context(board.bundle, certificate=fake, key=tmp_path / "greenhouse.key")
    with board.wire(context) as wire:
        assert wire.connect("greenhouse").code != 0
    fake.write_text(own.certify(signing_request(key, "admin"), "admin"))
    context = pinned_context(board.bundle, certificate=fake, key=tmp_path / "greenhouse.key")
    with board.wire(context) as wire:
        assert wire.connect("x").code != 0


def test_a_renewed_certificate_makes_the_earlier_one_worthless(board: LanBoard, tmp_path: Path) -> None:
    machine = board.enrol(tmp_path, "renewing")
    old = machine.context()
    with board.http("renewing", machine.got.password) as client:
        renewed = client.post("/api/v1/enrol/renew", json={"csr": machine.csr()}).json()
    with board.wire(old) as wire:
        assert wire.connect("renewing").code != 0
    machine.keep(renewed["certificate"])
    with board.wire(machine.context()) as wire:
        assert wire.connect("renewing").code == 0


def test_a_used_and_an_expired_code_are_refused_and_say_so(board: LanBoard, tmp_path: Path) -> None:
    used, expired = board.code(), board.code(seconds=0.01)
    board.enrol(tmp_path, "first", used)
    asked = {"id": "second", "csr": signing_request(new_key(), "second")}
    with board.http() as client:
        replayed = client.post("/api/v1/enrol", json={**asked, "token": used.token})
        assert (replayed.status_code, replayed.json()["error"]["code"]) == (409, "conflict")
        eventually(lambda: time.time() > expired.expires, "the code's end")
        assert client.post("/api/v1/enrol", json={**asked, "token": expired.token}).status_code == 410
        assert client.post("/api/v1/enrol", json={**asked, "token": "00" * 16}).status_code == 401
        assert (
            client.post("/api/v1/enrol", json={**asked, "token": used.token, "id": "No Id"}).status_code
            == 400
        )
    with board.http("admin") as admin:

        def results() -> set[str]:
            items = admin.get("/api/v1/audit", params={"what": "enrol.refused"}).json()["items"]
            return {one["result"] for one in items if one["subject"] == "second"}

        eventually(lambda: results() == {"conflict", "expired", "unauthorized"}, "all of it in the audit log")


def test_who_waits_is_seen_live_without_secrets_and_let_in_by_an_operator(board: LanBoard) -> None:
    code, asked = board.code(ask=True), {"id": "waiting", "csr": signing_request(new_key(), "waiting")}
    with (
        board.wire(pinned_context(board.bundle)) as watch,
        board.http() as client,
        board.http("operator") as operator,
    ):
        assert watch.connect("watch-2", username="viewer", password=board.up.password("viewer")).code == 0
        watch.subscribe("callboard/board/event/enrolment")
        waiting = client.post("/api/v1/enrol", json={**asked, "token": code.token})
        assert waiting.status_code == 202
        ticket = waiting.json()["ticket"]
        event = json.loads(watch.message().payload)
        assert (event["data"]["id"], event["data"]["state"]) == ("waiting", "pending")
        assert not {ticket, code.token} & set(json.dumps(event).split('"'))
        assert client.get(f"/api/v1/enrol/{ticket}").status_code == 202
        answer = operator.post(f"/api/v1/enrolments/{event['data']['number']}", json={"action": "accept"})
        assert (answer.status_code, answer.json()["by"]) == (200, "operator")
        assert client.get(f"/api/v1/enrol/{ticket}").json()["state"] == "accepted"
        assert json.loads(watch.message().payload)["data"]["state"] == "accepted"

        def audited() -> set[str]:
            return {row["what"] for row in board.up.get("/api/v1/audit?limit=20", "admin")["items"]}

        eventually(lambda: audited() >= {"enrol.pending", "enrol.accepted"}, "both in the audit log")


def test_a_disabled_node_is_out_with_certificate_and_password(board: LanBoard, tmp_path: Path) -> None:
    machine = board.enrol(tmp_path, "disabled")
    with board.wire(machine.context()) as wire, board.http("admin") as admin:
        assert wire.connect("disabled").code == 0
        assert admin.patch("/api/v1/users/disabled", json={"disabled": True}).is_success
        assert wire.is_closed()
    with board.wire(machine.context()) as wire:
        assert wire.connect("disabled").code != 0
    with board.wire(machine.context()) as wire:
        assert wire.connect("disabled", username="disabled", password=machine.got.password).code != 0


def test_forgetting_a_node_takes_its_credential_away(board: LanBoard, tmp_path: Path) -> None:
    machine = board.enrol(tmp_path, "forgotten")
    with board.wire(machine.context()) as wire:
        assert wire.connect("forgotten").code == 0
        status = {"status": "disconnected", "epoch": 1, "t": time.time()}
        wire.publish("callboard/forgotten/status", json.dumps(status).encode(), qos=1, retain=True)
    eventually(lambda: "forgotten" in board.up.nodes(), "the node on the board")
    board.up.cli("forget", "forgotten", "--yes")
    with board.wire(machine.context()) as wire:
        assert wire.connect("forgotten").code != 0


def test_revoking_a_node_ends_its_session(board: LanBoard, tmp_path: Path) -> None:
    machine = board.enrol(tmp_path, "leaving")
    with board.wire(machine.context()) as wire:
        assert wire.connect("leaving").code == 0
        number = next(
            one["number"] for one in board.up.get("/api/v1/enrolments")["items"] if one["id"] == "leaving"
        )
        with board.http("operator") as operator:
            assert operator.post(f"/api/v1/enrolments/{number}", json={"action": "revoke"}).status_code == 200
        assert wire.is_closed()
    with board.wire(machine.context()) as wire:
        assert wire.connect("leaving").code != 0
    with board.http("leaving", machine.got.password) as client:
        assert client.post("/api/v1/enrol/renew", json={"csr": machine.csr()}).status_code == 401


# ---- what the board says of itself


def test_status_and_doctor_look_at_every_encrypted_listener(either: LanBoard) -> None:
    parts = {"mqtts", "wss", "https"} | ({"console-https"} if either.lan.console else set())
    answers = either.up.json("status")["answers"]
    assert {part: answers[part] for part in parts} == dict.fromkeys(parts, "ok")
    told = {check["what"]: check for check in either.up.json("doctor")["checks"]}
    assert all(told[part]["ok"] for part in parts), told
    assert "names 127.0.0.1" in told["https"]["found"]
    assert told["plain ports"]["ok"], told["plain ports"]
    engine = "embedded" if either.lan.console else "mosquitto"
    assert engine in told["engine"]["found"], told["engine"]


def test_doctor_says_when_the_certificate_lacks_a_name_that_others_use(board: LanBoard) -> None:
    env = board.up.env | {"CALLBOARD_LAN_NAMES": '["board.example"]'}
    command = [*CALLBOARD, "doctor", "--state", str(board.up.state), "--json"]
    told = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert told.returncode == 1
    found = {check["what"]: check["found"] for check in json.loads(told.stdout)["checks"] if not check["ok"]}
    assert set(found) == {"mqtts", "wss", "https", "console-https"}
    assert "does not name board.example" in found["wss"]


# ---- rotation


def test_a_rotation_loses_nobody_until_it_is_finished(tmp_path: Path) -> None:
    with lan_board(tmp_path) as board:
        here, off = board.enrol(tmp_path, "here"), board.enrol(tmp_path, "off")
        old_ca = tmp_path / "old.crt"
        old_ca.write_text(board.lan.ca.read_text())
        old_bundle = board.bundle
        with board.wire(here.context()) as connected:
            assert connected.connect("here").code == 0
            told = board.up.json("trust", "rotate", "--yes")
            assert (told["old"], told["not_renewed"]) != (None, [])
            assert connected.is_quiet(), "connections stay"
            _check_rotating(board, here, off, old_ca, old_bundle)
        refused = board.up.cli("trust", "rotate", "--yes", check=False)
        assert (refused.returncode, "finish it first" in refused.stderr) == (1, True)
        done = board.up.json("trust", "rotate", "--finish", "--yes")
        assert (done["old"], done["not_renewed"]) == (None, [])
        eventually(
            lambda: not mosquitto_sub(board, old_ca).stdout, "the old authority is trusted no more", every=1
        )
        assert mosquitto_sub(board, board.lan.ca).stdout
        with board.wire(off.context(board.bundle)) as back:
            assert back.connect("off").code == 0


def _check_rotating(board: LanBoard, here: Machine, off: Machine, old_ca: Path, old_bundle: str) -> None:
    """Both are known by their old certificates until they renew, and know the board by its old authority."""

    def shows_the_new_one() -> bool:
        with board.wire(unverified_context()) as wire:
            shown = ssl.DER_cert_to_PEM_cert(wire.socket.getpeercert(binary_form=True))
        return shown in (board.up.state / "trust" / "server.pem").read_text()

    eventually(shows_the_new_one, "the broker shows the new certificate")
    assert mosquitto_sub(board, old_ca).stdout, "generic clients go on with the old file"
    assert mosquitto_sub(board, board.lan.ca).stdout
    assert board.up.json("trust", "show")["not_renewed"] == ["here", "off"]
    for machine in (here, off):
        with board.wire(machine.context()) as wire:
            assert wire.connect(machine.id).code == 0
        with board.http(machine.id, machine.got.password, bundle=old_bundle) as client:
            renewed = client.post("/api/v1/enrol/renew", json={"csr": machine.csr()}).json()
        machine.keep(renewed["certificate"])
        with board.wire(machine.context(renewed["bundle"])) as wire:
            assert wire.connect(machine.id).code == 0


def _shown(at: Mqtt, bundle: str) -> str:
    """The certificate that is shown to who trusts a bundle; nothing where it does not convince."""
    try:
        with (
            socket.create_connection((at.host, at.port), 30) as plain,
            pinned_context(bundle).wrap_socket(plain) as secure,
        ):
            return ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True) or b"")
    except OSError:
        return ""


def test_mosquitto_shows_what_convinces_on_every_listener_when_the_old_authority_is_gone(
    tmp_path: Path,
) -> None:
    with lan_board(tmp_path, engine="mosquitto") as board:
        server = board.up.state / "trust" / "server.pem"
        board.enrol(tmp_path, "off")
        with board.wire(pinned_context(board.bundle)) as stays:
            assert stays.connect("stays", username="viewer", password=board.up.password("viewer")).code == 0
            board.up.cli("trust", "rotate", "--yes")
            eventually(
                lambda: _shown(board.mqtts, board.bundle) in server.read_text(), "the new one over MQTTS"
            )
            assert _shown(board.wss, board.bundle), "both authorities are trusted"
            assert stays.is_quiet()
        refused = board.up.cli("trust", "rotate", "--finish", "--yes", check=False)
        assert (refused.returncode, "off" in refused.stderr) == (1, True)
        board.up.cli("trust", "rotate", "--finish", "--give-up", "--yes")
        eventually(
            lambda: _shown(board.wss, board.bundle), "a certificate that convinces over WebSocket", every=0.5
        )
        assert _shown(board.mqtts, board.bundle)
        eventually(lambda: board.up.nodes().get("board") == "ready", "the board is back")

        def audited() -> list[str]:
            found = board.up.get("/api/v1/audit?what=trust.finish", "admin")["items"]
            return [row["detail"] for row in found]

        eventually(lambda: audited() == ["given up: off"], "who was given up, in the audit log")


def test_a_rotation_asks_first(board: LanBoard) -> None:
    before = board.up.json("trust", "show")
    refused = board.up.cli("trust", "rotate", check=False)
    assert refused.returncode != 0
    assert board.up.json("trust", "show") == before
    assert "not renewed" not in board.up.cli("trust", "show").stdout


# ---- when it cannot be


@pytest.mark.parametrize("name", ["MQTT", "WS", "HTTP", "CONSOLE"])
def test_a_taken_port_is_named_with_the_setting_that_changes_it(tmp_path: Path, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = str(holder.getsockname()[1])
        env = {**LOOPBACK, f"CALLBOARD_LAN_{name}_PORT": port}
        up = prepare_board(tmp_path, "--lan", console=True, node=False, env=env).start()
        assert up.process is not None
        assert up.process.wait(60) == 1
        said = (tmp_path / "up.err").read_text()
    assert re.search(
        rf"port {port} \(encrypted {name.lower()}\) is taken by .*lan\.{name.lower()}_port", said
    )


def test_a_damaged_authority_stops_the_start_with_a_remedy(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "trust").mkdir(parents=True, mode=0o700)
    (state / "trust" / "ca.key").write_text("nonsense")
    up: Up = prepare_board(tmp_path, console=False, node=False).start()
    assert up.process is not None
    assert up.process.wait(60) == 1
    assert "ca.key is damaged" in (tmp_path / "up.err").read_text()
