"""``callboard up``: the broker, the board, the console and a node of this machine, as one group of processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from callboard_console.cli import options
from callboard_core.errors import NotFound

if TYPE_CHECKING:
    from callboard_console.cli.board_group import Plan
    from callboard_console.cli.screen import Screen
    from callboard_core.settings import Settings
    from callboard_nodes.group import Supervisor

__all__ = ["up"]

_Port = typer.Option(metavar="N", min=0, max=65535, show_default=False)


def up(
    *,
    state: options.State = None,
    config: options.Config = None,
    site: options.Site = None,
    mqtt_port: Annotated[int | None, _Port] = None,
    http_port: Annotated[int | None, _Port] = None,
    console_port: Annotated[int | None, _Port] = None,
    bind: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Listen on this address, unencrypted. [default: this machine only]"
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="E", help="embedded, mosquitto, or the mqtt[s]:// URL of a broker. [default: embedded]"
        ),
    ] = None,
    database: Annotated[
        str | None, typer.Option(metavar="URL", help="SQLAlchemy URL. [default: SQLite in the state folder]")
    ] = None,
    no_console: Annotated[bool, typer.Option("--no-console", help="Do not start the web console.")] = False,
    no_node: Annotated[
        bool, typer.Option("--no-node", help="Do not read this machine's own sensors.")
    ] = False,
    node_id: Annotated[
        str | None, typer.Option(metavar="ID", help="This machine's node. [default: its name]")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the log of every process.")] = False,
) -> None:
    """Start a board on this machine and keep it running until Ctrl-C or SIGTERM.

    Example: callboard up --state ./board --mqtt-port 0 --no-console   (0 is any free port)
    """
    from callboard_console.cli.context import load

    began = time.monotonic()
    flags = {
        "state": state,
        "site": site,
        "mqtt.port": mqtt_port,
        "http.port": http_port,
        "console.port": console_port,
        "mqtt.engine": engine,
        "database.url": database,
        "console.enabled": False if no_console else None,
        "node.id": node_id,
        **{f"{section}.bind": bind for section in ("mqtt", "http", "console")},
    }
    run(load(config, flags).value, with_node=not no_node, verbose=verbose, began=began)


def run(settings: Settings, *, with_node: bool, verbose: bool, began: float) -> None:
    """Run the group until it is told to stop.

    Args:
        settings: what to run.
        with_node: also read this machine's own sensors.
        verbose: show the log of every process.
        began: monotonic time at which the user started waiting.

    Raises:
        CallboardError: it cannot be started; the message says why and what to do.
        OSError: the state folder cannot be written.
    """
    _check_installed(console=settings.console.enabled)
    from callboard_console.cli.board_group import prepare
    from callboard_console.cli.screen import Screen
    from callboard_core.runtime import hold_state, remove_runtime

    _make_folder(settings.state)
    with hold_state(settings.state):
        remove_runtime(settings.state)
        plan = prepare(settings, with_node=with_node)
        with Screen(plan, verbose=verbose, began=began) as screen:
            asyncio.run(_run(plan, screen))


def _check_installed(*, console: bool) -> None:
    """Tell, before anything is started, that a part was left out at the installation."""
    from importlib.util import find_spec

    wanted = {
        "board": ("argon2", "amqtt", "sqlalchemy", "fastapi"),
        "console": ("streamlit",) if console else (),
    }
    missing = [extra for extra, modules in wanted.items() if not all(map(find_spec, modules))]
    if missing:
        raise NotFound(f"a board needs more than a node: pip install 'callboard[{','.join(missing)}]'")


def _make_folder(state: Path) -> None:
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    if state.stat().st_mode & 0o077:
        state.chmod(0o700)


async def _run(plan: Plan, screen: Screen) -> None:
    from callboard_core.runtime import remove_runtime
    from callboard_nodes.group import Supervisor

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    supervisor = Supervisor(plan.members, screen.report)
    supervisor.start()
    try:
        if await _ready_or_stop(supervisor, stop):
            screen.watch(lambda: _publish(plan, supervisor, screen))
            screen.ready()
            await stop.wait()
    finally:
        screen.stopping()
        with contextlib.suppress(OSError):
            remove_runtime(plan.settings.state)
        await supervisor.stop()


async def _ready_or_stop(supervisor: Supervisor, stop: asyncio.Event) -> bool:
    """Wait for the group or the order to stop; True when it is ready."""
    ready = asyncio.ensure_future(supervisor.wait_ready())
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({ready, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            await ready
        return ready.done()
    finally:
        for task in (ready, stopping):
            task.cancel()
        await asyncio.gather(ready, stopping, return_exceptions=True)


def _publish(plan: Plan, supervisor: Supervisor, screen: Screen) -> None:
    """Bring ``runtime.json`` up to date; a full disk must not stop a running board."""
    from callboard_console.cli.board_group import runtime_of
    from callboard_core.runtime import write_runtime
    from callboard_nodes.group.policy import State

    ready = all(state is State.READY for state in supervisor.states.values())
    try:
        write_runtime(plan.settings.state, runtime_of(plan, supervisor, pid=os.getpid(), ready=ready))
    except OSError as error:
        screen.warn(f"cannot write runtime.json: {error.strerror}")
