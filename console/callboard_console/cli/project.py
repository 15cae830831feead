"""``callboard project``: projects (shows), their sequences and shots."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from callboard_console.cli import options
from callboard_console.cli.board_http import BoardApi, open_board, path
from callboard_console.cli.context import Access
from callboard_console.cli.output import print_json, table
from callboard_console.cli.reaching import reaching
from callboard_core.errors import NotFound

__all__ = ["project"]

project = typer.Typer(
    name="project",
    help="Show and make projects (shows), their sequences and shots.\n\nExample: callboard project ls",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_KINDS = ("project", "sequence", "shot")
Place = Annotated[
    str, typer.Argument(metavar="PROJECT[/SEQUENCE][/SHOT]", help="Names, or the id that `project ls` shows.")
]
Note = Annotated[str | None, typer.Option(help="Free text.")]
Owner = Annotated[str | None, typer.Option(help="Whose it is. [default: who makes it]")]


@project.command()
@reaching
def ls(*, access: Access, as_json: options.Json = False) -> None:
    """List projects, sequences and shots with their jobs and frames.

    Example: callboard project ls
    """
    with open_board(access, "viewer") as api:
        found = _all(api)
    if as_json:
        print_json(found)
        return
    rows = [
        {
            **one,
            "name": "/".join(names),
            "frames": f"{one['frames']['done']}/{sum(one['frames'].values())}",
            "tags": " ".join(one["tags"]),
        }
        for names, one in sorted(_paths(found).items())
    ]
    columns = ["id", "kind", "name", "jobs", "frames", "owner", "note", "tags"]
    table(columns, rows, empty="no projects; `callboard project create NAME` makes one")


@project.command()
@reaching
def create(
    *,
    access: Access,
    place: Annotated[
        str, typer.Argument(metavar="PROJECT[/SEQUENCE/SHOT]", help="Names; all but the last must be there.")
    ],
    shot: Annotated[bool, typer.Option("--shot", help="PROJECT/NAME is a shot without a sequence.")] = False,
    note: Note = None,
    owner: Owner = None,
    as_json: options.Json = False,
) -> None:
    """Make a project, a sequence of it or a shot.

    Example: callboard project create Dune/sq10/010 --note "sand"
    """
    *above, name = place.split("/")
    kind = "shot" if shot else _KINDS[min(len(above), 2)]
    with open_board(access, "operator") as api:
        new: dict[str, Any] = {"kind": kind, "name": name}
        if above:
            new["parent"] = _find(_all(api), "/".join(above))["id"]
        new |= {key: value for key, value in (("note", note), ("owner", owner)) if value is not None}
        made = api.post(path("projects"), new)
    if as_json:
        print_json(made)
    else:
        print(f"{made['kind']} {made['name']} has the id {made['id']}")


@project.command()
@reaching
def change(
    *,
    access: Access,
    place: Place,
    name: Annotated[str | None, typer.Option(help="Its new name.")] = None,
    note: Note = None,
    owner: Annotated[str | None, typer.Option(help="Whose it is from now on.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A word to find it by (may be repeated).")] = None,
    as_json: options.Json = False,
) -> None:
    """Change the name, note, owner or tags of a project, sequence or shot.

    Example: callboard project change Dune --owner ann
    """
    given = {"name": name, "note": note, "owner": owner, "tags": tag}
    with open_board(access, "operator") as api:
        found = _find(_all(api), place)
        values = {key: value for key, value in given.items() if value is not None}
        changed = api.send("PATCH", path("projects", found["id"]), values)
    if as_json:
        print_json(changed)
    else:
        print(f"{changed['kind']} {changed['name']} is changed")


@project.command()
@reaching
def delete(*, access: Access, place: Place, yes: options.Yes = False) -> None:
    """Delete a project, sequence or shot that holds nothing.

    Example: callboard project delete Dune/sq10 --yes
    """
    with open_board(access, "operator") as api:
        found = _find(_all(api), place)
        options.confirm(f"Delete {found['kind']} {found['name']}?", yes=yes)
        api.send("DELETE", path("projects", found["id"]))
    print(f"{found['kind']} {found['name']} is deleted")


def _all(api: BoardApi) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(path("projects"))["items"]
    return found


def _paths(places: list[dict[str, Any]]) -> dict[tuple[str, ...], dict[str, Any]]:
    """Places by the names that lead to them."""
    by_id = {one["id"]: one for one in places}

    def names(one: dict[str, Any]) -> tuple[str, ...]:
        above = by_id.get(one["parent"])
        return (*(names(above) if above else ()), one["name"])

    return {names(one): one for one in places}


def _find(places: list[dict[str, Any]], wanted: str) -> dict[str, Any]:
    """Return a place by id, or by its path of names.

    Raises:
        NotFound: there is none.
    """
    if wanted.isdecimal():
        found = next((one for one in places if str(one["id"]) == wanted), None)
        if found is not None:
            return found
    by_path = {"/".join(names): one for names, one in _paths(places).items()}
    if wanted not in by_path:
        raise NotFound(f"there is no {wanted!r}; there are {', '.join(sorted(by_path)) or 'no projects yet'}")
    return by_path[wanted]
