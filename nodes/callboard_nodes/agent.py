"""The agent: what ``callboard node`` runs. One node with this machine's sensors, actions and declared hardware."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

from callboard_core.errors import BadRequest
from callboard_core.settings import Settings
from callboard_nodes import hardware, power, sensors
from callboard_nodes.hands import LOG, Hands
from callboard_nodes.hosting import until_signal
from callboard_nodes.install.layout import INSTALLED, Layout
from callboard_nodes.node import Node
from callboard_nodes.running import Part, Running
from callboard_nodes.things import Sensor, sensor

__all__ = ["make_agent", "run_agent"]

#: Seconds between the answer to ``restart`` and the restart, so that the answer gets out.
_GRACE = 0.2


def run_agent(
    settings: Settings, *, modules: Iterable[Path] = (), ready: Callable[[], object] = lambda: None
) -> None:
    """Run the agent until SIGTERM or Ctrl-C.

    Args:
        settings: the board, the credential, and what the agent offers.
        modules: Python files with a function ``setup(node)`` that adds things to the agent's node.
        ready: called once, when the node is on the board for the first time.

    Raises:
        BadRequest: a hardware table or a module is wrong; the message names it.
        CallboardError: the node cannot run; the message says why and what to do.
    """
    _listen_to_log()
    if asyncio.run(_run(settings, list(modules), ready)):
        power.restart_process()


def _listen_to_log() -> None:
    """Keep what the agent says for those who ask for it, and say the rest where it was said before.

    That is standard error: warnings only, unless systemd's journal takes them.
    """
    if not logging.getLogger().handlers:
        installed = bool(os.environ.get(INSTALLED))
        stream = logging.StreamHandler(sys.stderr)
        stream.setLevel(logging.INFO if installed else logging.WARNING)
        stream.setFormatter(
            logging.Formatter("%(levelname)s %(name)s: %(message)s" if installed else "%(message)s")
        )
        logging.getLogger().addHandler(stream)
    for name in ("callboard", "callboard_core", "callboard_nodes"):
        ours = logging.getLogger(name)
        ours.setLevel(logging.INFO)
        if LOG not in ours.handlers:
            ours.addHandler(LOG)


async def _run(settings: Settings, modules: list[Path], ready: Callable[[], object]) -> bool:
    """Run the agent; return whether it is to be started again."""
    loop, restart = asyncio.get_running_loop(), asyncio.Event()
    node = make_agent(
        settings,
        modules=modules,
        restart=lambda: loop.call_soon_threadsafe(loop.call_later, _GRACE, restart.set),  # type: ignore[arg-type]  # a handle nobody needs
    )
    serving = asyncio.create_task(until_signal(node.serve(ready=ready)))
    asked = asyncio.create_task(restart.wait())
    await asyncio.wait({serving, asked}, return_when=asyncio.FIRST_COMPLETED)
    again = asked.done() and not serving.done()
    asked.cancel()
    if again:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
    else:
        await serving
    return again


def make_agent(settings: Settings, *, modules: Iterable[Path] = (), restart: Callable[[], None]) -> Node:
    """Return the agent's node, ready to run.

    Args:
        settings: see :func:`run_agent`.
        modules: see :func:`run_agent`.
        restart: begins to restart the agent, and returns at once.

    Raises:
        BadRequest: a hardware table or a module is wrong; the message names it.
    """
    mine = settings.node
    node = Node(mine.id, label=mine.label, tags=mine.tags, settings=settings)
    if mine.builtin_sensors:
        node.add(*sensors.builtin(), _waiting(node))
    installed = os.environ.get(INSTALLED)
    order_file = Layout(Path(installed)).power if installed else None
    node.add(*power.actions(mine.allow, node=mine.id, restart=restart, order_file=order_file))
    node.add(*hardware.things(settings.sensors, settings.controls))
    if mine.farm.slots != "none":
        node.extend(lambda running: _slots(running, settings))
    node.extend(lambda running: Hands(running, settings))
    if installed and {"update", "push"} & set(mine.allow):
        node.extend(lambda running: _intake(running, settings, Layout(Path(installed))))
    for module in modules:
        _set_up(node, module)
    return node


def _slots(running: Running, settings: Settings) -> Part:
    from callboard_nodes.slots.bank import Bank  # noqa: PLC0415 - only for who has slots

    return Bank(running, settings, settings.node.state)


def _intake(running: Running, settings: Settings, layout: Layout) -> Part:
    from callboard_nodes.update.intake import Intake  # noqa: PLC0415 - only for who is installed

    return Intake(running, settings, layout)


def _waiting(node: Node) -> Sensor:
    return sensor(
        lambda: node.backlog,
        name="outbox",
        label="Unsent readings",
        every=5,
        minimum=0,
        deadband=0,
        description="readings held back because the board is away",
        tags=["system"],
    )


def _set_up(node: Node, file: Path) -> None:
    setup = getattr(_load(file), "setup", None)
    if not callable(setup):
        raise BadRequest(
            f"module {file} has no function setup(node); a file with a Node of its own is run with "
            f"`callboard node {file}`"
        )
    setup(node)


def _load(file: Path) -> ModuleType:
    if not file.is_file():
        raise BadRequest(f"there is no module {file}; name a Python file")
    name = f"callboard_module_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise BadRequest(f"module {file} is no Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
