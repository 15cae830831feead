"""``callboard doctor``: the settings in force, this machine, and whether the board can be reached."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from callboard_console.cli import options
from callboard_console.cli.context import Access, connect, find_board, load
from callboard_console.cli.output import print_json, table
from callboard_core.errors import CallboardError

if TYPE_CHECKING:
    from callboard_core.link import Link, Message
    from callboard_core.runtime import Runtime
    from callboard_core.settings import Settings
    from callboard_nodes.enrolment import Enrolment

__all__ = ["Check", "doctor", "plain_ports"]

#: Free bytes below which a board that keeps history should worry.
_LOW_DISK = 200_000_000
#: Seconds a clock may differ from the board's.
_SKEW = 2.0
_PACKAGES = (
    "callboard",
    "paho-mqtt",
    "pydantic",
    "amqtt",
    "sqlalchemy",
    "fastapi",
    "streamlit",
    "adafruit-blinka",
)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    ok: bool
    found: str


def doctor(
    *,
    state: options.State = None,
    config: options.Config = None,
    site: options.Site = None,
    board: options.BoardUrl = None,
    username: options.Username = None,
    password_file: options.PasswordFile = None,
    as_json: options.Json = False,
) -> None:
    """Show the settings in force and where each came from, and check this machine and the way to the board.

    Example: callboard doctor --json
    """
    loaded = load(config, {"state": state, "site": site, "node.board": board})
    access = Access(
        state=state, config=config, site=site, board=board, username=username, password_file=password_file
    )
    checks = [check() for check in _checks(loaded.value, access)]
    rows = [asdict(row) for row in loaded.rows()]
    if as_json:
        print_json({"settings": rows, "checks": [asdict(check) for check in checks]})
    else:
        table(["key", "shown", "source"], rows, empty="no settings")
        print()
        shown = [{**asdict(check), "ok": "ok" if check.ok else "LOOK"} for check in checks]
        table(["ok", "what", "found"], shown, empty="nothing checked")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def _checks(settings: Settings, access: Access) -> list[Callable[[], Check]]:
    from callboard_core.runtime import read_runtime

    checks = [
        _versions,
        lambda: _state_folder(settings.state),
        lambda: _disk(settings.state),
        *_installed(),
    ]
    try:
        runtime = read_runtime(settings.state)
    except CallboardError as error:
        message = error.message
        return [*checks, lambda: Check("board here", ok=False, found=message)]
    # That of the board that runs here may have been chosen by a flag.
    checks.append(lambda: _engine(settings.mqtt.engine if runtime is None else runtime.engine))
    if runtime is None:
        checks += [lambda: _port("mqtt", settings.mqtt.port), lambda: _port("http", settings.http.port)]
        checks += [lambda: _port("console", settings.console.port), *_lan_ports(settings)]
    else:
        checks += [lambda: _parts(runtime), lambda: plain_ports(runtime)]
        checks += _encrypted(settings, runtime)
    joined = _joined(settings) if runtime is None and access.username is None else []
    seen = joined or [lambda: _log_in(access), lambda: _clients(access)]
    return [*checks, lambda: _reach(settings), *seen, lambda: _clock(runtime)]


def _versions() -> Check:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return Check("versions", ok=True, found=f"Python {platform.python_version()}, {', '.join(found)}")


def _state_folder(state: Path) -> Check:
    if not state.exists():
        return Check("state folder", ok=True, found=f"{state} (made at the first start)")
    mode = state.stat().st_mode & 0o777
    if not os.access(state, os.W_OK):
        return Check("state folder", ok=False, found=f"{state} cannot be written; use another with --state")
    private = not mode & 0o077
    remedy = "" if private else f"; others can read it: chmod 700 {state}"
    return Check("state folder", ok=private, found=f"{state}, mode {mode:o}{remedy}")


def _disk(state: Path) -> Check:
    import shutil

    there = next(folder for folder in (state, *state.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    return Check("disk", ok=free > _LOW_DISK, found=f"{free / 1e9:.1f} GB free on {there}")


def _engine(engine: str) -> Check:
    if engine != "mosquitto":
        return Check("engine", ok=True, found=engine)
    from callboard_broker.engine.mosquitto import find_program
    from callboard_broker.engine.mosquitto import version as mosquitto_version

    try:
        program = find_program()
    except CallboardError as error:
        return Check("engine", ok=False, found=error.message)
    return Check("engine", ok=True, found=f"{program} {mosquitto_version(program)}")


def _installed() -> list[Callable[[], Check]]:
    """Look at the units of a node that is installed here."""
    from callboard_nodes.install.layout import INSTALLED, Layout
    from callboard_nodes.install.setup import outdated_units

    layout = Layout(Path(os.environ.get(INSTALLED, "/")))
    old = outdated_units(layout)
    if old is None:
        return []
    found = f"{', '.join(old)}: not as this version writes them, which an update leaves alone; run"
    remedy = f"`sudo {layout.program} node --install`"
    return [lambda: Check("units", ok=not old, found=f"{found} {remedy}" if old else "of this version")]


def _port(name: str, port: int) -> Check:
    from callboard_core.processes import port_holder

    holder = port_holder(port) if port else None
    if holder is None:
        return Check(f"{name} port", ok=True, found=f"{port or 'any'} is free")
    return Check(f"{name} port", ok=False, found=f"{port} is taken by {holder}")


def _lan_ports(settings: Settings) -> list[Callable[[], Check]]:
    lan = settings.lan
    ports = {
        "mqtts": lan.mqtt_port,
        "wss": lan.ws_port,
        "https": lan.http_port,
        "console-https": lan.console_port,
    }
    return [partial(_port, name, port) for name, port in ports.items()] if lan.enabled else []


def _encrypted(settings: Settings, runtime: Runtime) -> list[Callable[[], Check]]:
    """Look at the encrypted listeners with the eyes of other machines."""
    if runtime.lan is None:
        return []
    from callboard_broker.access.names import lan_hosts
    from callboard_console.cli.encrypted import look, verdict

    hosts = lan_hosts(settings.lan.model_copy(update={"bind": runtime.lan.bind}))
    return [partial(Check, seen.part, *verdict(seen, hosts)) for seen in look(runtime.lan)]


def plain_ports(runtime: Runtime) -> Check:
    """See whether what is not encrypted can be reached on an address that other machines know."""
    from urllib.parse import urlsplit

    from callboard_broker.access.names import own_addresses
    from callboard_console.cli.status import connects
    from callboard_core.addresses import join_address
    from callboard_core.listening import is_loopback

    urls = {"mqtt": runtime.mqtt.url, "http": runtime.http.url}
    urls |= {"console": runtime.console.url} if runtime.console else {}
    own = own_addresses()
    outside = [address for address in own if not is_loopback(address)]
    here = {name: at for name, url in urls.items() if (at := urlsplit(url)).hostname in {*own, "localhost"}}
    ports = {name: at.port for name, at in here.items() if at.port and at.scheme in {"mqtt", "http"}}
    found = [
        f"{name} at {join_address(address, port)}"
        for name, port in ports.items()
        for address in outside
        if connects(address, port) == "ok"
    ]
    if found:
        return Check(
            "plain ports",
            ok=False,
            found=f"not encrypted, and open to other machines: {', '.join(found)}; start the board with --lan instead "
            "of --bind (mqtt.bind, http.bind, console.bind)",
        )
    return Check("plain ports", ok=True, found=f"only this machine reaches {', '.join(ports)}")


def _parts(runtime: Runtime) -> Check:
    from callboard_console.cli.status import probe

    answers = probe(runtime)
    restarts = sum(role.restarts for role in runtime.roles.values())
    ok = runtime.ready and all(answer == "ok" for answer in answers.values())
    parts = ", ".join(f"{part} {answer}" for part, answer in answers.items())
    return Check("board here", ok=ok, found=f"{parts}; {restarts} restarts")


def _reach(settings: Settings) -> Check:
    try:
        endpoint = find_board(settings)
    except CallboardError as error:
        return Check("find board", ok=False, found=error.message)
    return Check("find board", ok=True, found=str(endpoint))


def _joined(settings: Settings) -> list[Callable[[], Check]]:
    """Look at how a node of this machine stands with its board, where nobody has a password to log in with."""
    from callboard_nodes.enrolment import Store

    try:
        found = Store(settings.node.state).read()
    except CallboardError as error:
        message = error.message
        return [lambda: Check("joined", ok=False, found=message)]
    return [] if found is None else [lambda: _standing(found)]


def _standing(found: Enrolment) -> Check:
    from callboard_nodes.enrolment import is_withdrawn

    record, withdrawn = found.record, is_withdrawn(found)
    what = {
        None: f"does not answer at {', '.join(record.addresses)}",
        False: "lets it in",
        True: f"has withdrawn that; join it again with a code that `callboard join --id {record.id}` makes there",
    }[withdrawn]
    return Check(
        "joined", ok=withdrawn is False, found=f"{record.id} at site {record.site}; the board {what}"
    )


def _log_in(access: Access) -> Check:
    try:
        with connect(access, "viewer") as link:
            began = time.perf_counter()
            link.round_trip(5.0).result()
            took = time.perf_counter() - began
    except CallboardError as error:
        return Check("log in", ok=False, found=error.message)
    return Check("log in", ok=True, found=f"as viewer, round trip {took * 1000:.1f} ms")


def _clients(access: Access) -> Check:
    """Ask the broker which clients are in trouble, and which talk most."""
    try:
        with connect(access, "viewer") as link:
            told = _told(link)
    except CallboardError as error:
        return Check("clients", ok=False, found=error.message)
    if not told:
        return Check(
            "clients", ok=True, found="this broker does not tell who flaps, reads slowly or talks most"
        )
    twins = [f"{each['client']} taken over {each['takeovers']} times" for each in told.get("flapping", [])]
    slow = [
        f"{each['client']} ({each['waiting']} messages waiting, {each['dropped']} dropped)"
        for each in told.get("slow", [])
    ]
    most = [f"{each['client']} {each['rate']}/s" for each in told.get("talkers", [])[:3]]
    found = [
        f"two clients of one id: {', '.join(twins)}; give one another id" if twins else "no id used twice",
        f"slow readers: {', '.join(slow)}" if slow else "no slow readers",
        f"top talkers: {', '.join(most)}" if most else "nobody talks",
    ]
    return Check("clients", ok=not twins and not slow, found="; ".join(found))


def _told(link: Link) -> dict[str, list[dict[str, Any]]]:
    import json

    told: dict[str, list[dict[str, Any]]] = {}

    def note(message: Message) -> None:
        told[message.topic.rpartition("/")[2]] = json.loads(message.payload)

    for name in ("flapping", "slow", "talkers"):
        link.subscribe(f"$SYS/broker/callboard/{name}", note).ready.result()
    link.round_trip(5.0).result()
    return told


def _clock(runtime: Runtime | None) -> Check:
    """Compare our clock with the board's HTTP Date header, which has a resolution of one second."""
    import urllib.request
    from email.utils import parsedate_to_datetime

    now = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    if runtime is None:
        return Check("clock", ok=True, found=f"{now} (no board here to compare with)")
    try:
        with urllib.request.urlopen(f"{runtime.http.url}/healthz", timeout=2) as answer:  # noqa: S310 - our own http URL
            theirs = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (OSError, TypeError, ValueError) as error:
        return Check("clock", ok=False, found=f"{now}; the board did not tell its own: {error}")
    skew = max(0.0, abs(time.time() - theirs) - 1.0)
    return Check("clock", ok=skew <= _SKEW, found=f"{now}, {skew:.0f} s off the board's")
