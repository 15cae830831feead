"""``callboard token``: parts of users' rights for programs that speak HTTP."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from callboard_console.cli import options
from callboard_console.cli.admin import ask
from callboard_console.cli.board_http import path
from callboard_console.cli.context import Access
from callboard_console.cli.output import age, print_json, span, table
from callboard_console.cli.reaching import reaching

__all__ = ["token"]

token = typer.Typer(
    name="token",
    help="Make, list and remove API tokens.\n\nExample: callboard token add --scope read --note grafana",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@token.command()
@reaching
def ls(
    *,
    access: Access,
    user: Annotated[str | None, typer.Option(help="Only those of this user.")] = None,
    as_json: options.Json = False,
) -> None:
    """List API tokens; never the tokens themselves.

    Example: callboard token ls
    """
    found = ask(access, "GET", path("tokens"), username=user)["items"]
    if as_json:
        print_json(found)
        return
    now = time.time()
    columns = ["id", "user", "scope", "expires", "last used", "note"]
    table(columns, [_row(one, now) for one in found], empty="no tokens; `callboard token add` makes one")


@token.command()
@reaching
def add(
    *,
    access: Access,
    scope: Annotated[list[str], typer.Option(help="read, command or admin (may be repeated).")],
    user: Annotated[str | None, typer.Option(help="Whose rights it has. [default: who asks]")] = None,
    expires: Annotated[
        str, typer.Option(help="How long it is good for, such as 12h or 90d; never: until it is removed.")
    ] = "90d",
    note: Annotated[str, typer.Option(help="What it is for.")] = "",
    as_json: options.Json = False,
) -> None:
    """Make an API token, shown this once. Send it as `Authorization: Bearer TOKEN`.

    Example: callboard token add --user viewer --scope read --expires 30d --note grafana
    """
    until = None if expires == "never" else time.time() + span(expires)
    body = {"username": user, "scope": scope, "expires": until, "note": note}
    made = ask(access, "POST", path("tokens"), body)
    if as_json:
        print_json(made)
        return
    print(f"token {made['id']} of {made['username']}, shown this once:", file=sys.stderr)
    print(made["token"])


@token.command()
@reaching
def rm(
    *,
    access: Access,
    token_id: Annotated[str, typer.Argument(metavar="ID", help="As `callboard token ls` shows it.")],
    yes: options.Yes = False,
) -> None:
    """Make an API token worthless.

    Example: callboard token rm 1a2b3c4d
    """
    options.confirm(f"Remove the token {token_id}?", yes=yes)
    ask(access, "DELETE", path("tokens", token_id))
    print(f"token {token_id} is removed")


def _row(one: dict[str, Any], now: float) -> dict[str, str]:
    left = None if one["expires"] is None else one["expires"] - now
    return {
        "id": one["id"],
        "user": one["username"],
        "scope": " ".join(one["scope"]),
        "expires": "never" if left is None else f"in {age(left)}" if left > 0 else "expired",
        "last used": "never" if one["used"] is None else f"{age(now - one['used'])} ago",
        "note": one["note"],
    }
