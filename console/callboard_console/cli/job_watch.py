"""``callboard job watch``: how jobs go, pushed by the board."""

from __future__ import annotations

import queue
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Self

import typer

from callboard_console.cli import options
from callboard_console.cli.board_http import BoardApi, open_board_and_link, path
from callboard_console.cli.context import Access
from callboard_console.cli.farm_choice import check_id
from callboard_console.cli.farm_text import job_line, left
from callboard_console.cli.output import print_json
from callboard_console.cli.reaching import reaching

if TYPE_CHECKING:
    from collections.abc import Mapping

    from callboard_core.link import Link, Message

__all__ = ["follow", "watch"]

_OVER = frozenset({"done", "failed", "cancelled"})
#: Seconds without news after which the board is asked, in case it was away.
_ASK_AFTER = 5.0
Fields = dict[str, Any]


@reaching
def watch(
    *,
    access: Access,
    job: Annotated[list[str], typer.Argument(metavar="ID", help="Which jobs.")],
    as_json: options.Json = False,
) -> None:
    """Show how jobs go until they are over; exit code 1 if one failed or was cancelled. Ctrl-C ends only the watching.

    Example: callboard job watch 7
    """
    follow(access, [check_id(one) for one in job], as_json=as_json)


def follow(access: Access, jobs: list[str], *, as_json: bool) -> None:
    """Show how jobs go until they are over."""
    try:
        with open_board_and_link(access, "viewer") as (api, link):
            known = _follow(api, link, jobs, as_json=as_json)
    except KeyboardInterrupt:
        print("still running; `callboard job watch` shows it again", file=sys.stderr)
        raise typer.Exit(1) from None
    if any(one["state"] != "done" for one in known.values()):
        raise typer.Exit(1)


def _follow(api: BoardApi, link: Link, jobs: list[str], *, as_json: bool) -> Mapping[str, Fields]:
    news: queue.Queue[Fields] = queue.Queue()
    subscriptions = [
        link.subscribe(f"{link.site}/board/state/job/{one}", _taker(news), qos=1) for one in jobs
    ]
    known = {one: api.get(path("jobs", one)) for one in jobs}
    screen: _Screen = _Json() if as_json else _Bars() if sys.stdout.isatty() else _Lines()
    with screen:
        for one in known.values():
            screen.show(one)
        while not all(one["state"] in _OVER for one in known.values()):
            for one in _next(news, api, known):
                known[one["job"]] = one
                screen.show(one)
    for subscription in subscriptions:
        subscription.cancel()
    return known


def _next(news: queue.Queue[Fields], api: BoardApi, known: Mapping[str, Fields]) -> list[Fields]:
    """What was pushed; if nothing is for a while, what the board says when it is asked."""
    try:
        return [news.get(timeout=_ASK_AFTER)]
    except queue.Empty:
        return [api.get(path("jobs", job)) for job, one in known.items() if one["state"] not in _OVER]


def _taker(news: queue.Queue[Fields]) -> Any:
    from callboard_core.errors import CallboardError
    from callboard_core.messages import State, parse

    def take(message: Message) -> None:
        try:
            state = parse(State, message.payload)
        except CallboardError:
            return  # also what is empty: the board has forgotten the job
        if state.data is not None:
            news.put(dict(state.data))

    return take


class _Screen(Protocol):
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def show(self, job: Fields) -> None: ...


class _Json:
    """A line of JSON for each news."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, job: Fields) -> None:
        kept = {key: value for key, value in job.items() if key not in {"steps", "attempts", "request"}}
        print_json(kept, indent=None)


class _Lines:
    """A line whenever a job's state or its frames have changed."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[Any, ...]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, job: Fields) -> None:
        counts = job["frames"]
        what = (job["state"], counts["done"], counts["failed"])
        if self._told.get(job["job"]) != what:
            self._told[job["job"]] = what
            print(f"{time.strftime('%H:%M:%S')}  {job_line(job)}", flush=True)


class _Bars:
    """A progress bar for each job."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[how]}"),
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, job: Fields) -> None:
        name, counts = job["job"], job["frames"]
        how = [job["state"]]
        if counts["failed"]:
            how.append(f"{counts['failed']} failed")
        if job.get("eta") is not None and job["state"] not in _OVER:
            how.append(f"{left(job['eta'])} left")
        if job.get("reason"):
            how.append(str(job["reason"]))
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(f"{name} {job['name']}", total=None, how="")
        total = sum(counts.values())
        self._bars.update(self._tasks[name], total=total, completed=counts["done"], how=", ".join(how))
