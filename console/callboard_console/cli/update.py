"""``callboard update``: new versions for nodes, in stages; how they go, and how they went."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callboard_console.cli import options
from callboard_console.cli.board_http import open_board, path
from callboard_console.cli.context import Access
from callboard_console.cli.output import age, plain, print_json, table
from callboard_console.cli.reaching import reaching
from callboard_core.errors import BadRequest, Failed

if TYPE_CHECKING:
    from callboard_console.cli.board_http import BoardApi

__all__ = [
    "All",
    "Canary",
    "PauseOnFailures",
    "Tag",
    "Watch",
    "Within",
    "begin",
    "check_nodes",
    "share",
    "update",
]

#: The word in a node's place that asks for the past.
_HISTORY = "history"
_LOOK = 0.5
_ID = re.compile(r"[0-9a-f]{8}")
#: Ends that an exit code tells.
_BAD = {"failed", "rolled-back", "cancelled"}

Tag = Annotated[list[str] | None, typer.Option(help="All nodes with this tag (may be repeated).")]
All = Annotated[bool, typer.Option("--all", help="All nodes but the board's own.")]
Canary = Annotated[
    str, typer.Option(metavar="SHARE", help="Share of the nodes that get it first, such as 10%; 0 for none.")
]
PauseOnFailures = Annotated[
    int, typer.Option(min=0, metavar="N", help="Pause once so many have failed; 0 for never.")
]
Within = Annotated[
    float, typer.Option(min=5, max=3600, metavar="SECONDS", help="Time that a node has to get healthy.")
]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Show how it goes until it has ended.")]


@reaching
def update(
    *,
    access: Access,
    nodes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NODE]...", help="Nodes; or `history`, and a node whose past to show."),
    ] = None,
    tag: Tag = None,
    everybody: All = False,
    wheel: Annotated[
        list[Path] | None, typer.Option(help="A wheel of the new version (may be repeated).")
    ] = None,
    wheels: Annotated[
        Path | None, typer.Option(help="A folder of wheels, for several kinds of machines.")
    ] = None,
    canary: Canary = "10%",
    pause_on_failures: PauseOnFailures = 1,
    within: Within = 60,
    watch: Watch = False,
    note: Annotated[str, typer.Option(help="What is new; people read it.")] = "",
    pause: Annotated[
        str | None, typer.Option(metavar="ID", help="Give it to no further nodes for now.")
    ] = None,
    resume: Annotated[str | None, typer.Option(metavar="ID", help="Go on, also after failures.")] = None,
    cancel: Annotated[str | None, typer.Option(metavar="ID", help="Give it to no further nodes.")] = None,
    as_json: options.Json = False,
) -> None:
    """Update nodes to a new version, the canaries first; without arguments, list updates.

    A node that does not get healthy goes back to the version before by itself.

    What happened to a node: callboard update history greenhouse

    Example: callboard update --all --wheel callboard-0.2.0-py3-none-any.whl --watch
    """
    chosen = list(nodes or [])
    steered = {
        name: given for name, given in (("pause", pause), ("resume", resume), ("cancel", cancel)) if given
    }
    if chosen[:1] == [_HISTORY]:
        _history(access, chosen[1:], as_json=as_json)
    elif steered:
        _steer(access, steered, as_json=as_json)
    elif not (chosen or tag or everybody):
        _list(access, as_json=as_json)
    else:
        files = [*(wheel or []), *_in_folder(wheels)]
        with open_board(access, "operator") as api:
            from callboard_console.cli.publish import release

            check_nodes(api, chosen)
            published = release(api, files, note, within)
            wish = {"nodes": chosen, "tags": tag or [], "all": everybody}
            terms = {"canary": share(canary), "pause_on_failures": pause_on_failures}
            begin(api, published, wish, terms, watch=watch, as_json=as_json)


def check_nodes(api: BoardApi, nodes: list[str]) -> None:
    """Check that the board knows nodes, before anything is published for them.

    Raises:
        NotFound: it does not know one.
    """
    from callboard_core.topics import check_id

    for node in nodes:
        api.get(path("nodes", check_id(node, "node")))


def share(text: str) -> float:
    """Return a share such as ``10%`` or ``0.1`` as a number.

    Raises:
        BadRequest: it is none.
    """
    try:
        found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        found = -1
    if not 0 <= found <= 1:
        raise BadRequest(f"--canary {text!r} is no share; give one such as 10% or 0.1")
    return found


def begin(
    api: BoardApi,
    published: dict[str, Any],
    wish: dict[str, Any],
    terms: dict[str, Any],
    *,
    watch: bool,
    as_json: bool,
) -> None:
    """Send what was published, and if wanted wait for the end.

    Raises:
        Failed: it was watched, and a node was not well in the end, or it was paused.
    """
    found = api.post(path("updates"), {"number": published["number"], "terms": terms, **wish})
    if watch:
        found = _watched(api, found, as_json=as_json)
    if as_json:
        print_json(found)
    elif not watch:
        count = len(found["nodes"])
        to = f"{count} node{'s' * (count != 1)}"
        print(f"update {found['id']}: {_about(found)} to {to}; see `callboard update`")
    bad = [one for one in found["nodes"] if one["stage"] in _BAD]
    if watch and (bad or found["state"] == "paused"):
        raise Failed(
            f"update {found['id']} is {found['state']}: {len(bad)} of {len(found['nodes'])} nodes are not on it"
            + (f"; {bad[0]['node']}: {bad[0]['reason']}" if bad else "")
        )


def _watched(api: BoardApi, found: dict[str, Any], *, as_json: bool) -> dict[str, Any]:
    """Print every change until nothing moves any more."""
    said: dict[str, str] = {}
    while True:
        for one in found["nodes"]:
            line = _line(one)
            if said.get(one["node"]) != line and not as_json:
                print(plain(f"{one['node']}: {line}"), flush=True)
            said[one["node"]] = line
        if found["state"] != "running" and not any(
            one["stage"] in {"sent", "fetching", "installing", "trial"} for one in found["nodes"]
        ):
            break
        time.sleep(_LOOK)
        found = api.get(path("updates", found["id"]))
    if not as_json:
        print(plain(f"{found['state']}{': ' if found['reason'] else ''}{found['reason']}"))
    return found


def _line(one: dict[str, Any]) -> str:
    part = f" {one['progress']:.0%}" if one["progress"] is not None else ""
    return f"{one['stage']}{part}{': ' if one['reason'] else ''}{one['reason']}"


def _about(found: dict[str, Any]) -> str:
    return f"{found['kind']} {found['version'] or found['number']}"


def _list(access: Access, *, as_json: bool) -> None:
    with open_board(access, "viewer") as api:
        found = api.get(path("updates"))["items"]
    if as_json:
        print_json(found)
        return
    rows = [
        {
            "id": one["id"],
            "what": _about(one),
            "state": one["state"],
            "by": one["by"],
            "ago": age(time.time() - one["created"]),
            "nodes": _counts(one["nodes"]),
            "reason": one["reason"],
        }
        for one in found
    ]
    empty = "no updates yet; `callboard update --all` sends one"
    table(["id", "what", "state", "by", "ago", "nodes", "reason"], rows, empty=empty)


def _counts(nodes: list[dict[str, Any]]) -> str:
    stages = [one["stage"] for one in nodes]
    return ", ".join(f"{stages.count(stage)} {stage}" for stage in dict.fromkeys(stages))


def _history(access: Access, nodes: list[str], *, as_json: bool) -> None:
    if len(nodes) != 1:
        raise BadRequest("name one node: callboard update history NODE")
    with open_board(access, "viewer") as api:
        found = api.get(path("updates", "nodes", nodes[0]))["items"]
    if as_json:
        print_json(found)
        return
    rows = [
        {
            "when": time.strftime("%Y-%m-%d %H:%M", time.localtime(one["created"])),
            "what": _about(one),
            "stage": one["stage"],
            "version": one["running"],
            "seconds": _seconds(one),
            "by": one["by"],
            "reason": one["reason"],
        }
        for one in found
    ]
    table(["when", "what", "stage", "version", "seconds", "by", "reason"], rows, empty="no updates yet")


def _seconds(one: dict[str, Any]) -> str:
    return f"{one['ended'] - one['started']:.0f}" if one["started"] and one["ended"] else ""


def _steer(access: Access, wanted: dict[str, str], *, as_json: bool) -> None:
    for action, name in wanted.items():
        if not _ID.fullmatch(name):
            raise BadRequest(
                f"--{action} {name!r} is no update's id, as 3f2a9c01; `callboard update` lists them"
            )
    with open_board(access, "operator") as api:
        for action, name in wanted.items():
            found = api.post(path("updates", name), {"action": action})
            if as_json:
                print_json(found)
            else:
                print(f"update {name} is {found['state']}: {_counts(found['nodes'])}", file=sys.stderr)


def _in_folder(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    found = sorted(folder.glob("*.whl"))
    if not found:
        raise BadRequest(f"there are no wheels in {folder}")
    return found
