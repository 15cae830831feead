"""The defects of stock amqtt that the embedded engine must not have: every probe fails on stock, and passes on ours."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from support import packets as p
from support import wire
from support.packets import Will

CHILD = Path(__file__).parents[1] / "support" / "amqtt_child.py"
#: Seconds to wait for what ours does in milliseconds, on however slow a machine, and stock never.
PATIENCE = {"ours": 30.0, "stock": 1.0}
ANONYMOUS = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
TABOO = {"amqtt.plugins.topic_checking.TopicTabooPlugin": {}}


class Broker:
    """A broker process with an amqtt configuration."""

    def __init__(self, which: str, folder: Path, plugins: dict[str, Any]) -> None:
        config = json.dumps({"plugins": plugins})
        self.soon = PATIENCE[which]
        self._command = [sys.executable, str(CHILD), which, config, str(folder / "state")]
        self._log = (folder / "log").open("ab")
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=self._log)
        assert self.process.stdout is not None
        self.address = ("127.0.0.1", int(self.process.stdout.readline()))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def connect(self, client_id: str, **options: Any) -> wire.Wire:
        return wire.connect(self.address, client_id, **options)

    def close(self) -> None:
        self.kill()
        self._log.close()


def passwords(folder: Path) -> dict[str, Any]:
    file = folder / "passwords"
    hasher = PasswordHash((Argon2Hasher(time_cost=2, memory_cost=65_536),))
    file.write_text(f"ada:{hasher.hash('right')}\n")
    return {"amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(file)}}


@pytest.fixture(
    params=[
        "ours",
        pytest.param("stock", marks=pytest.mark.xfail(strict=True, reason="stock amqtt's defect")),
    ]
)
def which(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def broker(which: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A broker with the plugins that the test is about."""
    plugins = passwords(tmp_path) if "password" in request.node.name else dict(ANONYMOUS)
    if "routing" in request.node.name:
        plugins |= TABOO
    found = Broker(which, tmp_path, plugins)
    yield found
    found.close()


def test_1_a_wrong_password_does_not_touch_the_session(broker: Broker) -> None:
    with broker.connect("ada-1", username="ada", password="right") as ada:
        ada.subscribe(("a", 1))
        with wire.Wire(broker.address) as thief:
            thief.connect("ada-1", username="ada", password="wrong")
        ada.publish("a", b"still here")
        assert ada.message(broker.soon).payload == b"still here"


def test_2_a_new_client_gets_only_what_it_subscribed_to(broker: Broker) -> None:
    with broker.connect("a") as other:
        other.subscribe("#")
        other.publish("secret", b"retained", qos=1, retain=True)
        with broker.connect("b") as client:
            assert client.is_quiet()


def test_3_the_will_of_a_silent_client_is_published(broker: Broker) -> None:
    with broker.connect("watcher") as watcher, broker.connect("silent", keepalive=1, will=Will("gone", b"1")):
        watcher.subscribe("gone")
        assert watcher.message(broker.soon).topic == "gone"


def test_3_a_socket_that_never_sends_connect_is_closed(broker: Broker) -> None:
    with wire.Wire(broker.address) as idle:
        assert idle.is_closed(broker.soon)


@pytest.mark.parametrize("clean", [True, False])
def test_4_a_second_connect_takes_over(broker: Broker, clean: bool) -> None:
    with broker.connect("twin", clean=clean) as old, broker.connect("twin", clean=clean) as new:
        assert old.is_closed(broker.soon)
        new.subscribe("a")
        new.publish("a", b"1")
        assert new.message(broker.soon).payload == b"1"


def test_4_a_take_over_publishes_the_will(broker: Broker) -> None:
    with broker.connect("watcher") as watcher, broker.connect("twin", will=Will("gone", b"1")):
        watcher.subscribe("gone")
        with broker.connect("twin"):
            assert watcher.message(broker.soon).topic == "gone"


def test_5_delivery_is_at_the_lower_qos(broker: Broker) -> None:
    with broker.connect("a") as client:
        client.subscribe(("a", 1))
        client.publish("a", b"0", qos=0)
        assert client.message(broker.soon).qos == 0


def test_5_subscribing_again_changes_the_qos(broker: Broker) -> None:
    with broker.connect("a") as client:
        client.subscribe(("a", 0))
        client.subscribe(("a", 1))
        client.publish("a", b"1", qos=1)
        assert client.message(broker.soon).qos == 1


def test_5_what_was_in_flight_is_sent_again_with_dup(broker: Broker) -> None:
    with broker.connect("a", clean=False) as client, broker.connect("b") as other:
        client.subscribe(("a", 1))
        other.publish("a", b"1", qos=1)
        assert not client.expect(p.PUBLISH, timeout=broker.soon).dup
        client.close()
        with broker.connect("a", clean=False) as again:
            assert again.expect(p.PUBLISH, timeout=broker.soon).dup


def test_5_messages_for_an_absent_session_do_not_come_as_retained(broker: Broker) -> None:
    with broker.connect("a", clean=False) as client:
        client.subscribe(("a", 1))
        client.disconnect()
    with broker.connect("b") as other:
        other.publish("a", b"1", qos=1)
    with broker.connect("a", clean=False) as again:
        assert not again.message(broker.soon).retain


def test_6_routing_survives_subscriptions_made_meanwhile(broker: Broker) -> None:
    with (
        broker.connect("a") as first,
        broker.connect("b") as second,
        broker.connect("c") as other,
        broker.connect("d") as fourth,
    ):
        first.subscribe("x/#")
        second.subscribe("x/+")
        for number in range(500):
            other.send(p.publish("x/y", b"%d" % number, qos=0, pid=0, level=4))
            fourth.send(p.subscribe([(f"z/{number}", 0)], pid=number + 1, level=4))
        for client in (first, second):
            assert [message.payload for message in client.messages(500, broker.soon)] == [
                b"%d" % n for n in range(500)
            ]


def test_7_a_packet_over_the_limit_closes_the_connection(broker: Broker) -> None:
    with broker.connect("a") as client:
        client.send(b"\x30\xff\xff\xff\x7f")  # 256 MB announced
        assert client.is_closed(broker.soon)


def test_7_a_slow_reader_does_not_make_the_broker_grow(broker: Broker) -> None:
    """60 MB pass somebody who does not read."""
    payload = b"x" * 20_000
    with broker.connect("deaf") as deaf, broker.connect("loud") as loud, broker.connect("witness") as witness:
        deaf.subscribe("a")
        witness.subscribe("end")
        before = resident(broker)
        for _ in range(3_000):
            loud.publish("a", payload)
        loud.publish("end")
        witness.message(60)
        assert resident(broker) - before < 20_000_000


def resident(broker: Broker) -> int:
    pages = int(Path(f"/proc/{broker.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_8_publishing_below_dollar_leaves_no_dead_connection(broker: Broker) -> None:
    with broker.connect("a") as client:
        client.publish("$SYS/mine", b"1")
        client.send(p.subscribe([("a", 0)], pid=1, level=4))
        client.expect(p.SUBACK, timeout=broker.soon)
        client.publish("a", b"1")
        assert client.message(broker.soon).payload == b"1"


def test_8_a_shared_subscription_delivers(broker: Broker) -> None:
    with broker.connect("a") as client:
        client.subscribe("$share/group/a")
        client.publish("a", b"1")
        assert client.message(broker.soon).payload == b"1"


def test_8_thousands_of_subscriptions_are_quick(broker: Broker) -> None:
    with broker.connect("a") as client:
        began = cpu_seconds(broker)
        for number in range(4_000):
            client.send(p.subscribe([(f"a/{number}", 0)], pid=number + 1, level=4))
        for _ in range(4_000):
            client.expect(p.SUBACK, timeout=30)
        assert cpu_seconds(broker) - began < 2


def cpu_seconds(broker: Broker) -> float:
    """What the broker's process has used so far; stock uses 7 for the test before."""
    fields = Path(f"/proc/{broker.process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    "raw",
    [
        b"\x36\x04\x00\x01a\x00",  # QoS 3
        b"\x30\x04\x00\x02a\x00",  # NUL in the topic
        b"\x32\x05\x00\x01a\x00\x00",  # packet identifier 0
        b"\x30\x05\x00\x09abc",  # topic longer than its packet
        b"\x30\x05\x00\x02\xff\xfe1",  # not UTF-8
    ],
    ids=["qos-3", "nul", "packet-id-0", "topic-too-long", "not-utf-8"],
)
def test_9_what_is_malformed_closes_the_connection(which: str, tmp_path: Path, raw: bytes) -> None:
    broker = Broker(which, tmp_path, dict(ANONYMOUS))
    try:
        with broker.connect("a") as client:
            client.send(raw)
            assert client.is_closed(broker.soon)
    finally:
        broker.close()


def test_9_mqtt_5_is_spoken(broker: Broker) -> None:
    with wire.Wire(broker.address, level=5) as client:
        assert client.connect("a").code == 0


def test_9_mqtt_3_1_is_answered(broker: Broker) -> None:
    with wire.Wire(broker.address) as client:
        client.send(b"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01a")
        assert client.receive(broker.soon).kind == p.CONNACK


def test_10_an_anonymous_persistent_session_persists(broker: Broker) -> None:
    with broker.connect("a", clean=False) as client:
        client.subscribe(("a", 1))
        client.disconnect()
    time.sleep(1.5)  # stock looks for such sessions every second
    with broker.connect("b") as other:
        other.publish("a", b"1", qos=1)
    with broker.connect("a", clean=False) as again:
        assert again.connack.session_present
        assert again.message(broker.soon).payload == b"1"


def test_10_checking_a_password_keeps_nobody_waiting(broker: Broker) -> None:
    """Ten log-ins are checked; the slowest round trip of somebody else meanwhile is far below what they take together."""
    with broker.connect("ada-1", username="ada", password="right") as ada:
        ada.subscribe("a")
        began = time.monotonic()
        newcomers = [wire.Wire(broker.address) for _ in range(10)]
        for number, newcomer in enumerate(newcomers):
            newcomer.send(p.connect(f"new-{number}", username="ada", password=f"wrong {number}"))
        ada.publish("a", b"1")
        ada.message(30)
        waited = time.monotonic() - began
        for newcomer in newcomers:
            newcomer.is_closed(30)
        assert waited < (time.monotonic() - began) / 2
        for newcomer in newcomers:
            newcomer.close()


def test_11_what_was_acknowledged_survives_a_kill(broker: Broker) -> None:
    with broker.connect("a") as client:
        for number in range(100):
            client.publish(f"a/{number}", b"kept", qos=1, retain=True)
    broker.kill()
    broker.start()
    with broker.connect("b") as client:
        client.subscribe("a/#")
        assert len(client.messages(100, broker.soon)) == 100


def test_12_a_burst_of_connects_finds_room_in_the_backlog(broker: Broker) -> None:
    host, port = broker.address
    shown = subprocess.run(
        ["ss", "-ltnH", f"sport = :{port}"], capture_output=True, text=True, check=True
    ).stdout
    assert int(shown.split()[2]) >= 1_000
    socket.create_connection((host, port)).close()
