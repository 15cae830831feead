"""Jobs: submit, find, look into, change and delete them."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Path, Query
from pydantic import BaseModel, Field

from callboard_broker.http.context import Commander, Reader, Use
from callboard_broker.services.farm.finding import JobFilter, Sort, choose
from callboard_broker.services.farm.model import Job, Step
from callboard_broker.services.farm.reports import report
from callboard_broker.services.farm.service import Farm
from callboard_broker.services.farm.views import (
    AttemptView,
    FramesView,
    JobView,
    frames_view,
    job_view,
    stored_attempt,
)
from callboard_broker.store import farm as store
from callboard_core.errors import BadRequest
from callboard_core.farm.reports import JobReport
from callboard_core.farm.requests import JobAction, JobRequest, Tags
from callboard_core.farm.states import JobState
from callboard_core.messages import JsonObject

__all__ = ["JobPath", "StepQuery", "job_of", "router", "step_of"]

router = APIRouter(tags=["jobs"])

JobPath = Annotated[str, Path(description="the job's id", pattern=r"^[0-9]{1,18}$")]
StepQuery = Annotated[str | None, Query(description="the first step if missing")]


class Page(BaseModel):
    """Some of the jobs that were asked for."""

    total: int = Field(description="that match")
    items: list[JobReport]


class Changes(BaseModel):
    """What of a job is to be changed; what is missing stays."""

    model_config = {"extra": "forbid"}

    name: str | None = None
    owner: str | None = None
    tier: int | None = None
    priority: int | None = None
    tags: Tags | None = None
    note: str | None = None
    project: str | None = None
    sequence: str | None = None
    shot: str | None = None


class MassAction(BaseModel):
    """Something to be done with all jobs that match, or with none if it cannot be done to one of them."""

    model_config = {"extra": "forbid"}

    filter: JobFilter
    action: JobAction


class MassChange(BaseModel):
    """Changes of all jobs that match."""

    model_config = {"extra": "forbid"}

    filter: JobFilter
    values: Changes


class Count(BaseModel):
    """How many jobs it was done to."""

    count: int


class JobTypeView(BaseModel):
    """One job type, with the form of its settings."""

    name: str
    label: str
    description: str
    settings: JsonObject = Field(description="JSON Schema")


class JobTypesView(BaseModel):
    """The job types there are, and what is wrong with the files of those that cannot be used."""

    items: list[JobTypeView]
    broken: dict[str, str]


class Attempts(BaseModel):
    """A job's attempts, the newest first."""

    items: list[AttemptView]


class ReasonView(BaseModel):
    """One thing that keeps a step from running."""

    code: str
    text: str
    count: int = Field(description="slots it concerns")


class Why(BaseModel):
    """Why a step is not running."""

    step: str
    reasons: list[ReasonView]


class Whys(BaseModel):
    """The same, of every step that is not done."""

    items: list[Why]


@router.get("/jobtypes", summary="What jobs can be")
def jobtypes(_person: Reader, use: Use) -> JobTypesView:
    """Return the job types with the JSON Schema of their settings."""
    types = use.farm.job_types
    found = [
        JobTypeView(name=one.name, label=one.label, description=one.description, settings=one.schema())
        for one in types.all()
    ]
    return JobTypesView(items=found, broken=types.broken)


@router.post("/jobs", status_code=201, summary="Submit a job")
def submit(request: JobRequest, person: Commander, use: Use) -> JobView:
    """Make a job. Its files must be artifacts already (PUT /api/v1/artifacts/{sha256}) or lie in a shared folder."""
    job_id = use.farm.submit(request, person.username)
    return _view(use.farm, job_id)


@router.get("/jobs", summary="Find jobs")
def jobs(
    _person: Reader,
    use: Use,
    state: Annotated[list[JobState] | None, Query(description="one of these")] = None,
    type: str | None = None,  # noqa: A002 - the parameter's public name
    owner: str | None = None,
    project: Annotated[str | None, Query(description="its name")] = None,
    shot: Annotated[str | None, Query(description="its name")] = None,
    tag: str | None = None,
    text: Annotated[str | None, Query(description="part of the name, note or id", max_length=200)] = None,
    sort: Sort = "newest",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> Page:
    """Return the jobs that match everything given, a page at a time."""
    wanted = JobFilter(state=state, type=type, owner=owner, project=project, shot=shot, tag=tag, text=text)
    with use.farm.reading() as book:
        found = choose(book, wanted, sort)
        return Page(total=len(found), items=[report(book, job) for job in found[offset : offset + limit]])


@router.post("/jobs/act", summary="Do something with all jobs that match")
def act_all(wanted: MassAction, _person: Commander, use: Use) -> Count:
    """Hold, release, pause, resume, cancel, requeue or delete jobs, in one transaction."""
    return Count(count=use.farm.act(_ids(use.farm, wanted.filter), wanted.action))


@router.patch("/jobs", summary="Change all jobs that match")
def change_all(wanted: MassChange, _person: Commander, use: Use) -> Count:
    """Change jobs, in one transaction."""
    return Count(count=use.farm.change(_ids(use.farm, wanted.filter), _values(wanted.values)))


@router.get("/jobs/{job}", summary="One job")
def job_by_id(job: JobPath, _person: Reader, use: Use) -> JobView:
    """Return a job with its steps and what is assigned of it."""
    return _view(use.farm, job)


@router.patch("/jobs/{job}", summary="Change a job")
def change(job: JobPath, values: Changes, _person: Commander, use: Use) -> JobView:
    """Change a job's name, owner, tier, priority, tags, note or place."""
    use.farm.change([job], _values(values))
    return _view(use.farm, job)


@router.post("/jobs/{job}/act", summary="Do something with a job")
def act(job: JobPath, action: Annotated[JobAction, Body()], _person: Commander, use: Use) -> Count:
    """Hold, release, pause, resume, cancel, requeue or delete a job."""
    return Count(count=use.farm.act([job], action))


@router.delete("/jobs/{job}", status_code=204, summary="Delete a job")
def delete(
    job: JobPath,
    _person: Commander,
    use: Use,
    files: Annotated[
        Literal["keep", "remove"],
        Query(description="keep: what it made goes when room is needed; remove: now"),
    ] = "keep",
) -> None:
    """Delete a job; if it is not over, it is cancelled first."""
    use.farm.act([job], JobAction(do="delete", files=files))


@router.get("/jobs/{job}/frames", summary="A job's frames")
def frames(job: JobPath, _person: Reader, use: Use, step: StepQuery = None) -> FramesView:
    """Return the frames of one step: states, tries, times and where they were made."""
    found = step_of(use.farm, job, step)
    with use.farm.stored() as connection:
        rows = store.frame_results(connection, found.job.id, found.number)
    with use.farm.reading():
        return frames_view(found, rows)


@router.get("/jobs/{job}/attempts", summary="A job's attempts")
def attempts(
    job: JobPath,
    _person: Reader,
    use: Use,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> Attempts:
    """Return what was assigned of a job, where, and how it ended; the newest first."""
    found = job_of(use.farm, job)
    with use.farm.stored() as connection:
        rows = store.attempts(connection, found.id, limit, offset)
    with use.farm.reading():
        return Attempts(items=[stored_attempt(found, row) for row in rows])


@router.get("/jobs/{job}/why", summary="Why a job is not running")
def why(job: JobPath, _person: Reader, use: Use, step: Annotated[str | None, Query()] = None) -> Whys:
    """Return what keeps each step from running, by the rules that the scheduler follows."""
    return Whys(
        items=[
            Why(step=name, reasons=[ReasonView(code=r.code, text=r.text, count=r.count) for r in reasons])
            for name, reasons in use.farm.why(job, step)
        ]
    )


def job_of(farm: Farm, job_id: str) -> Job:
    """Return a job; raises ``NotFound``."""
    with farm.reading() as book:
        return book.job(job_id)


def step_of(farm: Farm, job_id: str, name: str | None) -> Step:
    """Return a step, the first one if none is named; raises ``NotFound``."""
    with farm.reading() as book:
        return book.job(job_id).step(name)


def _view(farm: Farm, job_id: str) -> JobView:
    with farm.reading() as book:
        return job_view(book, book.job(job_id), time.time())


def _ids(farm: Farm, wanted: JobFilter) -> list[str]:
    if wanted.empty:
        raise BadRequest("filter: empty; name the jobs, or what they have in common")
    with farm.reading() as book:
        return [str(job.id) for job in choose(book, wanted)]


def _values(changes: Changes) -> dict[str, Any]:
    return changes.model_dump(exclude_unset=True)
