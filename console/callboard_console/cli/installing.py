"""``callboard node --install`` and ``--uninstall``: this machine's node as a service of systemd, or not any more."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

__all__ = ["install_node", "uninstall_node"]


def install_node(
    *,
    root: Path,
    settings: dict[str, Any],
    site: str | None,
    join: str | None,
    wheels: Path | None,
    python: Path | None,
    extras: list[str],
) -> None:
    """Install the node, and say how it went.

    Args:
        root: where; usually ``/``.
        settings: of the node, as its options say.
        site: as its option says.
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
        settings=settings,
        site=site,
        join=code,
        wheels=wheels.resolve() if wheels else None,
        python=python,
        extras=tuple(extras),
    )
    done = install(plan, lambda step: print(f"{step} …", file=sys.stderr))
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
