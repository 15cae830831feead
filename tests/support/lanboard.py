"""A board that listens encrypted, and machines that it lets in, as other programs see them."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from callboard_core.trust import JoinCode, pinned_context
from callboard_core.trust.enrolment import Enrolled
from callboard_core.trust.keys import new_key, signing_request
from support.up import Up, running_board
from support.wire import Wire

#: On loopback, so that nothing of a test is seen outside.
LOOPBACK = {
    "CALLBOARD_LAN_BIND": "127.0.0.1",
    **{f"CALLBOARD_LAN_{name}_PORT": "0" for name in ("MQTT", "WS", "HTTP", "CONSOLE")},
}


@dataclass
class Machine:
    """What a machine keeps once it was let in, as files."""

    id: str
    folder: Path
    got: Enrolled

    @property
    def key(self) -> Path:
        return self.folder / f"{self.id}.key"

    def csr(self) -> str:
        return signing_request(self.key.read_text(), self.id)

    def keep(self, certificate: str) -> Path:
        path = self.folder / f"{self.id}.crt"
        path.write_text(certificate)
        return path

    def context(self, bundle: str = "") -> ssl.SSLContext:
        return pinned_context(
            bundle or self.got.bundle, certificate=self.folder / f"{self.id}.crt", key=self.key
        )


class LanBoard:
    """A running board."""

    def __init__(self, up: Up) -> None:
        self.up = up
        lan = up.runtime.lan
        assert lan is not None
        assert lan.mqtts is not None
        assert lan.wss is not None
        self.lan, self.mqtts, self.wss = lan, lan.mqtts, lan.wss

    @property
    def mqtt(self) -> tuple[str, int]:
        return self.mqtts.host, self.mqtts.port

    @property
    def bundle(self) -> str:
        return (self.up.state / "trust" / "bundle.crt").read_text()

    def http(self, user: str = "", password: str = "", *, bundle: str = "") -> httpx.Client:
        """An HTTPS client that trusts only the board."""
        auth = (user, password or self.up.password(user)) if user else None
        return httpx.Client(
            base_url=self.lan.https.url, verify=pinned_context(bundle or self.bundle), auth=auth, timeout=30
        )

    def code(self, **wanted: Any) -> JoinCode:
        with self.http("operator") as client:
            made = client.post("/api/v1/joins", json=wanted)
            made.raise_for_status()
            return JoinCode.parse(made.json()["code"])

    def enrol(self, folder: Path, node: str, code: JoinCode | None = None) -> Machine:
        """Let a machine in."""
        (folder / f"{node}.key").write_text(key := new_key())
        asked = {"token": (code or self.code()).token, "id": node, "csr": signing_request(key, node)}
        with self.http() as client:
            answer = client.post("/api/v1/enrol", json=asked)
        assert answer.status_code == 200, answer.text
        machine = Machine(node, folder, Enrolled.model_validate_json(answer.content))
        machine.keep(machine.got.certificate)
        return machine

    def wire(self, context: ssl.SSLContext) -> Wire:
        return Wire(self.mqtt, tls=context)


@contextlib.contextmanager
def lan_board(
    folder: Path, *flags: str, engine: str = "embedded", console: bool = False
) -> Iterator[LanBoard]:
    """A board with ``--lan`` on loopback and free ports."""
    with running_board(
        folder, "--lan", *flags, engine=engine, console=console, node=False, env=LOOPBACK
    ) as up:
        yield LanBoard(up)
