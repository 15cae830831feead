"""How the farm looks over HTTP: slots, jobs, their steps and attempts. Made from the book while it is held still."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pydantic import BaseModel, Field

from callboard_broker.services.farm.book import Book
from callboard_broker.services.farm.core import Core
from callboard_broker.services.farm.finding import name_of
from callboard_broker.services.farm.model import Attempt, Job, Place, Slot, Step
from callboard_broker.services.farm.reports import eta, report
from callboard_core.cards import SlotCard
from callboard_core.farm.frames import format_frames
from callboard_core.farm.messages import SlotReport
from callboard_core.farm.reports import FrameCounts, JobReport
from callboard_core.farm.requests import JobRequest
from callboard_core.farm.states import FrameState, JobState, TaskState

__all__ = [
    "AttemptView",
    "FarmView",
    "FramesView",
    "JobView",
    "PlaceView",
    "SlotView",
    "StepView",
    "farm_view",
    "frames_view",
    "job_view",
    "live_attempt",
    "place_view",
    "slot_view",
    "stored_attempt",
]


class PlaceView(BaseModel):
    """A project, sequence or shot, and how much lies in it."""

    id: int
    kind: str
    name: str
    parent: int | None
    owner: str
    note: str
    tags: list[str]
    created: float
    jobs: int = Field(description="that belong to it")
    frames: FrameCounts


class AttemptView(BaseModel):
    """One assignment of a task to a slot. Times are Unix seconds."""

    id: str
    task: str
    step: str
    node: str
    slot: str
    frames: str
    state: TaskState
    made: float
    started: float | None = None
    ended: float | None = None
    fault: str | None = None
    code: str | None = None
    message: str | None = None
    frame: int | None = Field(default=None, description="what it works on")
    progress: float | None = None
    eta: float | None = Field(default=None, description="seconds it will still take")


class SlotView(BaseModel):
    """One slot and what it does now."""

    node: str
    slot: str
    live: bool = Field(description="its node is there")
    wanted: str = Field(description="on, draining or off: what a person wants")
    note: str
    closed: str = Field(description="why it takes no work; empty when it does")
    state: str = Field(description="what it says itself; lost when its node is gone")
    card: SlotCard
    tags: list[str] = Field(description="its own, its node's and those it was given")
    given_tags: list[str]
    report: SlotReport | None
    attempts: list[AttemptView]
    frames_done: int = Field(description="since it is known")
    failures: int = Field(description="that were the node's fault, since it is known")
    last_seen: float


class StepView(BaseModel):
    """Part of a job."""

    name: str
    type: str
    engine: str
    work: str
    state: TaskState
    depends: list[str]
    frames: str
    counts: FrameCounts
    chunk: int = Field(description="frames of a task; 0 to fit the measured time")
    frame_seconds: float | None
    startup_seconds: float | None
    held: str = Field(description="why it is in no line; empty when it is")
    not_before: float | None = Field(description="when it is tried again after a failure")
    blocked: list[str] = Field(description="nodes that get none of it any more")
    failure: str = Field(description="what went wrong last")


class JobView(JobReport):
    """One job with everything that is kept of it in memory."""

    note: str
    sequence: str | None = None
    project_id: int | None = None
    sequence_id: int | None = None
    shot_id: int | None = None
    request: JobRequest
    steps: list[StepView]
    attempts: list[AttemptView] = Field(description="that are assigned now")


class FramesView(BaseModel):
    """The frames of one step in columns."""

    step: str
    numbers: str = Field(description="e.g. 1-240; the columns are in this order")
    frames: list[int]
    states: list[FrameState]
    tries: list[int]
    seconds: list[float | None] = Field(description="how long each took")
    nodes: list[str | None] = Field(description="where each was made or is being made")


class FarmView(BaseModel):
    """All slots, and how the farm as a whole goes."""

    slots: list[SlotView]
    jobs: dict[JobState, int] = Field(description="jobs by state")
    frames: FrameCounts = Field(description="of the jobs that are not over")
    frames_per_minute: float = Field(description="over the last minute")
    tasks_done: int = Field(description="since the board started")
    eta: float | None = Field(description="seconds until all that waits is done, as it goes now")
    last: dict[str, Any] | None = Field(description="the picture that came last")
    problem: str = Field(description="why nothing can be written; empty when it can")


def place_view(book: Book, place: Place) -> PlaceView:
    """Describe a project, sequence or shot."""
    mine = [
        job
        for job in book.jobs.values()
        if place.id in {job.ticket.project, job.ticket.sequence, job.ticket.shot}
    ]
    return PlaceView(
        id=place.id,
        kind=place.kind,
        name=place.name,
        parent=place.parent,
        owner=place.owner,
        note=place.note,
        tags=place.tags,
        created=place.created,
        jobs=len(mine),
        frames=total(mine),
    )


def total(jobs: Iterable[Job]) -> FrameCounts:
    """Return how many frames of several jobs are in each state."""
    found = dict.fromkeys(FrameState, 0)
    for job in jobs:
        for state in FrameState:
            found[state] += job.count(state)
    return FrameCounts(**{state.value: count for state, count in found.items()})


def live_attempt(attempt: Attempt) -> AttemptView:
    """Describe an attempt that is assigned."""
    step = attempt.step
    frame = None if attempt.frame is None or step.single else step.number_of(attempt.frame)
    return AttemptView(
        id=attempt.id,
        task=attempt.task_id,
        step=step.spec.name,
        node=attempt.slot[0],
        slot=attempt.slot[1],
        frames="" if step.single else attempt.frames,
        state=attempt.state,
        made=attempt.made,
        started=attempt.started,
        frame=frame,
        progress=attempt.progress,
        eta=attempt.eta,
    )


def stored_attempt(job: Job, row: Any) -> AttemptView:
    """Describe an attempt as it is stored; one that is still assigned as it is."""
    step = job.steps[row.step]
    found = step.attempts.get(row.id)
    if found is not None:
        return live_attempt(found)
    return AttemptView(
        id=row.id,
        task=f"{job.id}-{row.task}",
        step=step.spec.name,
        node=row.node,
        slot=row.slot,
        frames="" if step.single else row.frames,
        state=TaskState(row.state),
        made=row.made,
        started=row.started,
        ended=row.ended,
        fault=row.fault,
        code=row.code,
        message=row.message,
    )


def slot_view(slot: Slot, closed: str) -> SlotView:
    """Describe a slot."""
    state = slot.report.state.value if slot.report is not None else "unknown"
    return SlotView(
        node=slot.node,
        slot=slot.name,
        live=slot.live,
        wanted=slot.wanted,
        note=slot.note,
        closed=closed,
        state=state if slot.live else "lost",
        card=slot.card,
        tags=sorted(slot.offer.tags),
        given_tags=slot.tags,
        report=slot.report if slot.live else None,
        attempts=[live_attempt(attempt) for attempt in slot.attempts.values()],
        frames_done=slot.frames_done,
        failures=slot.failures,
        last_seen=slot.last_seen,
    )


def _step_view(step: Step, now: float) -> StepView:
    spec, queue = step.spec, step.queue
    return StepView(
        name=spec.name,
        type=spec.type,
        engine=spec.engine,
        work=spec.work,
        state=step.state,
        depends=list(dict.fromkeys(step.needs)),
        frames="" if step.single else format_frames(step.strip.numbers),
        counts=FrameCounts(**{state.value: step.strip.count(state) for state in FrameState}),
        chunk=spec.chunk,
        frame_seconds=step.frame_seconds,
        startup_seconds=step.startup_seconds,
        held=queue.held,
        not_before=queue.not_before if queue.not_before > now else None,
        blocked=sorted(queue.blocked),
        failure=step.failure,
    )


def job_view(book: Book, job: Job, now: float) -> JobView:
    """Describe a job with its steps."""
    ticket = job.ticket
    return JobView(
        **report(book, job).model_dump(),
        note=ticket.note,
        sequence=name_of(book, ticket.sequence),
        project_id=ticket.project,
        sequence_id=ticket.sequence,
        shot_id=ticket.shot,
        request=job.request,
        steps=[_step_view(step, now) for step in job.steps],
        attempts=[live_attempt(attempt) for attempt in job.attempts()],
    )


def frames_view(step: Step, rows: Sequence[Any]) -> FramesView:
    """Describe a step's frames, with what is stored of those that are done."""
    strip = step.strip
    nodes: dict[int, str] = {}
    for attempt in step.attempts.values():
        nodes.update(dict.fromkeys(attempt.indexes, attempt.slot[0]))
    found = {row.frame: row for row in rows}
    frames = [int(number) for number in strip.numbers]
    results = [found.get(number) for number in frames]
    return FramesView(
        step=step.spec.name,
        numbers=format_frames(frames),
        frames=frames,
        states=[strip.state(index) for index in range(len(strip))],
        tries=list(strip.tries),
        seconds=[None if row is None else row.seconds for row in results],
        nodes=[nodes.get(index) if row is None else row.node for index, row in enumerate(results)],
    )


def farm_view(
    core: Core, closed: Callable[[Slot], str], last: dict[str, Any] | None, problem: str
) -> FarmView:
    """Describe the farm."""
    book = core.book
    open_jobs = [job for job in book.jobs.values() if not job.over]
    states = dict.fromkeys(JobState, 0)
    for job in book.jobs.values():
        states[job.state] += 1
    etas = [eta(job) for job in open_jobs if job.state is JobState.ACTIVE]
    return FarmView(
        slots=[slot_view(slot, closed(slot)) for _, slot in sorted(book.slots.items())],
        jobs=states,
        frames=total(open_jobs),
        frames_per_minute=_pace(core),
        tasks_done=core.tasks_done,
        eta=max((one for one in etas if one is not None), default=None),
        last=last,
        problem=problem,
    )


def _pace(core: Core) -> float:
    if len(core.pace) < 2:  # noqa: PLR2004 - a pace needs two moments
        return 0.0
    began, before = core.pace[0]
    seconds = core.monotonic() - began
    return 60.0 * (core.frames_done - before) / seconds if seconds > 0 else 0.0
