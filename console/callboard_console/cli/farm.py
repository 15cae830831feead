"""``callboard farm``: the slots and what they do; draining, disabling and enabling them."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from callboard_console.cli import options
from callboard_console.cli.board_http import open_board, path
from callboard_console.cli.call import split_target
from callboard_console.cli.context import Access
from callboard_console.cli.farm_text import left, slot_row
from callboard_console.cli.output import print_json, table
from callboard_console.cli.reaching import reaching

__all__ = ["farm"]

farm = typer.Typer(
    name="farm",
    help="Show render slots and what they do; drain, disable and enable them.\n\nExample: callboard farm ls",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Targets = Annotated[
    list[str], typer.Argument(metavar="NODE[/SLOT]", help="A node with all its slots, or one slot.")
]
Note = Annotated[str, typer.Option(help="Why; people read it.")]


@farm.command()
@reaching
def ls(*, access: Access, as_json: options.Json = False) -> None:
    """List slots and what they do now, and how the farm goes.

    Example: callboard farm ls
    """
    with open_board(access, "viewer") as api:
        found = api.get(path("farm"))
    if as_json:
        print_json(found)
        return
    columns = ["slot", "engine", "state", "job", "frame", "progress", "eta", "takes no work", "note", "tags"]
    table(
        columns,
        [slot_row(one) for one in found["slots"]],
        empty="no slots; start `callboard node` with an engine",
    )
    print(summary(found), file=sys.stderr)
    if found["problem"]:
        print(f"nothing can be written: {found['problem']}", file=sys.stderr)


@farm.command()
@reaching
def drain(*, access: Access, slots: Targets, note: Note = "", as_json: options.Json = False) -> None:
    """Let slots finish what they do, then give them nothing more.

    Example: callboard farm drain render-1 --note "new graphics card"
    """
    _act(access, slots, "drain", note, as_json=as_json)


@farm.command()
@reaching
def disable(*, access: Access, slots: Targets, note: Note = "", as_json: options.Json = False) -> None:
    """Stop slots at once; what they do goes elsewhere.

    Example: callboard farm disable render-1/blender-2
    """
    _act(access, slots, "disable", note, as_json=as_json)


@farm.command()
@reaching
def enable(*, access: Access, slots: Targets, note: Note = "", as_json: options.Json = False) -> None:
    """Give slots work again.

    Example: callboard farm enable render-1
    """
    _act(access, slots, "enable", note, as_json=as_json)


def summary(found: dict[str, Any]) -> str:
    """Return how the farm goes, in one line."""
    jobs = ", ".join(f"{count} {state}" for state, count in found["jobs"].items() if count) or "none"
    waiting = sum(found["frames"][state] for state in ("waiting", "assigned", "rendering"))
    eta = "" if found["eta"] is None or not waiting else f", {left(found['eta'])} left"
    return f"jobs: {jobs}; {waiting} frames to do at {found['frames_per_minute']:.1f} a minute{eta}"


def _act(access: Access, targets: list[str], do: str, note: str, *, as_json: bool) -> None:
    from callboard_core.topics import check_id

    with open_board(access, "operator") as api:
        count = 0
        single = [list(split_target(one)) for one in targets if "/" in one]
        filters: list[dict[str, Any]] = [{"slots": single}] if single else []
        filters += [{"node": check_id(one, "node")} for one in targets if "/" not in one]
        for chosen in filters:
            count += api.post(path("farm", "slots", "act"), {"filter": chosen, "do": do, "note": note})[
                "count"
            ]
    if as_json:
        print_json({"count": count})
    else:
        print(f"{count} slot{'' if count == 1 else 's'} changed")
