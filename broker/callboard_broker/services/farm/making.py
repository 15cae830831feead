"""Turning a request into a job with steps, and a stored job back into one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import TypeAdapter

from callboard_broker.services.farm.jobtypes import TaskSpec
from callboard_broker.services.farm.model import Attempt, Job, Step, Ticket
from callboard_broker.services.farm.rules import Queue
from callboard_broker.services.farm.strip import Strip
from callboard_core.errors import BadRequest
from callboard_core.farm.frames import parse_frames
from callboard_core.farm.requests import JobRequest
from callboard_core.farm.states import JobState, TaskState

__all__ = ["make_job", "restore_attempt", "restore_job"]

#: Frames of one job.
MOST_FRAMES = 1_000_000
_SPECS: TypeAdapter[list[TaskSpec]] = TypeAdapter(list[TaskSpec])


def make_job(job_id: int, request: JobRequest, specs: Sequence[TaskSpec], *, owner: str, now: float) -> Job:
    """Return a new job; it is in no line yet.

    Raises:
        BadRequest: it has too many frames.
    """
    ticket = Ticket(
        name=request.name or _name(request),
        type=request.type,
        owner=request.owner or owner,
        tier=request.tier,
        priority=request.priority,
        tags=sorted(set(request.tags)),
        note=request.note,
        created=now,
    )
    asked = json.dumps(
        {
            "request": request.model_dump(mode="json", exclude_defaults=True),
            "steps": _SPECS.dump_python(list(specs), mode="json", exclude_defaults=True),
        },
        separators=(",", ":"),
    )
    state = JobState.HELD if request.hold else JobState.QUEUED
    job = Job(id=job_id, ticket=ticket, state=state, request=request, asked=asked, order=float(job_id))
    _add_steps(job, specs)
    if job.frames > MOST_FRAMES:
        raise BadRequest(f"{job.frames} frames are more than {MOST_FRAMES}; make several jobs of it")
    return job


def _name(request: JobRequest) -> str:
    main = request.main or (request.inputs[0].name if request.inputs else "")
    return main.rpartition("/")[2] or request.type


def _add_steps(job: Job, specs: Iterable[TaskSpec]) -> None:
    for number, spec in enumerate(specs):
        step = Step(
            job=job, number=number, spec=spec, strip=Strip(_frames(spec)), queue=_queue(job, number, spec)
        )
        job.steps.append(step)
        job.by_name[spec.name] = step
    for step in job.steps:
        for name in step.spec.inputs_from:
            job.by_name[name].feeds = True


def _frames(spec: TaskSpec) -> Sequence[int]:
    return (0,) if spec.work == "single" else parse_frames(spec.frames)


def _queue(job: Job, number: int, spec: TaskSpec) -> Queue:
    return Queue(
        key=(str(job.id), number),
        engine=spec.engine,
        task_type=spec.type,
        limits=tuple(sorted({*job.request.limits, *spec.limits})),
        max_hosts=job.request.max_hosts,
        chunk=1 if spec.work == "single" else spec.chunk,
        hosts=job.hosts,
        blocked=job.blocked.setdefault(spec.type, set()),
        warm=job.warm,
    )


def restore_job(row: Any) -> Job:
    """Return a stored job; its frames are restored by segments."""
    asked, document = json.loads(row.spec), json.loads(row.document)
    job = Job(
        id=row.id,
        ticket=Ticket(**document["ticket"]),
        state=JobState(row.state),
        request=JobRequest.model_validate(asked["request"]),
        asked=row.spec,
    )
    _add_steps(job, _SPECS.validate_python(asked["steps"]))
    job.restore(document)
    return job


def restore_attempt(row: Any, step: Step, expires: float) -> Attempt:
    """Return a stored attempt that had not ended."""
    numbers = parse_frames(row.frames)
    return Attempt(
        id=row.id,
        step=step,
        task=row.task,
        slot=(row.node, row.slot),
        indexes=step.strip.indexes(numbers),
        made=row.made,
        expires=expires,
        seq=row.seq,
        started=row.started,
        state=TaskState(row.state),
        parts=row.seq + 1,  # no event makes more than one part of the log
    )
