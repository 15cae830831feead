"""``callboard job ls``, ``why``, ``frames``, ``log`` and ``download``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from callboard_console.cli import farm_choice as which
from callboard_console.cli import options
from callboard_console.cli.board_http import BoardApi, open_board, path
from callboard_console.cli.context import Access
from callboard_console.cli.farm_text import frame_lines, job_line, job_row, why_lines
from callboard_console.cli.output import print_json, table
from callboard_console.cli.reaching import reaching
from callboard_core.errors import NotFound

__all__ = ["download", "frames", "log", "ls", "why"]

JobId = Annotated[str, typer.Argument(metavar="ID", help="Which job.")]
_PAGE = 1000


@reaching
def ls(
    *,
    access: Access,
    job_state: which.States = None,
    job_type: which.Type = None,
    owner: which.Owner = None,
    project: which.Project = None,
    shot: Annotated[str | None, typer.Option(help="Jobs of this shot.")] = None,
    tag: which.Tag = None,
    text: which.Text = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="At most so many.")] = 50,
    as_json: options.Json = False,
) -> None:
    """List jobs, the newest first.

    Example: callboard job ls --job-state active --job-state queued
    """
    query = {"state": job_state, "type": job_type, "owner": owner, "project": project, "shot": shot}
    with open_board(access, "viewer") as api:
        page = api.get(path("jobs"), **query, tag=tag, text=text, limit=count)
    if as_json:
        print_json(page)
        return
    columns = ["id", "name", "state", "progress", "frames", "failed", "running", "eta", "priority", "owner"]
    columns += ["project", "reason"]
    table(columns, [job_row(one) for one in page["items"]], empty="no jobs; `callboard job submit` makes one")
    if page["total"] > len(page["items"]):
        print(f"{page['total']} jobs match; --count shows more", file=sys.stderr)


@reaching
def why(
    *,
    access: Access,
    job: JobId,
    step: Annotated[str | None, typer.Option(help="Only this step, e.g. render.")] = None,
    as_json: options.Json = False,
) -> None:
    """Say why a job is not running, by the rules the scheduler follows.

    Example: callboard job why 7
    """
    with open_board(access, "viewer") as api:
        found = api.get(path("jobs", which.check_id(job), "why"), step=step)
    if as_json:
        print_json(found)
    else:
        print("\n".join(why_lines(found["items"])))


@reaching
def frames(
    *,
    access: Access,
    job: JobId,
    step: Annotated[str | None, typer.Option(help="Of this step, e.g. video. [default: the first]")] = None,
    as_json: options.Json = False,
) -> None:
    """Show a job's frames by state, or with --json each with its tries, time and node.

    Example: callboard job frames 7
    """
    job = which.check_id(job)
    with open_board(access, "viewer") as api:
        found = api.get(path("jobs", job, "frames"), step=step)
        if as_json:
            print_json(found)
            return
        print(job_line(api.get(path("jobs", job))), file=sys.stderr)
    table(["state", "count", "frames", "seconds each"], frame_lines(found), empty="no frames")


@reaching
def log(
    *,
    access: Access,
    job: JobId,
    frame: Annotated[
        int | None, typer.Option(help="What concerns this frame, of the last attempt at it.")
    ] = None,
    attempt: Annotated[str | None, typer.Option(help="Of this attempt. [default: the last one]")] = None,
    attempts: Annotated[bool, typer.Option("--attempts", help="List the attempts instead.")] = False,
    as_json: options.Json = False,
) -> None:
    """Print what the engine wrote in an attempt, or list the attempts.

    Example: callboard job log 7 --frame 12
    """
    job = which.check_id(job)
    with open_board(access, "viewer") as api:
        if attempts or as_json:
            _print_attempts(api, job, frame, as_json=as_json)
            return
        chosen = attempt or _last(api, job, frame)["id"]
        only = {} if frame is None else {"frame": frame}
        for block in api.blocks(path("jobs", job, "attempts", chosen, "log"), **only):
            sys.stdout.write(block.decode(errors="replace"))
    sys.stdout.flush()


def _attempts(api: BoardApi, job: str, frame: int | None) -> list[dict[str, Any]]:
    """A job's attempts, or those at one frame, the newest first."""
    from callboard_core.farm.frames import parse_frames

    found: list[dict[str, Any]] = api.get(path("jobs", job, "attempts"), limit=_PAGE)["items"]
    if frame is None:
        return found
    return [one for one in found if one["frames"] and frame in parse_frames(one["frames"])]


def _last(api: BoardApi, job: str, frame: int | None) -> dict[str, Any]:
    found = _attempts(api, job, frame)
    if not found:
        at = "" if frame is None else f" at frame {frame}"
        raise NotFound(f"job {job} has no attempt{at} yet; `callboard job why {job}` says why")
    return found[0]


def _print_attempts(api: BoardApi, job: str, frame: int | None, *, as_json: bool) -> None:
    found = _attempts(api, job, frame)
    if as_json:
        print_json(found)
        return
    rows = [{**one, "slot": f"{one['node']}/{one['slot']}", "why": one["message"] or ""} for one in found]
    table(["id", "step", "frames", "slot", "state", "why"], rows, empty="no attempts yet")


@reaching
def download(
    *,
    access: Access,
    job: JobId,
    to: Annotated[Path | None, typer.Option(metavar="FOLDER", help="[default: job-ID]")] = None,
    step: Annotated[str | None, typer.Option(help="Only of this step, e.g. video.")] = None,
    as_json: options.Json = False,
) -> None:
    """Fetch the files a job has made; what is there already is not fetched again.

    Example: callboard job download 7 --to frames
    """
    job = which.check_id(job)
    folder = to or Path(f"job-{job}")
    with open_board(access, "viewer") as api:
        made = [one for one in _results(api, job, step) if one["artifact"] is not None]
        if not made:
            raise NotFound(f"job {job} has made no files yet; `callboard job why {job}` says why")
        files = _fetch(api, made, folder)
    if as_json:
        print_json([str(file) for file in files])
    else:
        print(f"{len(files)} file{'' if len(files) == 1 else 's'} in {folder}")


def _results(api: BoardApi, job: str, step: str | None) -> Iterator[dict[str, Any]]:
    offset = 0
    while True:
        page = api.get(path("jobs", job, "results"), step=step, limit=_PAGE, offset=offset)["items"]
        yield from page
        offset += len(page)
        if len(page) < _PAGE:
            return


def _fetch(api: BoardApi, made: list[dict[str, Any]], folder: Path) -> list[Path]:
    from callboard_console.cli.transfers import Transfers
    from callboard_core.calls.artifacts import ArtifactRef

    files = []
    with api.artifacts() as store, Transfers("fetching", total=len(made)) as shown:
        for one, name in zip(made, file_names(made), strict=True):
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            files.append(store.get_file(ArtifactRef.model_validate(one["artifact"]), file))
            shown.one_more()
    return files


def file_names(made: list[dict[str, Any]]) -> list[str]:
    """Return where each result goes: by its name, in a folder of its step where two have the same."""
    names = [one["name"] or f"{one['step']}-{one['frame'] or 0}" for one in made]
    double = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    return [
        f"{one['step']}/{name}" if name in double else name for one, name in zip(made, names, strict=True)
    ]
