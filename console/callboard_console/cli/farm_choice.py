"""Which jobs a command is for: by their ids, or by what they have in common; and asking before much is done."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from callboard_console.cli.board_http import BoardApi, path
from callboard_core.errors import BadRequest

__all__ = ["Ids", "Owner", "Project", "States", "Tag", "Text", "Type", "check_id", "choice", "confirm"]

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Which jobs.")]
States = Annotated[
    list[str] | None,
    typer.Option(
        "--job-state",
        metavar="STATE",
        help="Jobs that are held, queued, active, paused, done, failed or cancelled (may be repeated).",
    ),
]
Type = Annotated[str | None, typer.Option("--type", help="Jobs of this type.")]
Owner = Annotated[str | None, typer.Option(help="Jobs of this owner.")]
Project = Annotated[str | None, typer.Option(help="Jobs of this project (show).")]
Tag = Annotated[str | None, typer.Option(help="Jobs with this tag.")]
Text = Annotated[str | None, typer.Option(help="Jobs with this in their name or note.")]

#: Jobs named in a question.
_NAMED = 5


def check_id(job: str) -> str:
    """Return a job's id.

    Raises:
        BadRequest: it cannot be one.
    """
    if not (job.isascii() and job.isdecimal()):
        raise BadRequest(f"{job!r} is no job; jobs have numbers, `callboard job ls` shows them")
    return job


def choice(
    ids: list[str] | None,
    *,
    states: list[str] | None = None,
    type: str | None = None,  # noqa: A002 - the option's name
    owner: str | None = None,
    project: str | None = None,
    tag: str | None = None,
    text: str | None = None,
) -> dict[str, Any]:
    """Return the filter that the options make.

    Raises:
        BadRequest: there are none, which would mean every job.
    """
    given = {
        "state": states or None,
        "type": type,
        "owner": owner,
        "project": project,
        "tag": tag,
        "text": text,
    }
    asked: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if ids:
        asked["ids"] = [check_id(one) for one in ids]
    if not asked:
        raise BadRequest(
            "say which jobs: their ids, or --job-state, --owner, --project, --type, --tag or --text"
        )
    return asked


def confirm(api: BoardApi, asked: dict[str, Any], what: str, *, yes: bool) -> None:
    """Ask a person whether it is meant; ends the program if it is not."""
    if yes:
        return
    if "ids" in asked:
        which = ", ".join(asked["ids"])
        jobs = f"job {which}" if len(asked["ids"]) == 1 else f"jobs {which}"
    else:
        page = api.get(path("jobs"), limit=_NAMED, **asked)
        named = ", ".join(f"{one['job']} {one['name']}" for one in page["items"])
        more = f" and {page['total'] - _NAMED} more" if page["total"] > _NAMED else ""
        if not page["total"]:
            return
        jobs = f"{page['total']} jobs ({named}{more})"
    typer.confirm(f"{what} {jobs}?", abort=True, err=True)
