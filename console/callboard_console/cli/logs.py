"""``callboard logs`` and ``callboard diagnose``: what a node's agent says, and what the doctor says there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from callboard_console.cli import options
from callboard_console.cli.context import Access, connect
from callboard_console.cli.output import plain, print_json, table
from callboard_console.cli.reaching import reaching
from callboard_core.errors import NotFound, TimedOut, Unavailable

if TYPE_CHECKING:
    from callboard_core.link import Link

__all__ = ["diagnose", "logs"]

#: Seconds that a node may take to answer; and that it may wait for a new line.
_ANSWER, _WAIT, _DIAGNOSIS = 10.0, 20.0, 65.0

Node = Annotated[str, typer.Argument(metavar="NODE")]


@reaching
def logs(
    *,
    access: Access,
    node: Node,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=2000, help="The newest so many.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones until Ctrl-C.")] = False,
) -> None:
    """Print the last lines of a node's log.

    Example: callboard logs greenhouse --follow
    """
    with connect(access, "operator") as link:
        found = _ask(link, node, "log", _ANSWER, lines=lines)
        _print(found)
        while follow:
            try:
                found = _ask(link, node, "log", _WAIT + _ANSWER, lines=2000, after=found["next"], wait=_WAIT)
            except (TimedOut, Unavailable):
                continue  # it is away; it goes on when it is there again
            _print(found)


@reaching
def diagnose(*, access: Access, node: Node, as_json: options.Json = False) -> None:
    """Have a node look at itself, as `callboard doctor` does on that machine.

    Example: callboard diagnose greenhouse
    """
    with connect(access, "operator") as link:
        found = _ask(link, node, "diagnose", _DIAGNOSIS)
    if as_json:
        print_json(found)
        return
    rows = [{**one, "ok": "ok" if one["ok"] else "LOOK"} for one in found["checks"]]
    table(["ok", "what", "found"], rows, empty="nothing checked")
    if not all(one["ok"] for one in found["checks"]):
        raise typer.Exit(1)


def _ask(link: Link, node: str, action: str, timeout: float, **args: Any) -> Any:
    from callboard_core.topics import Address, Kind, Leaf, check_id

    address = Address(link.site, check_id(node, "node"), Leaf.COMMAND, Kind.ACTION, action)
    try:
        return link.call(address, args, timeout=timeout).result()
    except NotFound:
        raise NotFound(
            f"node {node} does not offer {action}: its node.allow does not name it, or it is no `callboard node`"
        ) from None
    except TimedOut as error:
        raise TimedOut(f"{error.message}; look whether it is there (`callboard ls nodes`)") from None


def _print(found: Any) -> None:
    for line in found["lines"]:
        print(plain(line), flush=True)
