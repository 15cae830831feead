"""``callboard node``: this machine as a node, or a node of your own from a Python file."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from callboard_console.cli import options
from callboard_console.cli.context import Access, check_own, given_credential, load
from callboard_console.cli.enrolling import is_enrolled, join_first, site_joined
from callboard_console.cli.installing import check_options, install_node, uninstall_node
from callboard_core.errors import BadRequest

if TYPE_CHECKING:
    from callboard_core.settings import Settings

__all__ = ["CALLED", "node"]

#: Options of the node that installing it writes into its settings.
_KEPT = ("node.board", "node.id", "node.label", "node.tags", "node.keepalive", "node.farm.slots")
#: What people type for each setting here.
CALLED = {
    "site": "--site",
    "node.board": "--board",
    "node.id": "--id",
    "node.label": "--label",
    "node.tags": "--tag",
    "node.keepalive": "--keepalive",
    "node.farm.slots": "--slots",
    "node.join_file": "--join-file",
}


def node(
    *,
    file: Annotated[
        Path | None, typer.Argument(help="A Python file that runs a Node. [default: this machine's sensors]")
    ] = None,
    state: options.State = None,
    config: options.Config = None,
    site: options.Site = None,
    board: options.BoardUrl = None,
    username: options.Username = None,
    password_file: options.PasswordFile = None,
    node_id: Annotated[
        str | None,
        typer.Option("--id", "--node-id", metavar="ID", help="Node id. [default: this machine's name]"),
    ] = None,
    label: Annotated[str | None, typer.Option(help="What people read.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag to find it by (may be repeated).")] = None,
    module: Annotated[
        list[Path] | None,
        typer.Option(help="A Python file with setup(node) that adds things (may be repeated)."),
    ] = None,
    keepalive: Annotated[
        int | None, typer.Option(metavar="SECONDS", help="Lost after 1.5 times this. [default: 10]")
    ] = None,
    slots: Annotated[
        str | None,
        typer.Option(
            metavar="ENGINE=N,…", help="Render slots to offer. [default: one for each engine found]"
        ),
    ] = None,
    no_slots: Annotated[bool, typer.Option("--no-slots", help="Offer no render slots.")] = False,
    join: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="A code from `callboard join`; - reads it from standard input."),
    ] = None,
    join_file: Annotated[
        Path | None,
        typer.Option(help="A file with such a code, for machines that nobody watches; emptied once used."),
    ] = None,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            "-y",
            help="With --join: leave the board that was joined before. With --uninstall: do not ask.",
        ),
    ] = False,
    install: Annotated[
        bool, typer.Option("--install", help="Install the node as a service of this machine, and start it.")
    ] = False,
    uninstall: Annotated[bool, typer.Option("--uninstall", help="Stop and remove that service.")] = False,
    keep_state: Annotated[
        bool, typer.Option("--keep-state", help="With --uninstall: keep who the node is, and its readings.")
    ] = False,
    root: Annotated[
        Path, typer.Option(metavar="DIR", help="With --install: under this folder instead of /.")
    ] = Path("/"),
    wheels: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --install: install from these wheels.")
    ] = None,
    python: Annotated[
        Path | None, typer.Option(help="With --install: the interpreter. [default: the system's]")
    ] = None,
    extra: Annotated[
        list[str] | None, typer.Option(help="With --install: also what is optional, such as pi.")
    ] = None,
) -> None:
    """Run this machine as a node of a board until Ctrl-C or SIGTERM; --join lets it in, once.

    A render node: callboard node --slots blender=2,povray=1 --tag gpu

    As a service: sudo callboard node --install --join CB2-…

    Example: callboard node --id greenhouse --join CB2-…
    """
    flags = {
        "state": state,
        "site": site,
        "node.board": board,
        "node.id": node_id,
        "node.label": label,
        "node.tags": tag or None,
        "node.keepalive": keepalive,
        "node.farm.slots": "none" if no_slots else slots,
        "node.join_file": join_file,
    }
    given: dict[str, object] = {"FILE": file, "--state": state, "--config": config, "--module": module}
    given |= {"--username": username, "--password-file": password_file, "--join-file": join_file}
    given |= {"--wheels": wheels, "--python": python, "--extra": extra, "--keep-state": keep_state}
    check_options(given, install=install, uninstall=uninstall)
    if slots is not None:
        _check_slots(slots)
    if uninstall:
        uninstall_node(root=root, keep_state=keep_state, yes=yes)
        return
    if install:
        install_node(
            root=root,
            settings={name: flags[name] for name in ("site", *_KEPT)},
            called=CALLED,
            join=join,
            wheels=wheels,
            python=python,
            extras=extra or [],
        )
        return
    settings = load(config, flags, CALLED).value
    if join is not None:
        if file is not None and node_id is None:
            raise BadRequest(f"--join needs to know which node {file} is; name it with --id")
        settings = join_first(settings, join, site=site, leave=yes)
    access = Access(username=username, password_file=password_file)
    asked = username is not None or password_file is not None
    if asked or not is_enrolled(settings, any_node=file is not None):
        settings = with_credential(settings, access)
    if file is not None:
        run_file(file, settings, config)
    else:
        run_here(settings, module or [])


def _check_slots(text: str) -> None:
    """Check what ``--slots`` says.

    Raises:
        BadRequest: it cannot be read, or names no engine.
    """
    from callboard_nodes.slots.configured import plans

    try:
        plans(text, [], lambda _engine: False)
    except BadRequest as error:
        raise BadRequest(f"--{error.message}") from None


def with_credential(settings: Settings, access: Access) -> Settings:
    """Return the settings with what to log in with, as options or settings say.

    Otherwise the node takes the password of this machine's board itself, once it knows whether that board is
    the one that it found.

    Raises:
        NotFound: there is no password.
        BadRequest: a password file cannot be read.
    """
    asked = access.username is not None or access.password_file is not None
    if not asked and (settings.node.password is not None or settings.node.password_file is not None):
        return settings
    credential = given_credential(access, settings, "node")
    update: dict[str, str] = {}
    if credential is not None:
        update = {"username": credential.username, "password": credential.password}
    else:
        check_own(settings, access.username or "node")
        if access.username is not None:
            update = {"username": access.username}
    return settings.model_copy(update={"node": settings.node.model_copy(update=update)})


def run_here(settings: Settings, modules: list[Path]) -> None:
    """Read this machine's own sensors until stopped."""
    from callboard_nodes.agent import run_agent

    run_agent(settings, modules=modules, ready=lambda: say_ready(settings))


def say_ready(settings: Settings) -> None:
    """Print the line that tells people and programs that the node is on the board."""
    site = site_joined(settings) or settings.site
    print(f"ready: node {settings.node.id} is on the board of site {site}", flush=True)


def run_file(file: Path, settings: Settings, config: Path | None) -> None:
    """Run a node of the user's own; it gets board and credential through the environment.

    Raises:
        NotFound: there is no such file.
    """
    import runpy

    from callboard_core.errors import NotFound

    if not file.is_file():
        raise NotFound(f"there is no file {file}; name a Python file that makes a Node and calls its run()")
    chosen = settings.node
    for key in ("board", "username", "password", "join_file"):
        value = getattr(chosen, key)
        if value:
            os.environ[f"CALLBOARD_NODE_{key.upper()}"] = str(value)
    os.environ |= {"CALLBOARD_SITE": settings.site, "CALLBOARD_STATE": str(settings.state)}
    if config is not None:
        os.environ["CALLBOARD_CONFIG"] = str(config)
    sys.argv = [str(file)]
    sys.path.insert(0, str(file.resolve().parent))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    runpy.run_path(str(file), run_name="__main__")
