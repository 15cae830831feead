"""``callboard export``: what this machine's board knows, in the forms of other programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from callboard_console.cli import options
from callboard_console.cli.context import load
from callboard_core.errors import BadRequest, NotFound

__all__ = ["export"]

export = typer.Typer(
    name="export",
    help="Write what the board knows in the forms of other programs.\n\nExample: callboard export acl --for mosquitto",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@export.callback()
def _root() -> None:
    """Keep the verb, although there is one only."""


@export.command()
def acl(
    *,
    broker: Annotated[str, typer.Option("--for", metavar="BROKER", help="mosquitto or emqx.")],
    out: Annotated[Path, typer.Option(help="Folder to write to; made if it is not there.")] = Path(
        "callboard-acl"
    ),
    state: options.State = None,
    config: options.Config = None,
    site: options.Site = None,
) -> None:
    """Write users and rules for another broker, from this machine's state folder. The files hold password hashes.

    Example: callboard export acl --for mosquitto --out /etc/mosquitto/callboard
    """
    from callboard_broker.access import Users, users_file
    from callboard_broker.access.exports import for_emqx, for_mosquitto
    from callboard_core.runtime import write_private

    writers = {"mosquitto": for_mosquitto, "emqx": for_emqx}
    if broker not in writers:
        raise BadRequest(f"--for {broker}: expected one of {', '.join(writers)}")
    settings = load(config, {"state": state, "site": site}).value
    file = users_file(settings.state)
    if not file.exists():
        raise NotFound(
            f"there are no users in {settings.state}; run this where the board runs, or name its --state"
        )
    users = Users(file)
    made = writers[broker](settings.site, users.enabled(), users.roles.find, users.mosquitto_hashes())
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, text in made.files.items():
        write_private(out / name, text)
        print(out / name)
    for note in made.notes:
        print(f"note: {note}", file=sys.stderr)
