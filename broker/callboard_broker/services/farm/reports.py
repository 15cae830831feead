"""How a job looks to others: the report that is published, and when it will be done. Pure."""

from __future__ import annotations

from callboard_broker.services.farm.book import Book
from callboard_broker.services.farm.finding import name_of
from callboard_broker.services.farm.model import Job, Step
from callboard_core.farm.reports import FrameCounts, JobReport
from callboard_core.farm.states import FrameState

__all__ = ["counts", "eta", "report"]


def counts(job: Job) -> FrameCounts:
    """Return how many frames are in each state."""
    return FrameCounts(**{state.value: job.count(state) for state in FrameState})


def report(book: Book, job: Job) -> JobReport:
    """Return how a job is."""
    found = counts(job)
    ticket = job.ticket
    return JobReport(
        job=str(job.id),
        name=ticket.name,
        state=job.state,
        type=ticket.type,
        owner=ticket.owner,
        project=name_of(book, ticket.project),
        shot=name_of(book, ticket.shot),
        tier=ticket.tier,
        priority=ticket.priority,
        tags=ticket.tags,
        frames=found,
        progress=found.done / found.total if found.total else 0.0,
        eta=eta(job),
        running=sum(len(step.attempts) for step in job.steps),
        created=ticket.created,
        started=job.started,
        ended=job.ended,
        reason=job.reason or None,
    )


def eta(job: Job) -> float | None:
    """Return the seconds a job will still take with the slots it has now; None while that is unknown."""
    if job.over:
        return None
    total = 0.0
    for step in job.steps:
        left = _left(step)
        if left is None:
            return None
        total += left
    return total


def _left(step: Step) -> float | None:
    strip = step.strip
    left = len(strip) - strip.count(FrameState.DONE) - strip.count(FrameState.CANCELLED)
    if not left:
        return 0.0
    if step.frame_seconds is None:
        return None
    # What is sent ahead works on nothing yet, so slots count, not attempts.
    slots = len({attempt.slot for attempt in step.attempts.values()})
    return left * step.frame_seconds / slots if slots else None
