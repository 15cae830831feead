"""Other makers' clients on the embedded broker's listeners: browsers, paho and mosquitto over WebSocket and TLS."""

from __future__ import annotations

import queue
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from playwright.sync_api import sync_playwright

from support import wire
from support.browser import CHROMIUM, FLAGS
from support.embedded import Certificates
from support.engines import Engine, Options, free_port, running
from support.mqttjs import bundle
from support.users import password


@dataclass(frozen=True)
class Doors:
    """A broker with access rules and all four kinds of listener."""

    engine: Engine
    certificates: Certificates
    ports: dict[str, int]

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificates.ca))


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    certificates = Certificates(tmp_path_factory.mktemp("certificates"))
    certificate, key = certificates.issue("server")
    secure = {"ssl": True, "certfile": str(certificate), "keyfile": str(key)}
    ports = {name: free_port() for name in ("tls", "ws", "wss")}
    listeners = {
        "tls": {"bind": f"127.0.0.1:{ports['tls']}", **secure, "cafile": str(certificates.ca)},
        "ws": {"type": "ws", "bind": f"127.0.0.1:{ports['ws']}"},
        # Without `cafile`: Chromium gives a WebSocket up when it is asked for a client certificate.
        "wss": {"type": "ws", "bind": f"127.0.0.1:{ports['wss']}", **secure},
    }
    options = Options(access=True, listeners=listeners)
    with running("embedded", tmp_path_factory.mktemp("doors"), options) as engine:
        yield Doors(engine, certificates, ports)


_SCRIPT = """([url, version, password]) => new Promise((resolve, reject) => {
  const heard = [];
  const client = mqtt.connect(url, {protocolVersion: version, clientId: 'browser' + version, username: 'admin',
                                    password, reconnectPeriod: 0});
  client.on('error', reject);
  client.on('close', () => heard.length < 3 && reject(new Error('closed')));
  client.on('message', (topic, payload, packet) => {
    heard.push([topic, payload.toString(), packet.qos]);
    if (heard.length == 3) client.end(false, {}, () => resolve(heard));
  });
  client.on('connect', () => client.subscribe('from/#', {qos: 2}, (error, granted) => {
    if (error) return reject(error);
    for (const qos of [0, 1, 2]) client.publish('from/browser', 'grüße ' + qos, {qos});
  }));
})"""


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_mqtt_js_in_chromium_publishes_and_subscribes(doors: Doors, scheme: str, version: int) -> None:
    with doors.engine.connect("witness", username="admin", password=password("admin")) as witness:
        witness.subscribe(("from/#", 2))
        with (
            sync_playwright() as play,
            play.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS)) as browser,
        ):
            page = browser.new_context(ignore_https_errors=True).new_page()
            page.add_script_tag(path=bundle())
            url = f"{scheme}://127.0.0.1:{doors.ports[scheme]}/mqtt"
            heard = page.evaluate(_SCRIPT, [url, version, password("admin")])
        expected = [["from/browser", f"grüße {qos}", qos] for qos in (0, 1, 2)]
        assert sorted(heard) == expected
        assert sorted([m.topic, m.payload.decode(), m.qos] for m in witness.messages(3)) == expected


@pytest.mark.parametrize("scheme", ["tls", "ws", "wss"])
def test_paho_comes_through_every_listener(doors: Doors, scheme: str) -> None:
    heard: queue.Queue = queue.Queue()
    transport = "tcp" if scheme == "tls" else "websockets"
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, f"paho-{scheme}", transport=transport)
    client.username_pw_set("admin", password("admin"))
    if scheme != "ws":
        client.tls_set_context(doors.trust())
    client.on_connect = lambda c, *_: c.subscribe("big", qos=1)
    client.on_subscribe = lambda c, *_: c.publish("big", bytes(range(256)) * 2_000, qos=1)
    client.on_message = lambda _c, _u, message: heard.put(message.payload)
    client.connect("localhost", doors.ports[scheme])
    client.loop_start()
    try:
        assert heard.get(timeout=20) == bytes(range(256)) * 2_000
    finally:
        client.disconnect()
        client.loop_stop()


def test_mosquitto_sub_logs_in_with_a_client_certificate(doors: Doors) -> None:
    certificate, key = doors.certificates.issue("viewer")
    command = [
        shutil.which("mosquitto_sub") or "mosquitto_sub", "-h", "localhost", "-p", str(doors.ports["tls"]), "-i", "cert",
        "--cafile", str(doors.certificates.ca), "--cert", str(certificate), "--key", str(key),
        "-t", "callboard/+/status", "-C", "1", "-W", "20",
    ]  # fmt: skip
    with doors.engine.connect("admin", username="admin", password=password("admin")) as admin:
        admin.publish("callboard/pi/status", b"here", qos=1, retain=True)
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        assert done.stdout == "here\n"
        admin.publish("callboard/pi/status", retain=True, qos=1)


def test_a_renewed_certificate_is_noticed_without_being_told(doors: Doors) -> None:
    def serial(wanted: wire.Wire) -> str:
        return wanted.socket.getpeercert()["serialNumber"]

    address = ("127.0.0.1", doors.ports["tls"])
    login = {"username": "viewer", "password": password("viewer")}
    with wire.connect(address, "stays", tls=doors.trust(), **login) as old:
        doors.certificates.issue("server")
        deadline = time.monotonic() + 20
        while True:
            with wire.connect(address, "new", tls=doors.trust(), **login) as new:
                if serial(new) != serial(old):
                    break
            assert time.monotonic() < deadline
        assert old.is_quiet()


def test_a_broken_new_certificate_leaves_the_old_one_in_use(doors: Doors) -> None:
    certificate = Path(doors.engine.options.listeners["tls"]["certfile"])
    good = certificate.read_bytes()
    address = ("127.0.0.1", doors.ports["tls"])
    login = {"username": "viewer", "password": password("viewer")}
    certificate.write_text("not a certificate")
    try:
        until = time.monotonic() + 5  # the broker looks every two seconds
        while time.monotonic() < until:
            wire.connect(address, "still", tls=doors.trust(), **login).disconnect()
        assert doors.engine.is_running()
    finally:
        certificate.write_bytes(good)


def test_plain_text_on_the_tls_port_and_tls_on_the_plain_port_disturb_nobody(doors: Doors) -> None:
    with doors.engine.connect("calm", username="admin", password=password("admin")) as calm:
        with wire.Wire(("127.0.0.1", doors.ports["tls"])) as plain:
            plain.send(wire.p.connect("x"))
            # What comes back is a TLS alert, not MQTT.
            plain.socket.settimeout(20)
            while plain.socket.recv(4096):
                pass
        with pytest.raises((ssl.SSLError, ConnectionError, TimeoutError)):
            wire.Wire(doors.engine.address, tls=doors.trust())
        assert calm.is_quiet()
