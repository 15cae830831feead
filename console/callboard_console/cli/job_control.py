"""``callboard job pause``, ``resume``, ``cancel``, ``requeue``, ``priority``, ``change`` and ``delete``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from callboard_console.cli import farm_choice as which
from callboard_console.cli import options
from callboard_console.cli.board_http import open_board, path
from callboard_console.cli.context import Access
from callboard_console.cli.output import print_json
from callboard_console.cli.reaching import reaching
from callboard_core.errors import BadRequest

__all__ = ["cancel", "change", "delete", "pause", "priority", "requeue", "resume"]


@reaching
def pause(
    *,
    access: Access,
    job: which.Ids = None,
    job_state: which.States = None,
    job_type: which.Type = None,
    owner: which.Owner = None,
    project: which.Project = None,
    tag: which.Tag = None,
    text: which.Text = None,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Pause jobs: what runs is stopped where it is, and goes on with resume.

    Example: callboard job pause 7 8
    """
    asked = _asked(job, job_state, job_type, owner, project, tag, text)
    _act(access, asked, {"do": "pause"}, "Pause", "paused", ask=not job, yes=yes, as_json=as_json)


@reaching
def resume(
    *,
    access: Access,
    job: which.Ids = None,
    job_state: which.States = None,
    job_type: which.Type = None,
    owner: which.Owner = None,
    project: which.Project = None,
    tag: which.Tag = None,
    text: which.Text = None,
    held: Annotated[
        bool, typer.Option("--held", help="Release jobs that were submitted with --hold.")
    ] = False,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Let paused jobs go on, or with --held those that were held.

    Example: callboard job resume --owner ann --yes
    """
    asked = _asked(job, job_state, job_type, owner, project, tag, text)
    do = "release" if held else "resume"
    _act(access, asked, {"do": do}, "Resume", "resumed", ask=not job, yes=yes, as_json=as_json)


@reaching
def cancel(
    *,
    access: Access,
    job: which.Ids = None,
    job_state: which.States = None,
    job_type: which.Type = None,
    owner: which.Owner = None,
    project: which.Project = None,
    tag: which.Tag = None,
    text: which.Text = None,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Cancel jobs: what runs is stopped, what is done stays.

    Example: callboard job cancel 7 --yes
    """
    asked = _asked(job, job_state, job_type, owner, project, tag, text)
    _act(access, asked, {"do": "cancel"}, "Cancel", "cancelled", ask=True, yes=yes, as_json=as_json)


@reaching
def requeue(
    *,
    access: Access,
    job: which.Ids = None,
    frames: Annotated[
        str | None, typer.Option(metavar="FRAMES", help="These frames, e.g. 3,5-10. [default: failed ones]")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All frames, also those that are done.")] = False,
    step: Annotated[str | None, typer.Option(help="Of this step only, e.g. render.")] = None,
    job_state: which.States = None,
    job_type: which.Type = None,
    owner: which.Owner = None,
    project: which.Project = None,
    tag: which.Tag = None,
    text: which.Text = None,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Have frames made again: those that failed or were cancelled, some, or all.

    Example: callboard job requeue 7 --frames 3,5-10 --yes
    """
    if frames and everything:
        raise BadRequest("--frames goes without --all")
    asked = _asked(job, job_state, job_type, owner, project, tag, text)
    action: dict[str, Any] = {
        "do": "requeue",
        "what": "all" if everything else "frames" if frames else "failed",
    }
    action |= {name: value for name, value in (("frames", frames), ("step", step)) if value is not None}
    again = "all frames" if everything else f"frames {frames}" if frames else "the failed frames"
    ask = bool(everything or frames or not job)
    _act(access, asked, action, f"Render {again} again of", "requeued", ask=ask, yes=yes, as_json=as_json)


@reaching
def delete(
    *,
    access: Access,
    job: which.Ids = None,
    job_state: which.States = None,
    job_type: which.Type = None,
    owner: which.Owner = None,
    project: which.Project = None,
    tag: which.Tag = None,
    text: which.Text = None,
    remove_files: Annotated[
        bool, typer.Option("--remove-files", help="Remove what they made now, not when room is needed.")
    ] = False,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Delete jobs; those that are not over are cancelled first.

    Example: callboard job delete --job-state done --owner ann --yes
    """
    asked = _asked(job, job_state, job_type, owner, project, tag, text)
    action = {"do": "delete", "files": "remove" if remove_files else "keep"}
    what = "Delete, with all their files," if remove_files else "Delete"
    _act(access, asked, action, what, "deleted", ask=True, yes=yes, as_json=as_json)


@reaching
def priority(
    *,
    access: Access,
    value: Annotated[int, typer.Argument(metavar="PRIORITY", min=0, max=100, help="Higher goes first.")],
    job: which.Ids = None,
    job_state: which.States = None,
    job_type: which.Type = None,
    owner: which.Owner = None,
    project: which.Project = None,
    tag: which.Tag = None,
    text: which.Text = None,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Change the priority of jobs, from 0 to 100.

    Example: callboard job priority 80 7
    """
    asked = _asked(job, job_state, job_type, owner, project, tag, text)
    _change(access, asked, {"priority": value}, ask=not job, yes=yes, as_json=as_json)


@reaching
def change(
    *,
    access: Access,
    job: which.Ids = None,
    name: Annotated[str | None, typer.Option(help="What people read.")] = None,
    note: Annotated[str | None, typer.Option(help="Free text.")] = None,
    owner: Annotated[str | None, typer.Option(help="Whose it is from now on.")] = None,
    tier: Annotated[
        int | None, typer.Option(min=0, max=9, help="0 goes before 1, whatever the priorities.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="That a slot must have (may be repeated).")] = None,
    no_tags: Annotated[bool, typer.Option("--no-tags", help="Any slot will do.")] = False,
    project: Annotated[str | None, typer.Option(help="Where it belongs.")] = None,
    sequence: Annotated[str | None, typer.Option(help="Where it belongs.")] = None,
    shot: Annotated[str | None, typer.Option(help="Where it belongs.")] = None,
    as_json: options.Json = False,
) -> None:
    """Change a job's name, note, owner, tier, tags or place.

    Example: callboard job change 7 --note "for Monday" --tag gpu
    """
    given: dict[str, Any] = {"name": name, "note": note, "owner": owner, "tier": tier, "project": project}
    given |= {"sequence": sequence, "shot": shot, "tags": [] if no_tags else tag}
    values = {key: value for key, value in given.items() if value is not None}
    if not values:
        raise BadRequest(
            "say what to change: --name, --note, --owner, --tier, --tag, --project, --sequence or --shot"
        )
    _change(access, which.choice(job), values, ask=False, yes=True, as_json=as_json)


def _asked(
    job: list[str] | None,
    job_state: list[str] | None,
    job_type: str | None,
    owner: str | None,
    project: str | None,
    tag: str | None,
    text: str | None,
) -> dict[str, Any]:
    return which.choice(
        job, states=job_state, type=job_type, owner=owner, project=project, tag=tag, text=text
    )


def _act(
    access: Access,
    asked: dict[str, Any],
    action: dict[str, Any],
    what: str,
    done: str,
    *,
    ask: bool,
    yes: bool,
    as_json: bool,
) -> None:
    with open_board(access, "operator") as api:
        which.confirm(api, asked, what, yes=yes or not ask)
        _tell(api.post(path("jobs", "act"), {"filter": asked, "action": action}), done, as_json=as_json)


def _change(
    access: Access, asked: dict[str, Any], values: dict[str, Any], *, ask: bool, yes: bool, as_json: bool
) -> None:
    with open_board(access, "operator") as api:
        which.confirm(api, asked, "Change", yes=yes or not ask)
        answer = api.send("PATCH", path("jobs"), {"filter": asked, "values": values})
        _tell(answer, "changed", as_json=as_json)


def _tell(answer: dict[str, Any], done: str, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        count = answer["count"]
        print(f"{count} job{'' if count == 1 else 's'} {done}")
