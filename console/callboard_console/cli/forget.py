"""``callboard forget``: remove everything retained of a node that is gone for good."""

from __future__ import annotations

from typing import Annotated

import typer

from callboard_console.cli import options
from callboard_console.cli.context import Access, connect, read_directory
from callboard_console.cli.output import print_json
from callboard_console.cli.reaching import reaching
from callboard_core.errors import Conflict, NotFound

__all__ = ["forget"]


@reaching
def forget(
    *,
    access: Access,
    node: Annotated[str, typer.Argument(metavar="NODE")],
    yes: options.Yes = False,
    timeout: options.Timeout = 30.0,
    as_json: options.Json = False,
) -> None:
    """Forget a node: its cards, its last values, its place in the board's lists, its credential. Its history is kept.

    Example: callboard forget old-pi --yes
    """
    from callboard_core.topics import BOARD, Address, Kind, Leaf, check_id

    check_id(node, "node")
    with connect(access, "operator") as link, read_directory(link) as directory:
        known = directory.node(node)
        if known is None:
            names = ", ".join(sorted(one.id for one in directory.nodes())) or "none"
            raise NotFound(f"there is no node {node!r}; known are {names}")
        if known.live:
            raise Conflict(f"{node} is alive and would come back at once; stop it first")
        options.confirm(f"Forget {node} and all it has announced?", yes=yes)
        address = Address(link.site, BOARD, Leaf.COMMAND, Kind.WORKER, "forget")
        result = link.call(address, {"node": node}, timeout=timeout).result()
    if as_json:
        print_json(result)
    else:
        print(f"{node} is forgotten")
