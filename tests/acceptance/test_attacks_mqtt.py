"""Attacks by somebody who stole one machine's credential: over TLS, on a board that let two machines in by their join codes."""

from __future__ import annotations

import json
import socket
import ssl
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from callboard_core.trust import JoinCode
from callboard_nodes.enrolment import Applicant, Enrolment, Joining, Store
from support import packets as p
from support.up import Up, eventually, running_board
from support.wire import Closed, Will, Wire

THIEF, VICTIM = "pump", "tank"
LISTENERS = '[mqtt]\nsys_interval = 1\n[lan]\nbind = "127.0.0.1"\nmqtt_port = 0\nws_port = 0\nhttp_port = 0\nconsole_port = 0\n'


@dataclass
class Attacked:
    """A board, and what its two machines got when they were let in."""

    up: Up
    mine: Enrolment
    other: Enrolment

    def wire(self) -> Wire:
        """A connection over TLS to what other machines reach, with nobody logged in."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.mine.bundle)
        lan = self.up.runtime.lan
        assert lan is not None
        assert lan.mqtts is not None
        return Wire(("127.0.0.1", lan.mqtts.port), level=5, tls=context)

    def login(self, client_id: str, **options: Any) -> Wire:
        """Log in as the machine whose credential was stolen."""
        wire = self.wire()
        given = {"username": THIEF, "password": self.mine.password.encode(), **options}
        connack = wire.connect(client_id, **given)
        if connack.code:
            wire.close()
            raise Closed(f"refused with {connack.code}")
        return wire

    def refused(self) -> dict[str, int]:
        found: list[bytes] = []
        with self.up.link("viewer") as link:
            link.subscribe(
                "$SYS/broker/callboard/refused", lambda message: found.append(message.payload)
            ).ready.result(5)
            link.round_trip(5).result()
        return dict(json.loads(found[-1])) if found else {}


def let_in(up: Up, node: str, folder: Path) -> Enrolment:
    request = urllib.request.Request(up.runtime.http.url + "/api/v1/joins", json.dumps({"id": node}).encode())
    request.add_header("Content-Type", "application/json")
    request.add_header(
        "Authorization", "Basic " + b64encode(f"admin:{up.password('admin')}".encode()).decode()
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        code = json.load(answer)["code"]
    return Joining(JoinCode.parse(code), Applicant(node), Store(folder / node)).run()


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    folder = tmp_path_factory.mktemp("attacked")
    (folder / "lan.toml").write_text(LISTENERS)
    with running_board(folder, "--lan", "--config", str(folder / "lan.toml"), node=False) as up:
        yield Attacked(up, let_in(up, THIEF, folder), let_in(up, VICTIM, folder))


@pytest.fixture
def witness(attacked: Attacked) -> Iterator[Wire]:
    """Sees everything on the board."""
    mqtt = attacked.up.runtime.mqtt
    with Wire((mqtt.host, mqtt.port)) as wire:
        password = attacked.up.password("admin").encode()
        assert wire.connect("witness", username="admin", password=password).code == 0
        wire.subscribe(("callboard/#", 1))
        yield wire


def seen(witness: Wire, marker: bytes) -> list[str]:
    """Topics of the messages with a marker in them that have got through."""
    return [message.topic for message in witness.backlog() if marker in message.payload]


def test_the_credential_is_good_for_its_own_name_and_no_other(attacked: Attacked):
    attacked.login(THIEF).close()
    for other in (VICTIM, "board", "board-history", "cli-1", "anybody", THIEF + "2", ""):
        with pytest.raises(Closed):
            attacked.login(other)


def test_a_password_of_one_machine_is_none_of_another(attacked: Attacked):
    with pytest.raises(Closed):
        attacked.login(VICTIM, username=VICTIM)
    with pytest.raises(Closed):
        attacked.login(THIEF, username="admin")


@pytest.mark.parametrize(
    "topic",
    [
        f"callboard/{VICTIM}/status",
        f"callboard/{VICTIM}/state/sensor/level",
        f"callboard/{VICTIM}/command/control/speed",
        f"callboard/{THIEF}/command/control/speed",
        "callboard/board/status",
        "elsewhere/status",
        "$SYS/broker/version",
    ],
)
def test_a_forged_will_is_never_published(attacked: Attacked, witness: Wire, topic: str):
    """Refused with its CONNECT, or dropped; in neither case does anybody get it when its sender falls silent."""
    marker = b"forged will"
    try:
        wire = attacked.login(THIEF, will=Will(topic, marker, qos=1, retain=True))
    except Closed:
        pass
    else:
        wire.reset()
    # A will that is allowed comes after it: had the forged one come, it would be here by now.
    attacked.login(THIEF, will=Will(f"callboard/{THIEF}/event/gone", b"own will", qos=1)).reset()
    witness.wait_for(lambda packet: packet.kind == p.PUBLISH and packet.payload == b"own will")
    assert seen(witness, marker) == []


@pytest.mark.parametrize(
    "topic",
    [
        f"callboard/{VICTIM}/announce",
        f"callboard/{VICTIM}/announce/sensor/level",
        "callboard/board/announce/worker/forget",
        f"callboard/{VICTIM}/status",
        f"callboard/{VICTIM}/state/sensor/level",
        f"callboard/{VICTIM}/series/sensor/level",
        f"callboard/{VICTIM}/event/alarm",
        f"callboard/{VICTIM}/command/control/speed",
        f"callboard/{VICTIM}/command/action/reboot",
        "callboard/board/command/worker/forget",
        "callboard/board/command/worker/call",
        "other-site/pump/status",
        f"callboard//{VICTIM}/status",
    ],
)
def test_a_spoofed_message_reaches_nobody(attacked: Attacked, witness: Wire, topic: str):
    marker = b'{"spoofed": true}'
    with attacked.login(THIEF) as wire:
        answer = wire.publish(topic, marker, qos=1, retain=True)
        assert answer is None or answer.code >= 0x80, topic
        wire.publish(f"callboard/{THIEF}/event/log", b"mine", qos=1)
    witness.wait_for(lambda packet: packet.kind == p.PUBLISH and packet.payload == b"mine")
    assert seen(witness, marker) == []


def test_a_command_that_is_to_stay_is_refused_by_whoever_it_comes_from(attacked: Attacked, witness: Wire):
    for topic in (f"callboard/{THIEF}/command/control/speed", "callboard/board/command/action/ping"):
        with attacked.login(THIEF) as wire:
            answer = wire.publish(topic, b"stays for ever", qos=1, retain=True)
            assert answer is None or answer.code >= 0x80
    with attacked.up.link("admin") as link:
        before = attacked.refused().get("publish", 0)
        link.publish(
            f"callboard/{VICTIM}/command/control/speed", b"stays for ever", qos=1, retain=True
        ).result(20)
        eventually(lambda: attacked.refused().get("publish", 0) > before, "it is counted")
        assert seen(witness, b"stays for ever") == []


@pytest.mark.parametrize(
    "topic_filter",
    [
        f"callboard/{VICTIM}/command/#",
        "callboard/+/command/#",
        "callboard/#",
        "#",
        "+/#",
        "$SYS/#",
        f"callboard/{VICTIM}/reply",
        "$share/x/callboard/#",
    ],
)
def test_nothing_that_is_for_others_can_be_listened_to(attacked: Attacked, topic_filter: str):
    with attacked.login(THIEF) as wire:
        answer = wire.subscribe((topic_filter, 1))
        assert all(code >= 0x80 for code in answer.codes)


def test_over_https_it_opens_nothing_but_artifacts(attacked: Attacked):
    lan = attacked.up.runtime.lan
    assert lan is not None
    assert lan.https is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=attacked.mine.bundle)
    basic = "Basic " + b64encode(f"{THIEF}:{attacked.mine.password}".encode()).decode()
    for path in (
        "nodes",
        "cards",
        "users",
        "audit",
        "joins",
        "enrolments",
        "jobs",
        "artifacts",
        "tokens",
        "roles",
    ):
        request = urllib.request.Request(f"https://localhost:{lan.https.port}/api/v1/{path}")
        request.add_header("Authorization", basic)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=20, context=context)
        assert caught.value.code == 403, path
        caught.value.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.parametrize("part", ["mqtts", "https", "wss"])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_an_old_tls_is_refused_everywhere(attacked: Attacked, part: str, version: ssl.TLSVersion):
    lan = attacked.up.runtime.lan
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", getattr(lan, part).port), timeout=20) as plain,
        pytest.raises(OSError),
    ):
        context.wrap_socket(plain)


def test_after_all_this_both_machines_are_where_they_were(attacked: Attacked):
    """Nobody was locked out, and nothing was taken over."""
    with attacked.wire() as wire:
        assert wire.connect(VICTIM, username=VICTIM, password=attacked.other.password.encode()).code == 0
    assert attacked.up.get("/healthz")
