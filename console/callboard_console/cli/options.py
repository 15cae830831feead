"""Options that several verbs share, spelled and explained once, and the question that ``--yes`` spares."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "BoardUrl",
    "Config",
    "Json",
    "PasswordFile",
    "Site",
    "State",
    "Timeout",
    "Username",
    "Yes",
    "confirm",
]

#: The same names as in callboard_core.settings.model, which is too slow to import up here.
USERNAME_VARIABLE = "CALLBOARD_USERNAME"
PASSWORD_FILE_VARIABLE = "CALLBOARD_PASSWORD_FILE"  # noqa: S105 - its name

State = Annotated[
    Path | None,
    typer.Option(
        help="State folder. [default: $CALLBOARD_STATE or ~/.local/state/callboard]", show_default=False
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        help="Settings file (TOML). [default: $CALLBOARD_CONFIG or ~/.config/callboard/callboard.toml]",
        show_default=False,
    ),
]
Site = Annotated[
    str | None, typer.Option(help="Site id, the first level of every topic. [default: callboard]")
]
BoardUrl = Annotated[
    str | None,
    typer.Option("--board", metavar="URL", help="The board, as mqtt://host:port. [default: found by itself]"),
]
Username = Annotated[
    str | None, typer.Option(help="Log in as this user.", envvar=USERNAME_VARIABLE, show_envvar=True)
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        help="File whose first line is the password.", envvar=PASSWORD_FILE_VARIABLE, show_envvar=True
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the answer.")]


def confirm(question: str, *, yes: bool) -> None:
    """Go on only if the person agrees, or has said so with ``--yes``.

    Raises:
        typer.Abort: they do not.
    """
    if not yes:
        typer.confirm(question, abort=True, err=True)
