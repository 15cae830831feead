"""``callboard user``: who may log in, with which role; new passwords; disabling and removing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from callboard_console.cli import options
from callboard_console.cli.admin import ask
from callboard_console.cli.board_http import path
from callboard_console.cli.context import Access
from callboard_console.cli.output import print_json, table
from callboard_console.cli.reaching import reaching

__all__ = ["user"]

user = typer.Typer(
    name="user",
    help="Add, change and remove users.\n\nExample: callboard user add ann --role operator",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]
Role = Annotated[str, typer.Option(help="viewer, operator, node, admin, or one of `callboard role ls`.")]
Ask = Annotated[bool, typer.Option("--ask", help="Ask for the password instead of making one.")]
NewPassword = Annotated[
    Path | None, typer.Option("--new-password-file", help="File whose first line is the user's password.")
]

KeepTokens = Annotated[
    bool, typer.Option("--keep-tokens", help="Let its API tokens stay, which would end otherwise.")
]


@user.command()
@reaching
def ls(*, access: Access, as_json: options.Json = False) -> None:
    """List users.

    Example: callboard user ls
    """
    found = ask(access, "GET", path("users"))["items"]
    if as_json:
        print_json(found)
        return
    rows = [
        {
            "name": one["name"],
            "role": one["role"],
            "http": " ".join(one["rights"]) or "-",
            "client id": one["client_id"] or "any",
            "certificate": one["certificate"][:16] or "-",
            "state": "disabled" if one["disabled"] else "enabled",
        }
        for one in found
    ]
    table(["name", "role", "http", "client id", "certificate", "state"], rows, empty="no users")


@user.command()
@reaching
def add(
    *,
    access: Access,
    name: Name,
    role: Role = "viewer",
    client_id: Annotated[str, typer.Option(help="Bind it to this MQTT client id.")] = "",
    ask_for_it: Ask = False,
    new_password_file: NewPassword = None,
    as_json: options.Json = False,
) -> None:
    """Add a user; the password that is made for it is shown this once.

    Example: callboard user add ann --role operator
    """
    body = {"name": name, "role": role, "client_id": client_id}
    body |= _password(typed=ask_for_it, file=new_password_file)
    made = ask(access, "POST", path("users"), body)
    _show(made, f"user {name} is added with the role {made['user']['role']}", as_json=as_json)


@user.command()
@reaching
def passwd(
    *,
    access: Access,
    name: Name,
    ask_for_it: Ask = False,
    new_password_file: NewPassword = None,
    keep_tokens: KeepTokens = False,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Give a user a new password, shown this once; its sessions end within 5 seconds, and its API tokens.

    Example: callboard user passwd ann --ask
    """
    given = _password(typed=ask_for_it, file=new_password_file)
    what = "sessions" if keep_tokens else "sessions and API tokens"
    options.confirm(f"End all {what} of {name} and replace its password?", yes=yes)
    made = ask(access, "POST", path("users", name, "password"), {**given, "keep_tokens": keep_tokens})
    told = _tokens(made, keep=keep_tokens)
    _show(made, f"user {name} has a new password; {told}", as_json=as_json)


@user.command()
@reaching
def role(
    *, access: Access, name: Name, new: Annotated[str, typer.Argument(metavar="ROLE", help="Its new role.")]
) -> None:
    """Give a user another role; its sessions end within 5 seconds.

    Example: callboard user role ann viewer
    """
    _change(access, name, {"role": new}, f"user {name} has the role {new}")


@user.command()
@reaching
def disable(*, access: Access, name: Name, keep_tokens: KeepTokens = False, yes: options.Yes = False) -> None:
    """Let a user in no more; its sessions end within 5 seconds, and its API tokens.

    Tokens that are kept are refused until the user is enabled again.

    Example: callboard user disable ann
    """
    what = "sessions" if keep_tokens else "sessions and API tokens"
    options.confirm(f"Disable {name} and end all its {what}?", yes=yes)
    change = {"disabled": True, "keep_tokens": keep_tokens}
    made = ask(access, "PATCH", path("users", name), change)
    print(f"user {name} is disabled; {_tokens(made, keep=keep_tokens)}")


@user.command()
@reaching
def enable(*, access: Access, name: Name) -> None:
    """Let a disabled user in again.

    Example: callboard user enable ann
    """
    _change(access, name, {"disabled": False}, f"user {name} is enabled")


@user.command()
@reaching
def rm(*, access: Access, name: Name, yes: options.Yes = False) -> None:
    """Remove a user with all its tokens; its sessions end within 5 seconds.

    Example: callboard user rm ann
    """
    options.confirm(f"Remove user {name} and all its tokens?", yes=yes)
    ask(access, "DELETE", path("users", name))
    print(f"user {name} is removed")


def _change(access: Access, name: str, change: dict[str, Any], done: str) -> None:
    ask(access, "PATCH", path("users", name), change)
    print(done)


def _tokens(made: dict[str, Any], *, keep: bool) -> str:
    """What became of a user's API tokens, as people read it."""
    ended = made.get("tokens_ended")
    if keep or ended is None:  # an older board leaves them
        return "its API tokens stay"
    return f"{ended} of its API tokens ended (--keep-tokens keeps them)" if ended else "it had no API tokens"


def _password(*, typed: bool, file: Path | None) -> dict[str, str]:
    """What was given as the new password; never on the command line, where other users can read it."""
    if file is not None:
        from callboard_core.settings import read_secret

        return {"password": read_secret(file)}
    if typed:
        return {"password": typer.prompt("New password", hide_input=True, confirmation_prompt=True, err=True)}
    return {}


def _show(made: dict[str, Any], done: str, *, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    print(done, file=sys.stderr if made["password"] else sys.stdout)
    if made["password"]:
        print("its password, shown this once:", file=sys.stderr)
        print(made["password"])
