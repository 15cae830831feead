"""``callboard status``: whether the board of this machine is up, and how each of its processes is."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callboard_console.cli import options
from callboard_console.cli.context import Access, elsewhere, find_board
from callboard_console.cli.encrypted import Seen, look
from callboard_console.cli.output import age, print_json, table
from callboard_console.cli.reaching import reaching
from callboard_core.errors import CallboardError, NotFound

if TYPE_CHECKING:
    from pathlib import Path

    from callboard_console.cli.known import Known
    from callboard_core.link import Endpoint
    from callboard_core.runtime import Runtime
    from callboard_core.settings import Settings

__all__ = ["connects", "probe", "status"]

#: Seconds between two looks while waiting.
_EVERY = 0.1
#: Seconds each part has to answer.
_ANSWER = 2.0


@reaching
def status(
    *,
    access: Access,
    wait: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0, help="Wait this long for it to be ready.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Say how the board of this machine is, or the one that it knows elsewhere. Exit code 0 when it is ready.

    Example: callboard status --wait 30 && echo it is up
    """
    settings = access.settings()
    deadline = time.monotonic() + (wait or 0.0)
    known = elsewhere(settings)
    if known is not None:
        _elsewhere(settings, known, deadline, as_json=as_json)
        return
    if access.board is not None:
        raise NotFound(
            f"{access.board} is not known by its authority; pin it first (`callboard trust pin`), or ask on its machine"
        )
    runtime, answers = _look(settings.state)
    while not _good(runtime, answers) and time.monotonic() < deadline:
        time.sleep(_EVERY)
        runtime, answers = _look(settings.state)
    _show(settings.state, runtime, answers, as_json=as_json)
    if not _good(runtime, answers):
        raise typer.Exit(1)


def _elsewhere(settings: Settings, known: Known, deadline: float, *, as_json: bool) -> None:
    """Say how a board on another machine is: whether it proves itself, and is well."""
    mqtts = find_board(settings)
    answers = _ask(known, mqtts)
    while set(answers.values()) != {"ok"} and time.monotonic() < deadline:
        time.sleep(_EVERY)
        answers = _ask(known, mqtts)
    ready = set(answers.values()) == {"ok"}
    if as_json:
        where = {"mqtts": str(mqtts), "https": known.url(mqtts.host)}
        print_json({"site": known.site, **where, "ready": ready, "answers": answers})
    else:
        word = "ready" if ready else "not ready"
        typer.echo(f"{word}: site {known.site}, {mqtts}, {known.url(mqtts.host)}, known by its authority")
        for part, answer in answers.items():
            if answer != "ok":
                typer.echo(f"{part}: {answer}", err=True)
    if not ready:
        raise typer.Exit(1)


def _ask(known: Known, mqtts: Endpoint) -> dict[str, str]:
    from callboard_console.cli.encrypted import handshake
    from callboard_core.addresses import join_address
    from callboard_nodes.enrolment import Peer

    context = known.context()
    seen = handshake("mqtts", (mqtts.host, mqtts.port), context)
    try:
        Peer(join_address(mqtts.host, known.http_port), context).get("/healthz")
    except CallboardError as error:
        return {"mqtts": _of(seen), "https": error.message}
    return {"mqtts": _of(seen), "https": "ok"}


def probe(runtime: Runtime) -> dict[str, str]:
    """Ask each part of a board for a sign of life; returns ``ok`` or what is wrong, by part."""
    answers = {
        "mqtt": connects(runtime.mqtt.host, runtime.mqtt.port),
        "http": _answers(f"{runtime.http.url}/healthz"),
    }
    if runtime.console is not None:
        answers["console"] = _answers(runtime.console.url)
    if runtime.lan is not None:
        answers |= {seen.part: _of(seen) for seen in look(runtime.lan)}
    return answers


def _of(seen: Seen) -> str:
    return f"{seen.at}: {seen.fault}" if seen.fault else "ok"


def _look(folder: Path) -> tuple[Runtime | None, dict[str, str]]:
    from callboard_core.runtime import read_runtime

    runtime = read_runtime(folder)
    return runtime, probe(runtime) if runtime is not None and runtime.ready else {}


def _good(runtime: Runtime | None, answers: dict[str, str]) -> bool:
    return runtime is not None and runtime.ready and all(answer == "ok" for answer in answers.values())


def _show(folder: Path, runtime: Runtime | None, answers: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        told: dict[str, Any] = {} if runtime is None else json.loads(runtime.model_dump_json())
        print_json(
            {"running": runtime is not None, **told, "ready": _good(runtime, answers), "answers": answers}
        )
        return
    if runtime is None:
        from callboard_core.runtime import is_held

        doing = "is starting" if is_held(folder) else "does not run; start it with `callboard up`"
        typer.echo(f"the board on {folder} {doing}", err=True)
        return
    word = "ready" if _good(runtime, answers) else "not ready"
    typer.echo(
        f"{word}: site {runtime.site}, {runtime.mqtt.url} ({runtime.engine}), up {age(time.time() - runtime.started)}"
    )
    rows = [
        {"role": name, "state": role.state, "pid": role.pid or "-", "restarts": role.restarts}
        for name, role in runtime.roles.items()
    ]
    table(["role", "state", "pid", "restarts"], rows, empty="no roles")
    for part, answer in answers.items():
        if answer != "ok":
            typer.echo(f"{part}: {answer}", err=True)


def connects(host: str, port: int) -> str:
    """Return ``ok`` if somebody listens there, else what is wrong."""
    import socket

    try:
        socket.create_connection((host, port), timeout=_ANSWER).close()
    except OSError as error:
        return f"{host}:{port}: {error.strerror or error}"
    return "ok"


def _answers(url: str) -> str:
    import urllib.error
    import urllib.request

    try:
        # A board on this machine is never behind a proxy.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=_ANSWER):
            return "ok"
    except urllib.error.HTTPError as error:
        return "ok" if error.code < 500 else f"{url}: HTTP {error.code}"  # noqa: PLR2004 - the server's own fault
    except OSError as error:
        return f"{url}: {getattr(error, 'reason', error)}"
