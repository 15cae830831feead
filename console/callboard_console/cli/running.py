"""Runs the board's group until it is told to stop: lock, ports, processes, ``runtime.json``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from callboard_core.errors import CallboardError, NotFound
from callboard_core.runtime import hold_state, remove_runtime, write_runtime
from callboard_nodes.group import Supervisor
from callboard_nodes.group.policy import State

if TYPE_CHECKING:
    from callboard_console.cli.board_group import Plan
    from callboard_console.cli.screen import Screen
    from callboard_core.settings import Settings

__all__ = ["run"]


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

    _make_folder(settings.state)
    with hold_state(settings.state):
        remove_runtime(settings.state)
        plan = prepare(settings, with_node=with_node)
        with Screen(plan, verbose=verbose, began=began) as screen:
            asyncio.run(_run(plan, screen))


def _check_installed(*, console: bool) -> None:
    """Tell, before anything is started, that a part was left out at the installation."""
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
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    supervisor = Supervisor(plan.members, screen.report)
    supervisor.start()
    try:
        if await _ready_or_stop(supervisor, stop):
            screen.watch(lambda: _publish(plan, supervisor, screen))
            screen.ready(await asyncio.to_thread(_join_code, plan, screen))
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


def _join_code(plan: Plan, screen: Screen) -> str | None:
    """Make a join code for the first machine; a board without one is still a board."""
    from callboard_broker.engine import is_outside
    from callboard_console.cli.board_http import BoardApi
    from callboard_core.link import Credential
    from callboard_core.runtime import credential_file
    from callboard_core.settings import read_secret

    settings = plan.settings
    if not settings.lan.enabled or is_outside(settings):
        return None
    try:
        credential = Credential("operator", read_secret(credential_file(settings.state, "operator")))
        code: str = BoardApi(plan.http_url, credential).post("/api/v1/joins", {})["code"]
    except CallboardError as error:
        screen.warn(f"no join code could be made: {error.message}")
        return None
    return code


def _publish(plan: Plan, supervisor: Supervisor, screen: Screen) -> None:
    """Bring ``runtime.json`` up to date; a full disk must not stop a running board."""
    from callboard_console.cli.board_group import runtime_of

    ready = all(state is State.READY for state in supervisor.states.values())
    try:
        write_runtime(plan.settings.state, runtime_of(plan, supervisor, pid=os.getpid(), ready=ready))
    except OSError as error:
        screen.warn(f"cannot write runtime.json: {error.strerror}")
