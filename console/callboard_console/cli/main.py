"""The ``callboard`` command: its verbs, and how errors become one line and an exit code.

Nothing heavy is imported up here: ``callboard --help`` and shell completion must answer at once.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from callboard_console.cli.audit import audit
from callboard_console.cli.backup import backup, restore
from callboard_console.cli.call import call, set_control
from callboard_console.cli.doctor import doctor
from callboard_console.cli.export import export
from callboard_console.cli.failures import describe, trace
from callboard_console.cli.farm import farm
from callboard_console.cli.flash import flash
from callboard_console.cli.forget import forget
from callboard_console.cli.job import job
from callboard_console.cli.join import join
from callboard_console.cli.logs import diagnose, logs
from callboard_console.cli.ls import ls
from callboard_console.cli.network import network
from callboard_console.cli.node import node
from callboard_console.cli.project import project
from callboard_console.cli.push import push
from callboard_console.cli.site_role import role
from callboard_console.cli.status import status
from callboard_console.cli.token import token
from callboard_console.cli.trust import trust
from callboard_console.cli.up import up
from callboard_console.cli.update import update
from callboard_console.cli.user import user
from callboard_console.cli.watch import watch
from callboard_core.errors import CallboardError

__all__ = ["app", "main"]

app = typer.Typer(
    name="callboard",
    help="Run a board, join nodes to it, and look at and steer them.",
    epilog="Example: callboard up   (Ctrl-C stops it)",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Plain help: loading rich for it costs as much time again.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"callboard {version('callboard')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    del version


for _verb in (
    up,
    node,
    flash,
    status,
    ls,
    network,
    watch,
    call,
    forget,
    audit,
    backup,
    restore,
    doctor,
    update,
    push,
    logs,
    diagnose,
):
    app.command()(_verb)
for _group in (join, job, farm, project, trust, user, role, token, export):
    app.add_typer(_group)
# A negative number is a value, not an option.
app.command("set", context_settings={"ignore_unknown_options": True})(set_control)


def main() -> None:
    """Run the command line; exit code 0 done, 1 failed, 2 wrong usage."""
    try:
        app()
    except (CallboardError, OSError) as error:
        line, code = describe(error)
        print(f"{trace(error)}callboard: {line}", file=sys.stderr)
        sys.exit(code)


if __name__ == "__main__":
    main()
