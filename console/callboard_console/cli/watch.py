"""``callboard watch``: values, statuses and events as they come."""

from __future__ import annotations

import fnmatch
import queue
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callboard_console.cli import options
from callboard_console.cli.context import Access, connect, read_directory
from callboard_console.cli.output import plain, print_json, value_text
from callboard_console.cli.reaching import reaching

if TYPE_CHECKING:
    from callboard_core.directory import Directory
    from callboard_core.link import Message

__all__ = ["line_of", "read_message", "wanted", "watch"]

#: Lines that may wait for a slow terminal; then the oldest are skipped.
_WAITING = 10_000


@reaching
def watch(
    *,
    access: Access,
    patterns: Annotated[
        list[str] | None,
        typer.Argument(metavar="NODE[/NAME]", help="Globs of what to watch. [default: all]"),
    ] = None,
    count: Annotated[int | None, typer.Option(metavar="N", min=1, help="Stop after N lines.")] = None,
    new: Annotated[bool, typer.Option("--new", help="Leave out what is known already.")] = False,
    as_json: options.Json = False,
) -> None:
    """Print values, statuses and events as they come, until Ctrl-C.

    Example: callboard watch 'greenhouse/temp*' pump
    """
    arrived: queue.Queue[dict[str, Any]] = queue.Queue(_WAITING)

    def take(message: Message) -> None:
        if message.retain and new:
            return
        found = read_message(message)
        if found is not None and wanted(found, patterns or []):
            if arrived.full():
                arrived.get_nowait()
            arrived.put_nowait(found)

    with connect(access, "viewer") as link, read_directory(link) as directory:
        for leaf in ("status", "state/#", "event/#"):
            link.subscribe(f"{link.site}/+/{leaf}", take, qos=0)
        _print(arrived, directory, count, as_json=as_json)


def read_message(message: Message) -> dict[str, Any] | None:
    """Return a message as one flat record, or None for one that does not parse."""
    from callboard_core.errors import CallboardError
    from callboard_core.messages import Event, Payload, State, Status, parse
    from callboard_core.topics import Address, Leaf

    models: dict[Leaf, type[Payload]] = {Leaf.STATUS: Status, Leaf.STATE: State, Leaf.EVENT: Event}
    try:
        address = Address.parse(message.topic)
        body = parse(models[address.leaf], message.payload).model_dump(mode="json", exclude_none=True)
    except (CallboardError, KeyError):
        return None
    place = {"node": address.node, "leaf": address.leaf.value}
    if address.name is not None:
        place |= {"kind": address.kind.value if address.kind else "event", "name": address.name}
    return {**place, **body}


def wanted(record: dict[str, Any], patterns: list[str]) -> bool:
    """Tell whether a record's ``node`` or ``node/name`` matches one of the globs; heartbeats have to be asked for."""
    if record["leaf"] == "event" and record.get("name") == "heartbeat":
        patterns = [one for one in patterns if "/" in one]
        return bool(patterns) and wanted({**record, "leaf": ""}, patterns)
    if not patterns:
        return True
    node, place = record["node"], f"{record['node']}/{record.get('name', '')}"
    return any(fnmatch.fnmatchcase(place if "/" in one else node, one) for one in patterns)


def line_of(record: dict[str, Any], unit: str | None = None) -> str:
    """Return a record as one line: time, place, what."""
    clock = time.strftime("%H:%M:%S", time.localtime(record["t"]))
    node = record["node"]
    match record["leaf"]:
        case "status":
            return f"{clock}  {node}  is {record['status']}"
        case "event":
            return f"{clock}  {node}  {record['name']}: {record.get('severity', '')} {record.get('message', '')}".rstrip()
        case _:
            error = record.get("error")
            what = f"error: {error['message']}" if error else value_text(record.get("v"), unit)
            return f"{clock}  {node}/{record['name']}  {what}"


def _print(
    arrived: queue.Queue[dict[str, Any]], directory: Directory, count: int | None, *, as_json: bool
) -> None:
    printed = 0
    try:
        while count is None or printed < count:
            record = arrived.get()
            if as_json:
                print_json(record, indent=None)
            else:
                print(plain(line_of(record, _unit(directory, record))), flush=True)
            printed += 1
    except KeyboardInterrupt:
        return


def _unit(directory: Directory, record: dict[str, Any]) -> str | None:
    if record["leaf"] != "state":
        return None
    found = directory.find(kind=record["kind"], node=record["node"], name=record["name"], live=None)
    return getattr(found[0].card, "unit", None) if found else None
