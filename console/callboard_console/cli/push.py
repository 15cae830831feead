"""``callboard push``: files and configurations for nodes, signed, and undone where a node does not get healthy."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callboard_console.cli import options
from callboard_console.cli.board_http import open_board
from callboard_console.cli.context import Access
from callboard_console.cli.publish import publish, send_files
from callboard_console.cli.reaching import reaching
from callboard_console.cli.update import (
    All,
    Canary,
    PauseOnFailures,
    Tag,
    Watch,
    Within,
    begin,
    check_nodes,
    share,
)
from callboard_core.errors import BadRequest

if TYPE_CHECKING:
    from callboard_console.cli.board_http import BoardApi

__all__ = ["push"]


@reaching
def push(
    *,
    access: Access,
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NODE] FILE...", help="The node, and files; only files with --tag or --all."),
    ] = None,
    tag: Tag = None,
    everybody: All = False,
    to: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Where on the node. [default: files in its state folder]"),
    ] = None,
    settings_file: Annotated[
        Path | None,
        typer.Option(
            "--settings", metavar="FILE", help="A configuration that takes the place of the node's own."
        ),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Start the node anew with the files; undo them if it gets sick.")
    ] = False,
    canary: Canary = "10%",
    pause_on_failures: PauseOnFailures = 1,
    within: Within = 60,
    watch: Watch = False,
    note: Annotated[str, typer.Option(help="Why; people read it.")] = "",
    as_json: options.Json = False,
) -> None:
    """Push files to nodes, or a new configuration (--settings), which is checked before it is taken.

    A configuration with which a node does not get healthy is undone by the node itself.

    Example: callboard push greenhouse pumps.py --to /srv/callboard --restart --watch
    """
    given = list(what or [])
    nodes = [] if tag or everybody else given[:1]
    files = [Path(name) for name in given[len(nodes) :]]
    if not nodes and not (tag or everybody):
        raise BadRequest("name a node, a tag (--tag) or all nodes (--all)")
    if bool(files) == (settings_file is not None):
        after = f" after the node {nodes[0]}" if nodes else ""
        raise BadRequest(f"name files{after}, or one configuration with --settings")
    with open_board(access, "operator") as api:
        check_nodes(api, nodes)
        if settings_file is not None:
            published = _configuration(api, settings_file, nodes=nodes, note=note, within=within)
        else:
            targets = {file: f"{to.rstrip('/')}/{file.name}" for file in files} if to is not None else None
            sent = send_files(api, files, targets)
            published = publish(api, "files", sent, nodes=nodes, restart=restart, note=note, within=within)
        wish = {"nodes": nodes, "tags": tag or [], "all": everybody}
        terms = {"canary": share(canary), "pause_on_failures": pause_on_failures}
        begin(api, published, wish, terms, watch=watch, as_json=as_json)


def _configuration(api: BoardApi, file: Path, **more: Any) -> dict[str, Any]:
    """Publish a configuration that can be read."""
    from callboard_core.settings import load_settings

    load_settings(file=file, env={})
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "callboard.toml"
        copy.write_bytes(file.read_bytes())
        return publish(api, "config", send_files(api, [copy]), **more)
