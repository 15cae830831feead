"""Jobs as rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from callboard_broker.services.farm.book import Book
from callboard_broker.services.farm.items.base import Filters, Row, Table, Values, only
from callboard_broker.services.farm.model import Job
from callboard_broker.services.farm.reports import report
from callboard_broker.services.farm.service import Farm
from callboard_core.errors import Conflict
from callboard_core.farm.requests import HIGHEST_PRIORITY, JobAction, JobRequest, Tags
from callboard_core.farm.states import JobEvent, JobState, may

__all__ = ["JobValues", "Jobs", "job_row"]

Name = Annotated[str, Field(min_length=1, max_length=200)]


class JobValues(Values):
    """What of a job can be changed."""

    status: Literal["held", "queued", "paused", "cancelled"] | None = Field(
        default=None, description="queued also resumes, releases, and tries failed frames again"
    )
    name: Name | None = None
    owner: Annotated[str, Field(max_length=100)] | None = None
    project: str | int | None = None
    sequence: str | int | None = None
    shot: str | int | None = None
    tier: Annotated[int, Field(ge=0, le=9)] | None = None
    priority: Annotated[int, Field(ge=0, le=HIGHEST_PRIORITY)] | None = None
    tags: Tags | None = None
    note: Annotated[str, Field(max_length=10_000)] | None = None


class JobRemoval(Values):
    """What becomes of the files of a deleted job."""

    files: Literal["keep", "remove"] = "keep"


#: What leads a job from its state to the one that is asked for; missing when it is there already.
_LEADS: Mapping[
    str, Mapping[JobState, Literal["hold", "release", "pause", "resume", "cancel", "requeue"]]
] = {
    "held": dict.fromkeys(JobState, "hold"),
    "paused": dict.fromkeys(JobState, "pause"),
    "cancelled": dict.fromkeys(JobState, "cancel"),
    "queued": {
        JobState.HELD: "release",
        JobState.PAUSED: "resume",
        JobState.FAILED: "requeue",
        JobState.CANCELLED: "requeue",
    },
}
_THERE: Mapping[str, frozenset[JobState]] = {
    "held": frozenset({JobState.HELD}),
    "paused": frozenset({JobState.PAUSED}),
    "cancelled": frozenset({JobState.CANCELLED}),
    "queued": frozenset({JobState.QUEUED, JobState.ACTIVE}),
}
_EVENTS = {event.value: event for event in JobEvent}


class Jobs(Table):
    """All jobs."""

    name = "job"
    aliases = ("jobs",)
    creates = JobRequest
    updates = JobValues
    deletes = JobRemoval
    needs = ()
    fields: Mapping[str, str] = {
        "id": "given by the board",
        "name": "what people read",
        "type": "the job type",
        "status": "held, queued, active, paused, done, failed or cancelled",
        "owner": "whose it is",
        "project": "its name",
        "sequence": "its name",
        "shot": "its name",
        "tier": "0 goes before 1, whatever the priorities",
        "priority": "higher goes first",
        "tags": "that a slot must have",
        "note": "free text",
        "frames": "how many there are",
        "waiting": "frames",
        "assigned": "frames",
        "rendering": "frames",
        "done": "frames",
        "failed": "frames",
        "cancelled": "frames",
        "progress": "0 to 1",
        "eta": "seconds it will still take",
        "running": "tasks that are assigned",
        "created": "Unix seconds",
        "started": "Unix seconds",
        "ended": "Unix seconds",
        "reason": "why it is as it is",
    }

    def __init__(self, farm: Farm) -> None:
        self._farm = farm

    def rows(self, filters: Filters) -> Iterable[Row]:
        """See :class:`~callboard_broker.services.farm.items.base.Item`."""
        ids = only(filters, "id")
        with self._farm.reading() as book:
            return [job_row(book, job) for job in book.jobs.values() if ids is None or str(job.id) in ids]

    def create(self, values: JobRequest, who: str) -> Row:
        """Submit a job."""
        job_id = self._farm.submit(values, who)
        with self._farm.reading() as book:
            return job_row(book, book.job(job_id))

    def update(self, rows: Sequence[Row], values: JobValues) -> None:
        """Change jobs; the new status is checked for all of them first."""
        core, control = self._farm.core, self._farm.control
        jobs = [core.book.job(row["id"]) for row in rows]
        steps = _steps(jobs, values.status) if values.status else {}
        control.change(jobs, values.model_dump(exclude={"status"}, exclude_unset=True))
        for do, some in steps.items():
            control.act(some, JobAction(do=do))

    def delete(self, rows: Sequence[Row], values: JobRemoval) -> None:
        """Remove jobs with all that belongs to them."""
        jobs = [self._farm.core.book.job(row["id"]) for row in rows]
        self._farm.control.act(jobs, JobAction(do="delete", files=values.files))


def _steps(jobs: Iterable[Job], status: str) -> dict[Any, list[Job]]:
    """What has to be done to which jobs so that they get a status.

    Raises:
        Conflict: one of them cannot get it.
    """
    found: dict[Any, list[Job]] = {}
    for job in jobs:
        if job.state in _THERE[status]:
            continue
        do = _LEADS[status].get(job.state)
        if do is None or not may(job.state, _EVENTS[do]):
            raise Conflict(f"job {job.id} is {job.state} and cannot become {status}")
        found.setdefault(do, []).append(job)
    return found


def job_row(book: Book, job: Job) -> Row:
    """Return a job as a row."""
    told = report(book, job)
    sequence = book.places.get(job.ticket.sequence) if job.ticket.sequence is not None else None
    return {
        "id": told.job,
        "name": told.name,
        "type": told.type,
        "status": told.state.value,
        "owner": told.owner,
        "project": told.project,
        "sequence": sequence.name if sequence else None,
        "shot": told.shot,
        "tier": told.tier,
        "priority": told.priority,
        "tags": told.tags,
        "note": job.ticket.note,
        "frames": told.frames.total,
        **told.frames.model_dump(),
        "progress": told.progress,
        "eta": told.eta,
        "running": told.running,
        "created": told.created,
        "started": told.started,
        "ended": told.ended,
        "reason": told.reason,
    }
