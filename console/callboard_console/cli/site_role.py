"""``callboard role``: what users of a role may do over MQTT and HTTP."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from callboard_console.cli import options
from callboard_console.cli.admin import ask
from callboard_console.cli.board_http import path
from callboard_console.cli.context import Access
from callboard_console.cli.output import print_json, table
from callboard_console.cli.reaching import reaching

__all__ = ["role"]

role = typer.Typer(
    name="role",
    help="Show, add and remove roles.\n\nExample: callboard role ls",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The role's name.")]


@role.command()
@reaching
def ls(*, access: Access, as_json: options.Json = False) -> None:
    """List roles.

    Example: callboard role ls
    """
    found = ask(access, "GET", path("roles"))["items"]
    if as_json:
        print_json(found)
        return
    rows = [
        {
            "name": one["name"],
            "publish": " ".join(one["publish"]),
            "subscribe": " ".join(one["subscribe"]),
            "http": " ".join(one["http"]) or "-",
            "note": "built in" if one["built_in"] else one["note"],
        }
        for one in found
    ]
    table(["name", "publish", "subscribe", "http", "note"], rows, empty="no roles")


@role.command()
@reaching
def show(*, access: Access, name: Name, as_json: options.Json = False) -> None:
    """Show what a role may do.

    Example: callboard role show operator
    """
    found: dict[str, Any] = ask(access, "GET", path("roles", name))
    if as_json:
        print_json(found)
        return
    for part in ("publish", "never", "subscribe", "http"):
        for one in found[part]:
            print(f"{part}\t{one}")
    if found["note"]:
        print(f"note\t{found['note']}")


@role.command()
@reaching
def add(
    *,
    access: Access,
    name: Name,
    publish: Annotated[
        list[str] | None,
        typer.Option(help="Topics it may publish to, with {site}, {client} and {user} (may be repeated)."),
    ] = None,
    subscribe: Annotated[
        list[str] | None, typer.Option(help="Topics whose messages it may receive (may be repeated).")
    ] = None,
    never: Annotated[
        list[str] | None, typer.Option(help="Topics taken away from --publish (may be repeated).")
    ] = None,
    http: Annotated[
        list[str] | None, typer.Option(help="read, command or admin, each with those before it.")
    ] = None,
    note: Annotated[str, typer.Option(help="What it is for.")] = "",
    as_json: options.Json = False,
) -> None:
    """Add a role, or replace one; its users' sessions end within 5 seconds and they connect anew.

    Example: callboard role add gardener --publish '{site}/pump/command/#' --subscribe '{site}/#' --http read
    """
    rule = {
        "publish": publish or [],
        "subscribe": subscribe or [],
        "never": never or [],
        "http": http or [],
        "note": note,
    }
    made = ask(access, "PUT", path("roles", name), rule)
    if as_json:
        print_json(made)
    else:
        print(f"role {name} is kept; give it to somebody with `callboard user role NAME {name}`")


@role.command()
@reaching
def rm(*, access: Access, name: Name, yes: options.Yes = False) -> None:
    """Remove a role that nobody has.

    Example: callboard role rm gardener
    """
    options.confirm(f"Remove the role {name}?", yes=yes)
    ask(access, "DELETE", path("roles", name))
    print(f"role {name} is removed")
