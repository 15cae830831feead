"""``callboard ls``: what is in the directory, with last values."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callboard_console.cli import options
from callboard_console.cli.context import Access, connect, read_directory
from callboard_console.cli.output import age, print_json, table, value_text
from callboard_console.cli.reaching import reaching
from callboard_console.cli.workers import COLUMNS, Ear, shown_rows, worker_rows

if TYPE_CHECKING:
    from callboard_core.directory import Directory, Entry, NodeEntry
    from callboard_core.link import Link, Message
    from callboard_core.messages import State

__all__ = ["Listed", "ls", "node_rows", "thing_rows"]

#: Seconds for the retained values to arrive.
_VALUES_TIMEOUT = 10.0


class Listed(StrEnum):
    """What can be listed; the kinds of cards, in the plural."""

    NODES = "nodes"
    SENSORS = "sensors"
    CONTROLS = "controls"
    ACTIONS = "actions"
    WORKERS = "workers"
    SLOTS = "slots"
    LOOPS = "loops"
    CAMERAS = "cameras"
    ALL = "all"

    @property
    def kind(self) -> str | None:
        """The cards' kind; None for all."""
        return None if self is Listed.ALL else self.value.removesuffix("s")


@reaching
def ls(
    *,
    access: Access,
    what: Annotated[Listed, typer.Argument(help="What to list.", show_default=True)] = Listed.NODES,
    node: Annotated[str | None, typer.Option(metavar="ID", help="Only of this node.")] = None,
    name: Annotated[str | None, typer.Option(metavar="GLOB", help="Only things of this name.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only with this tag (may be repeated).")] = None,
    live: Annotated[bool, typer.Option("--live", help="Only of nodes that are alive.")] = False,
    as_json: options.Json = False,
) -> None:
    """List nodes, or the sensors, controls, actions … that they offer.

    For workers it listens for a few seconds to what the nodes tell of their calls.

    Example: callboard ls sensors --name 'cpu*' --json
    """
    with connect(access, "viewer") as link, read_directory(link) as directory:
        ear = Ear(link) if what is Listed.WORKERS else None
        entries = directory.find(
            kind=what.kind, node=node, name=name, tags=tag or (), live=True if live else None
        )
        if what is Listed.NODES:
            rows = node_rows(directory, entries, unfiltered=not (node or name or tag or live))
        elif ear is not None:
            ear.listen(entries)
            rows = worker_rows(ear.services(entries))
        else:
            rows = thing_rows(entries, read_states(link))
    if as_json:
        print_json(rows)
    elif what is Listed.NODES:
        shown = [
            {**row, "since": age(time.time() - row["since"]), "tags": " ".join(row["tags"])} for row in rows
        ]
        table(
            ["node", "status", "since", "things", "label", "tags"],
            shown,
            empty="no nodes yet; start `callboard node`",
        )
    elif what is Listed.WORKERS:
        table(COLUMNS, shown_rows(rows), empty="no workers match")
    else:
        _show_things(what, rows)


def node_rows(directory: Directory, entries: list[Entry], *, unfiltered: bool) -> list[dict[str, Any]]:
    """Return one row per node; a node of which only the status is known counts when nothing is filtered."""
    ids = {entry.node for entry in entries}
    nodes = [node for node in directory.nodes() if node.id in ids or (unfiltered and node.status is not None)]
    return [_node_row(directory, node) for node in sorted(nodes, key=lambda node: node.id)]


def _node_row(directory: Directory, node: NodeEntry) -> dict[str, Any]:
    things = [entry for entry in directory.find(node=node.id, live=None) if entry.kind is not None]
    return {
        "node": node.id,
        "status": node.status.status.value if node.status else "unknown",
        "live": node.live,
        # Everything is news to a program that has just started; the node's own word is nearer the truth.
        "since": node.status.t if node.status else node.since,
        "epoch": node.status.epoch if node.status else None,
        "things": len(things),
        "label": (node.card.label if node.card else None) or "",
        "tags": node.card.tags if node.card else [],
        "version": node.card.version if node.card else None,
    }


def thing_rows(entries: list[Entry], states: dict[tuple[str, str, str], State]) -> list[dict[str, Any]]:
    """Return one row per thing, with its last value where it has one."""
    rows = []
    for entry in sorted(entries, key=lambda entry: (entry.node, entry.kind or "", entry.name)):
        last = states.get((entry.node, entry.kind or "", entry.name))
        rows.append(
            {
                "node": entry.node,
                "kind": entry.kind.value if entry.kind else "node",
                "name": entry.name,
                "label": entry.card.label or "",
                "value": last.v if last else None,
                "unit": getattr(entry.card, "unit", None),
                "t": last.t if last else None,
                "level": last.level.value if last and last.level else None,
                "error": last.error.message if last and last.error else None,
                "live": entry.live,
                "tags": entry.card.tags,
            }
        )
    return rows


def read_states(link: Link) -> dict[tuple[str, str, str], State]:
    """Return the retained state of every thing, by node, kind and name; what does not parse is left out."""
    from callboard_core.errors import CallboardError
    from callboard_core.messages import State, parse
    from callboard_core.topics import Address, every_state

    found: dict[tuple[str, str, str], State] = {}

    def take(message: Message) -> None:
        try:
            address = Address.parse(message.topic)
            found[address.node, address.kind or "", address.name or ""] = parse(State, message.payload)
        except CallboardError:
            return

    subscription = link.subscribe(every_state(link.site), take, qos=0)
    subscription.ready.result(_VALUES_TIMEOUT)
    link.round_trip(_VALUES_TIMEOUT).result()
    return found


def _show_things(what: Listed, rows: list[dict[str, Any]]) -> None:
    shown = [
        {
            **row,
            "value": f"error: {row['error']}" if row["error"] else value_text(row["value"], row["unit"]),
            "age": age(time.time() - row["t"]) if row["t"] else "-",
            "alive": "yes" if row["live"] else "no",
        }
        for row in rows
    ]
    columns = ["node", "kind", "name", "value", "age", "alive", "label"]
    table(columns, shown, empty=f"no {what.value if what is not Listed.ALL else 'things'} match")
