"""What can be done to the machine a node runs on: restart the agent, reboot, shut down. Only what is allowed is offered."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from callboard_core.errors import Failed
from callboard_core.runtime import write_private
from callboard_nodes.things import Action, action

__all__ = ["actions", "restart_process"]

#: What to ask, per action.
_QUESTIONS = {
    "restart": "Restart the agent of {node}?",
    "reboot": "Reboot {node}? It is away for a minute.",
    "shutdown": "Shut {node} down? Somebody has to switch it on again.",
}
#: systemd's verb, and the arguments of the older program.
_COMMANDS = {"reboot": ("reboot", "-r"), "shutdown": ("poweroff", "-h")}
#: Seconds for the system to accept the order.
_TIMEOUT = 20.0

Runner = Callable[[list[str]], None]


def actions(
    allowed: Iterable[str],
    *,
    node: str,
    restart: Callable[[], None],
    run: Runner | None = None,
    order_file: Path | None = None,
) -> list[Action]:
    """Return the actions that are allowed.

    Args:
        allowed: of ``restart``, ``reboot`` and ``shutdown``.
        node: the node's id, for the questions.
        restart: begins to restart the agent, and returns at once.
        run: runs a command to its end; by default for real.
        order_file: where root's helper of an installed node looks for orders; a node without rights leaves them there.
    """

    def order(name: str) -> None:
        if order_file is not None:
            _leave(order_file, name)
        else:
            (run or _run)(_command(name))

    deeds: dict[str, Callable[[], str]] = {
        "restart": lambda: _say(restart, "the agent restarts"),
        "reboot": lambda: _say(lambda: order("reboot"), "the machine reboots"),
        "shutdown": lambda: _say(lambda: order("shutdown"), "the machine shuts down"),
    }
    wanted = set(allowed)
    return [
        action(deeds[name], name=name, confirm=question.format(node=node), tags=["system"])
        for name, question in _QUESTIONS.items()
        if name in wanted
    ]


def restart_process() -> None:
    """Start this program again in the same process, with the same arguments; does not return."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own command line


def _leave(file: Path, name: str) -> None:
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(file, name)
    except OSError as error:
        raise Failed(f"the order cannot be left in {file}: {error.strerror}") from None


def _say(deed: Callable[[], None], done: str) -> str:
    deed()
    return done


def _command(name: str) -> list[str]:
    verb, flag = _COMMANDS[name]
    return ["systemctl", verb] if shutil.which("systemctl") else ["shutdown", flag, "now"]


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=True)
    except subprocess.CalledProcessError as error:
        raise Failed(f"{' '.join(command)}: {error.stderr.strip() or error}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{' '.join(command)}: {error}") from None
