"""``callboard node --install`` and ``--uninstall``: this machine's node as a service of systemd, or not any more."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from callboard_core.errors import BadRequest, Failed

__all__ = ["check_options", "install_node", "uninstall_node"]

#: Options that mean something to these only.
_INSTALLING, _REMOVING = ("--wheels", "--python", "--extra"), ("--keep-state",)
#: What an installed node has from its settings file, if at all.
_RUNNING = ("FILE", "--module", "--state", "--config", "--username", "--password-file", "--join-file")


def check_options(given: Mapping[str, object], *, install: bool, uninstall: bool) -> None:
    """Check that options go together, so that none is left out without a word.

    Args:
        given: what was given, by the option's name; nothing of it counts that is empty.
        install: whether ``--install`` was.
        uninstall: whether ``--uninstall`` was.

    Raises:
        BadRequest: they do not.
    """
    if install and uninstall:
        raise BadRequest("--install and --uninstall are opposites; give one of them")
    for name in (name for name, value in given.items() if value):
        if name in _INSTALLING and not install:
            raise BadRequest(f"{name} is for --install; add that, or leave {name} out")
        if name in _REMOVING and not uninstall:
            raise BadRequest(f"{name} is for --uninstall; add that, or leave {name} out")
        if name in _RUNNING and install:
            raise BadRequest(
                f"--install takes no {name}; the installed node has its settings from "
                "/etc/callboard/callboard.toml: write them there"
            )


def install_node(
    *,
    root: Path,
    settings: Mapping[str, Any],
    called: Mapping[str, str],
    join: str | None,
    wheels: Path | None,
    python: Path | None,
    extras: list[str],
) -> None:
    """Install the node, and say how it went.

    Args:
        root: where; usually ``/``.
        settings: as options say, by their keys; None for those not given.
        called: the options' names, by the settings' keys.
        join: a join code, or ``-`` to read it from standard input.
        wheels: a folder to install from.
        python: the interpreter to install for.
        extras: of the distribution.

    Raises:
        BadRequest: the join code is none, or something does not fit.
        CallboardError: it could not be installed.
    """
    from callboard_core.trust import JoinCode
    from callboard_nodes.install.layout import Layout
    from callboard_nodes.install.setup import Plan, install

    code = None
    if join is not None:
        code = JoinCode.parse(sys.stdin.read() if join == "-" else join).text
    layout = Layout(root.resolve())
    plan = Plan(
        layout=layout,
        settings={key: value for key, value in settings.items() if value is not None},
        called=called,
        join=code,
        wheels=wheels.resolve() if wheels else None,
        python=python,
        extras=tuple(extras),
    )
    try:
        done = install(plan, lambda step: print(f"{step} …", file=sys.stderr))
    except OSError as error:
        raise Failed(
            f"{error.filename or layout.root} cannot be written: {error.strerror or error}; free some room, or look at what "
            "is there (with --root, under that folder)"
        ) from None
    print(f"callboard {done.version} is installed in {layout.home / done.slot}")
    for left in done.left:
        print(f"not done: {left}", file=sys.stderr)
    if done.started:
        print("callboard-node runs; `journalctl -u callboard-node -f` shows what it does")


def uninstall_node(*, root: Path, keep_state: bool, yes: bool) -> None:
    """Take the node away.

    Raises:
        BadRequest: no node is installed.
        CallboardError: it could not be taken away.
    """
    from callboard_nodes.install.layout import Layout
    from callboard_nodes.install.setup import uninstall

    layout = Layout(root.resolve())
    lost = "" if keep_state else f", and everything in {layout.state}, also who it is to the board"
    if not yes and not typer.confirm(f"Remove the node under {layout.root}{lost}?"):
        raise typer.Exit(1)
    uninstall(layout, keep_state=keep_state, say=lambda step: print(f"{step} …", file=sys.stderr))
    print("the node is removed")
