"""``callboard job submit`` and ``callboard job types``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callboard_console.cli import options
from callboard_console.cli.board_http import BoardApi, open_board, path
from callboard_console.cli.context import Access
from callboard_console.cli.output import print_json, table
from callboard_console.cli.reaching import reaching
from callboard_core.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["read_settings", "submit", "types"]


@reaching
def submit(
    *,
    access: Access,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="The .blend, .pov … to render.")] = None,
    frames: Annotated[str | None, typer.Option(metavar="FRAMES", help="1-240, 3,5-10 or 1-100x2.")] = None,
    job_type: Annotated[
        str, typer.Option("--type", help="The job type; `callboard job types` shows them.")
    ] = "render",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the job type (may be repeated)."),
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(
            "--with", metavar="FILE", help="A further file it needs, e.g. a texture (may be repeated)."
        ),
    ] = None,
    shared: Annotated[
        bool,
        typer.Option(
            "--shared", help="Do not send files: every node has them in a shared folder at this path."
        ),
    ] = False,
    name: Annotated[str | None, typer.Option(help="What people read. [default: the file's name]")] = None,
    project: Annotated[
        str | None, typer.Option(help="Project (show) it belongs to; made if it is new.")
    ] = None,
    sequence: Annotated[str | None, typer.Option(help="Sequence of the project; made if it is new.")] = None,
    shot: Annotated[
        str | None, typer.Option(help="Shot of the project or sequence; made if it is new.")
    ] = None,
    owner: Annotated[str | None, typer.Option(help="Whose it is. [default: who submits it]")] = None,
    priority: Annotated[int, typer.Option(min=0, max=100, help="Higher goes first.")] = 50,
    tier: Annotated[int, typer.Option(min=0, max=9, help="0 goes before 1, whatever the priorities.")] = 1,
    tag: Annotated[list[str] | None, typer.Option(help="That a slot must have (may be repeated).")] = None,
    limit: Annotated[
        list[str] | None, typer.Option(help="A licence that each task needs (may be repeated).")
    ] = None,
    max_hosts: Annotated[
        int, typer.Option(min=0, help="Nodes that may work on it at a time; 0 for any.")
    ] = 0,
    note: Annotated[str | None, typer.Option(help="Free text.")] = None,
    hold: Annotated[bool, typer.Option("--hold", help="Wait until `callboard job resume --held`.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Stay and show how it goes.")] = False,
    as_json: options.Json = False,
) -> None:
    """Submit a job. Its files are sent, if the board has not got them; an interrupted upload goes on where it was cut.

    Example: callboard job submit shot.blend --frames 1-240 --set samples=64 --project Dune --watch
    """
    _check_files([*([file] if file else []), *(also or [])], shared=shared)
    given = {
        "name": name,
        "project": project,
        "sequence": sequence,
        "shot": shot,
        "owner": owner,
        "note": note,
    }
    request: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    request |= {"type": job_type, "priority": priority, "tier": tier, "hold": hold, "max_hosts": max_hosts}
    request |= {"tags": tag or [], "limits": limit or []}
    with open_board(access, "operator") as api:
        request["settings"] = read_settings(_schema(api, job_type), setting or [], frames)
        inputs = [*([file] if file else []), *(also or [])]
        request["inputs"] = _shared(inputs) if shared else _send(api, inputs)
        if file:
            request["main"] = request["inputs"][0]["name"]
        made = api.post(path("jobs"), request)
    if as_json and not watch:
        print_json(made)
    elif not as_json:
        print(f"job {made['job']}: {made['name']}, {sum(made['frames'].values())} frames", flush=True)
    if watch:
        from callboard_console.cli.job_watch import follow

        follow(access, [made["job"]], as_json=as_json)


@reaching
def types(*, access: Access, as_json: options.Json = False) -> None:
    """List the job types with their settings; also what is wrong with those that cannot be used.

    Example: callboard job types
    """
    with open_board(access, "viewer") as api:
        found = api.get(path("jobtypes"))
    if as_json:
        print_json(found)
        return
    rows = [
        {
            "type": one["name"],
            "what": one["label"],
            "settings": " ".join(one["settings"].get("properties", {})),
        }
        for one in found["items"]
    ]
    table(["type", "what", "settings"], rows, empty="no job types")
    for name, wrong in found["broken"].items():
        print(f"{name} cannot be used: {wrong}", file=sys.stderr)


def read_settings(schema: dict[str, Any], pairs: Sequence[str], frames: str | None) -> dict[str, Any]:
    """Return settings as the job type's schema wants them.

    Raises:
        BadRequest: one is unknown, wrong or not of the form KEY=VALUE.
    """
    from callboard_console.cli.call import read_checked, split_arguments

    given = split_arguments(list(pairs))
    if frames is not None:
        given["frames"] = [frames]
    known = schema.get("properties", {})
    unknown = next((key for key in given if key not in known), None)
    if unknown is not None:
        raise BadRequest(f"{unknown!r} is no setting of this job type; it has {', '.join(known)}")
    return read_checked(schema, given)


def _schema(api: BoardApi, job_type: str) -> dict[str, Any]:
    found = api.get(path("jobtypes"))
    name = job_type.replace("_", "-")
    for one in found["items"]:
        if one["name"] == name:
            return dict(one["settings"])
    if name in found["broken"]:
        raise BadRequest(f"job type {name!r} cannot be used: {found['broken'][name]}")
    raise NotFound(
        f"job type {name!r} is unknown; there are {', '.join(one['name'] for one in found['items'])}"
    )


def _check_files(files: list[Path], *, shared: bool) -> None:
    names = [file.name for file in files]
    double = next((one for one in names if names.count(one) > 1), None)
    if double is not None:
        raise BadRequest(f"two files are called {double!r}; a job's files need names of their own")
    missing = next((file for file in files if not shared and not file.is_file()), None)
    if missing is not None:
        raise NotFound(f"there is no file {missing}")


def _shared(files: list[Path]) -> list[dict[str, Any]]:
    # A path that begins with a {variable} is for the nodes to complete.
    return [
        {"name": one.name, "path": str(one if str(one).startswith("{") else one.absolute())} for one in files
    ]


def _send(api: BoardApi, files: list[Path]) -> list[dict[str, Any]]:
    from callboard_console.cli.transfers import Transfers

    with api.artifacts() as store, Transfers("sending") as shown:
        inputs = []
        for file in files:
            try:
                ref = store.put_file(file, progress=shown.of(file.name))
            except KeyboardInterrupt:
                print("interrupted; submit it again and the upload goes on where it was cut", file=sys.stderr)
                raise typer.Exit(1) from None
            inputs.append({"name": file.name, "artifact": ref.model_dump()})
    return inputs
