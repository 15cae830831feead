"""``callboard backup`` and ``callboard restore``: a board as one file, and a board made from one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callboard_console.cli import options
from callboard_console.cli.context import load
from callboard_console.cli.output import print_json

if TYPE_CHECKING:
    from callboard_broker.backup.manifest import Manifest

__all__ = ["backup", "restore"]

File = Annotated[Path, typer.Argument(metavar="FILE", show_default=False)]


def backup(
    *,
    file: File,
    without_artifacts: Annotated[
        bool, typer.Option("--without-artifacts", help="Leave out the artifacts, which may be large.")
    ] = False,
    state: options.State = None,
    config: options.Config = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Replace FILE if it is there.")] = False,
    as_json: options.Json = False,
) -> None:
    """Back up this machine's board, also while it runs. The file holds its keys and passwords: keep it safe.

    Example: callboard backup /mnt/usb/board-$(date +%F).zip
    """
    from callboard_console.cli.transfers import Transfers

    settings = load(config, {"state": state}).value
    check_board_is_installed()
    from callboard_broker.backup import back_up
    from callboard_broker.backup.making import in_force

    with Transfers("backing up") as bars:
        made = back_up(
            in_force(settings),
            file,
            artifacts=not without_artifacts,
            replace=yes,
            progress=bars.of(str(settings.state)),
        )
    if as_json:
        print_json(_told(made, file=str(file)))
        return
    if made.engine == "external":
        print(
            "the broker is not ours: its retained messages and sessions are not in the backup",
            file=sys.stderr,
        )
    print(
        f"{file} holds {len(made.parts)} parts, {made.size / 1e6:.1f} MB; it opens this board to whoever has it"
    )


def restore(
    *,
    file: File,
    state: options.State = None,
    config: options.Config = None,
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Put the data into this database. [default: SQLite in the state folder]"
        ),
    ] = None,
    yes: Annotated[
        bool,
        typer.Option("--yes", "-y", help="Put aside what is in the state folder, and replace the database."),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Make a board from a backup, on this host or a new one. Nothing is touched before all of it was checked.

    Example: callboard restore board-2026-11-30.zip --state /var/lib/callboard
    """
    from callboard_console.cli.transfers import Transfers

    settings = load(config, {"state": state}).value
    check_board_is_installed()
    from callboard_broker.backup import restore as put_back

    with Transfers("restoring") as bars:
        done = put_back(
            file, settings.state, database=database or "", replace=yes, progress=bars.of(str(settings.state))
        )
    if as_json:
        print_json(
            _told(done.manifest, state=str(settings.state), settings=str(done.settings), before=done.before)
        )
        return
    if done.before is not None:
        print(f"what was there is in {done.before} now", file=sys.stderr)
    print(f"restored; start it with: callboard up --state {settings.state} --config {done.settings}")


def check_board_is_installed() -> None:
    """Tell in one line that the board's packages are missing.

    Raises:
        NotFound: they are.
    """
    from importlib.util import find_spec

    from callboard_core.errors import NotFound

    if not all(map(find_spec, ("argon2", "sqlalchemy", "alembic", "tomli_w"))):
        raise NotFound("a board needs more than a node: pip install 'callboard[board]'")


def _told(manifest: Manifest, **more: Any) -> dict[str, Any]:
    told = manifest.model_dump(exclude={"parts"})
    return {**told, "parts": len(manifest.parts), "size": manifest.size, **more}
