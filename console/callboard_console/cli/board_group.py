"""The group that ``callboard up`` runs: ports, first users and keys, and the command line of each role."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from callboard_broker.access import Role, ensure_first_users
from callboard_broker.access.authority import Authority, TrustFiles
from callboard_broker.access.names import lan_hosts, server_names
from callboard_broker.engine import endpoint_of, is_outside
from callboard_console.cli.addresses import url
from callboard_console.cli.ports import decide_ports
from callboard_core import runtime
from callboard_core.addresses import join_address
from callboard_core.errors import BadRequest
from callboard_core.runtime import credential_file, write_private
from callboard_core.settings import Settings
from callboard_core.topics import BOARD
from callboard_nodes.group import Member, Supervisor

__all__ = ["Plan", "prepare", "runtime_of"]

#: Roles in the order in which people read them, and what each needs.
NEEDS: dict[str, tuple[str, ...]] = {
    "broker": (),
    "board": ("broker",),
    "console": ("broker", "board"),
    "node": ("broker", "board"),
}


@dataclass(frozen=True)
class Plan:
    """What is going to run: settings with every port decided, and the processes."""

    settings: Settings
    members: tuple[Member, ...]
    started: float

    @property
    def http_url(self) -> str:
        """Where programs of this machine reach the HTTP API."""
        return url(self.settings.http.bind, self.settings.http.port)

    @property
    def console_url(self) -> str | None:
        """Where people of this machine reach the console, if there is one."""
        console = self.settings.console
        return url(console.bind, console.port) if console.enabled else None


def prepare(settings: Settings, *, with_node: bool) -> Plan:
    """Decide the ports, make the first users, and write what the roles read.

    Raises:
        Conflict: a port is taken; the message says by whom.
        Failed: a file in the state folder is damaged.
        BadRequest: an address or a role's extra is not there.
        OSError: the state folder cannot be written.
    """
    if with_node and settings.node.id == BOARD:
        raise BadRequest(
            f"this machine's node cannot be called {BOARD!r}; set another id in [node] or --node-id"
        )
    settings = decide_ports(settings)
    ensure_first_users(settings.state)
    Authority(settings.state, settings.site).ensure(server_names(settings.lan.names))
    folder = settings.state / "run"
    folder.mkdir(mode=0o700, exist_ok=True)
    file = folder / "settings.json"
    write_private(file, settings.model_dump_json(indent=2) + "\n")
    roles = [
        role
        for role in NEEDS
        if (role != "console" or settings.console.enabled) and (role != "node" or with_node)
    ]
    return Plan(settings, tuple(_member(role, roles, file) for role in roles), time.time())


def runtime_of(plan: Plan, supervisor: Supervisor, *, pid: int, ready: bool) -> runtime.Runtime:
    """Return what other programs of this machine are told."""
    settings, endpoint = plan.settings, endpoint_of(plan.settings)
    pids, restarts = supervisor.pids, supervisor.restarts
    return runtime.Runtime(
        site=settings.site,
        version=version("callboard"),
        pid=pid,
        started=plan.started,
        ready=ready,
        engine=settings.mqtt.engine,
        mqtt=runtime.Mqtt(host=endpoint.host, port=endpoint.port, url=str(endpoint)),
        http=runtime.Http(url=plan.http_url),
        console=runtime.Console(url=plan.console_url) if plan.console_url else None,
        lan=_lan_of(settings),
        pids=pids,
        roles={
            name: runtime.RoleState(state=state, pid=pids.get(name), restarts=restarts[name])
            for name, state in supervisor.states.items()
        },
        credentials={
            role: runtime.CredentialAt(username=role, password_file=credential_file(settings.state, role))
            for role in (Role.VIEWER.value, Role.OPERATOR.value)
        },
    )


def _lan_of(settings: Settings) -> runtime.Lan | None:
    lan = settings.lan
    if not lan.enabled:
        return None
    host = lan_hosts(lan)[0]

    def at(scheme: str, port: int) -> runtime.Mqtt:
        return runtime.Mqtt(host=host, port=port, url=f"{scheme}://{join_address(host, port)}")

    ours = not is_outside(settings)
    return runtime.Lan(
        mqtts=at("mqtts", lan.mqtt_port) if ours else None,
        wss=at("wss", lan.ws_port) if ours else None,
        https=at("https", lan.http_port),
        console=at("https", lan.console_port) if settings.console.enabled else None,
        ca=TrustFiles.of(settings.state).authority,
        bind=lan.bind,
    )


def _member(role: str, roles: list[str], file: Path) -> Member:
    # -P: a file in the current folder must not stand in for a module of ours.
    command = (sys.executable, "-P", "-m", "callboard_console.cli.role", role, str(file))
    return Member(
        name=role,
        command=command,
        env={"PYTHONUNBUFFERED": "1"},
        needs=tuple(needed for needed in NEEDS[role] if needed in roles),
    )
