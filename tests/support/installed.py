"""An installed node and its board: real environments, real wheels and the units' own command lines; only systemd is played."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from callboard_core.wheels import gather
from callboard_nodes.install.layout import Layout
from callboard_nodes.install.setup import Plan, install
from support.systemd import Supervisor
from support.up import Up, clean_environment, eventually, running_board
from support.wheels import as_version

__all__ = ["BRIEF", "CRASHES", "LONG", "RESTLESS", "Place", "machine"]

#: Seconds; everybody who tests on this machine waits for the same disk.
LONG = 240.0
#: Time that what is broken gets to get healthy.
BRIEF = 8.0
AGENT = "callboard_nodes/agent.py"
#: Passes the self-test, and ends at once when it is to run.
CRASHES = {
    AGENT: (
        "    _listen_to_log()\n    if asyncio",
        '    raise RuntimeError("broken on purpose")\n    if asyncio',
    )
}
#: Comes to the board, and never stays there for long enough.
RESTLESS = {
    AGENT: (
        "    asked = asyncio.create_task(restart.wait())",
        "    loop.call_later(2.0, lambda: os._exit(3))\n    asked = asyncio.create_task(restart.wait())",
    )
}


@dataclass
class Place:
    """A board, and a machine with an installed node."""

    up: Up
    layout: Layout
    wheel: Path
    folder: Path
    machine: Supervisor

    def release(self, version: str, changes: dict[str, tuple[str, str]] | None = None) -> Path:
        return as_version(self.wheel, self.folder, version, changes)

    def update(self, wheel: Path, *, within: float = LONG, check: bool = True) -> Any:
        return self.send("update", "greenhouse", "--wheel", str(wheel), within=within, check=check)

    def send(self, *words: str, within: float = LONG, check: bool = True) -> Any:
        """Send something and wait for its end; what is broken gets little time, what is not gets all it may need."""
        given = ("--watch", "--within", str(within))
        return self.up.cli(*words, *given, timeout=within + LONG, check=check)

    def history(self) -> list[dict]:
        return json.loads(self.up.cli("update", "history", "greenhouse", "--json").stdout)

    def version(self) -> str | None:
        node = next(one for one in self.up.get("/api/v1/nodes")["items"] if one["id"] == "greenhouse")
        return node["card"]["version"] if node["status"] == "ready" else None

    def runs(self, version: str) -> None:
        eventually(lambda: self.version() == version, lambda: f"{version} runs; {self.version()} does", LONG)


def invitation(up: Up) -> str:
    login = ("admin", up.password("admin"))
    answer = httpx.post(f"{up.runtime.http.url}/api/v1/joins", json={}, auth=login, timeout=30)
    return answer.raise_for_status().json()["code"]


@contextmanager
def machine(folder: Path) -> Iterator[Place]:
    """A board on loopback for other machines, and a machine that has joined it and whose units run."""
    env = {"CALLBOARD_LAN_BIND": "127.0.0.1"}
    ports = {f"CALLBOARD_LAN_{name}_PORT": "0" for name in ("MQTT", "WS", "HTTP", "CONSOLE")}
    with running_board(folder, "--lan", node=False, env=env | ports) as up:
        code = invitation(up)
        wheels = folder / "wheels"
        gather(wheels)
        (wheel,) = wheels.glob("callboard-*.whl")
        layout = Layout(folder / "machine")
        settings = {"node.id": "greenhouse", "node.tags": ["heated"]}
        install(Plan(layout=layout, settings=settings, join=code, wheels=wheels, python=Path(sys.executable)))
        (folder / "home").mkdir()
        clean = clean_environment(folder / "home")
        wanted = {name: value for name, value in clean.items() if name.startswith(("CALLBOARD_", "XDG_"))}
        with Supervisor(layout, folder / "systemd", wanted) as supervisor:
            place = Place(up, layout, wheel, folder, supervisor)
            eventually(lambda: up.nodes().get("greenhouse") == "ready", up.logs, LONG)
            yield place
