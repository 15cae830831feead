"""``callboard trust``: the authority by which machines know the board, and its replacement."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from callboard_console.cli import options
from callboard_console.cli.context import Access
from callboard_console.cli.output import print_json
from callboard_console.cli.reaching import reaching
from callboard_core.errors import Conflict

__all__ = ["trust"]

trust = typer.Typer(
    name="trust",
    help="Show and replace the authority by which machines know this board.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

#: Names that are shown of those that have not renewed.
_NAMED = 20


@trust.command()
@reaching
def show(*, access: Access, as_json: options.Json = False) -> None:
    """Show the authority in force, and the nodes that have not renewed during a rotation.

    Example: callboard trust show
    """
    from callboard_console.cli.board_http import open_board

    with open_board(access, "viewer") as board:
        _print(board.get("/api/v1/trust"), as_json=as_json)


@trust.command()
def pin(
    where: Annotated[
        str,
        typer.Argument(
            metavar="CODE|HOST[:PORT]", help="A join code, which stays good, or where HTTPS answers."
        ),
    ],
    *,
    fingerprint: Annotated[
        str,
        typer.Option(
            metavar="HEX", help="Of its authority, as `trust show` prints it there; not with a code."
        ),
    ] = "",
    state: options.State = None,
    config: options.Config = None,
) -> None:
    """Know a board on another machine by its authority: later commands here talk to it, encrypted, and to nobody else.

    Example: callboard trust pin 192.168.1.10 --fingerprint 3f0c…
    """
    from callboard_console.cli.context import load
    from callboard_console.cli.known import fetch, keep

    folder = load(config, {"state": state}).value.state
    known = fetch(where, fingerprint)
    kept = keep(folder, known)
    print(f"the board of site {known.site} at {known.url()} is known by its authority ({kept})")
    print("log in with --username and --password-file, or CALLBOARD_USERNAME and CALLBOARD_PASSWORD_FILE")


@trust.command()
@reaching
def rotate(
    *,
    access: Access,
    finish: Annotated[
        bool, typer.Option("--finish", help="End the rotation: trust the old authority no more.")
    ] = False,
    give_up: Annotated[
        bool,
        typer.Option(
            "--give-up", help="With --finish: also if nodes have not renewed; those have to join again."
        ),
    ] = False,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Replace the authority. Nodes renew by themselves, those that are off when they are back; then finish it.

    --yes spares the question where nobody is lost; nodes that have not renewed are given up only with --give-up.

    Example: callboard trust rotate --yes   and, once `callboard trust show` names no node: callboard trust rotate --finish
    """
    from callboard_console.cli.board_http import open_board

    with open_board(access, "admin") as board:
        found = board.get("/api/v1/trust")
        late = found["not_renewed"] if finish else []
        if late and not give_up:
            raise Conflict(_lost(late))
        options.confirm(_question(late, finish=finish), yes=yes)
        if yes and late:
            print(f"given up: {', '.join(late)}", file=sys.stderr)
        if finish:
            found = board.post("/api/v1/trust/finish", {"force": give_up})
        else:
            found = board.post("/api/v1/trust/rotate", {})
    _print(found, as_json=as_json)


def _lost(late: list[str]) -> str:
    return (
        f"not renewed yet, {len(late)} in all: {', '.join(late)}; switch them on and wait until `callboard trust show` "
        "names none, or add --give-up: they then have to join again"
    )


def _question(late: list[str], *, finish: bool) -> str:
    if not finish:
        return (
            "Replace the authority? Nodes renew by themselves. Whoever was given its certificate (browsers, other MQTT "
            "clients) needs the new one before you finish"
        )
    if not late:
        return "Trust the old authority no more? Every node has renewed"
    return (
        f"Trust the old authority no more? These have not renewed and have to join again: {', '.join(late)}"
    )


def _names(nodes: list[str]) -> str:
    return ", ".join(nodes[:_NAMED]) + (f" and {len(nodes) - _NAMED} more" if len(nodes) > _NAMED else "")


def _print(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    print(f"authority   {found['fingerprint']}")
    print(f"valid until {time.strftime('%Y-%m-%d', time.gmtime(found['ends']))}")
    print(f"update key  {found['update_key']}")
    if found["old"] is not None:
        print(f"replaces    {found['old']}  (still trusted; end that with `callboard trust rotate --finish`)")
        print(f"not renewed {_names(found['not_renewed']) or 'none: every node has renewed'}")
