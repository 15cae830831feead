"""What the parts of the farm share: the book, who waits in line, what is in use, and how a job's state follows."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from callboard_broker.services.farm.book import Book
from callboard_broker.services.farm.ledger import Ledger
from callboard_broker.services.farm.lineup import Lineup
from callboard_broker.services.farm.model import OVER, Attempt, Job, Slot, Step
from callboard_broker.services.farm.rules import fits
from callboard_core.farm.states import FrameEvent, FrameState, JobEvent, JobState, may
from callboard_core.farm.states import step as follow
from callboard_core.settings import Farm as Settings

__all__ = ["Core", "Later"]


class Later(Protocol):
    """What the parts need of the desk."""

    def then(self, effect: Callable[[], object]) -> None:
        """Have something happen once all that changed is written."""

    def post(self, work: Callable[[], object]) -> None:
        """Have something done; from any thread."""

    def later(self, delay: float, work: Callable[[], object]) -> Any:
        """Have something done after ``delay`` seconds."""


class Core:
    """Belongs to the farm's thread; others read it while they hold the desk's lock.

    Attributes:
        online: tells whether the board is connected; while it is not, nobody else is to blame for silence.
        owners: how many attempts each owner has on slots.
        running: how many attempts count towards each limit.
        due: True when slots or queues have changed since they were last brought together.
        changed: jobs whose published state is out of date.
        happened: what happened to jobs, to be told as events: (job, what).
        frames_done: since the start.
        pace: frames done by when (monotonic), second by second for a minute.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        online: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.online = online
        self.clock = clock
        self.monotonic = monotonic
        self.book = Book()
        self.ledger = Ledger()
        self.lineup = Lineup()
        self.owners: dict[str, int] = {}
        self.running: dict[str, int] = {}
        self.due = False
        self.changed: set[int] = set()
        self.happened: list[tuple[Job, str]] = []
        self.frames_done = 0
        self.tasks_done = 0
        self.pace: deque[tuple[float, int]] = deque(maxlen=60)
        self.desk: Later

    # -- queues ---------------------------------------------------------------------------------------------

    def refresh(self, step: Step) -> None:
        """Put a step's queue where it belongs now."""
        queue, ticket = step.queue, step.job.ticket
        queue.owner = ticket.owner
        queue.tier, queue.priority, queue.order = ticket.tier, ticket.priority, step.job.order
        queue.tags = frozenset([*ticket.tags, *step.spec.tags])
        queue.ready = step.strip.count(FrameState.WAITING)
        queue.held = _held(step)
        queue.frame_seconds, queue.startup_seconds = step.frame_seconds, step.startup_seconds
        self.lineup.refresh(queue)
        self.due = True

    def refresh_job(self, job: Job) -> None:
        """Put all of a job's queues where they belong."""
        for step in job.steps:
            self.refresh(step)

    def drop(self, job: Job) -> None:
        """Take a job out of line for good."""
        for step in job.steps:
            self.lineup.discard(step.queue.key)

    # -- what is in use -------------------------------------------------------------------------------------

    def begin(self, attempt: Attempt) -> None:
        """Count an attempt in."""
        self.book.attempts[attempt.id] = attempt
        attempt.step.attempts[attempt.id] = attempt
        slot = self.book.slots.get(attempt.slot)
        if slot is not None:
            slot.attempts[attempt.id] = attempt
            slot.offer.at = str(attempt.job.id)
        self._count(attempt, 1)

    def end(self, attempt: Attempt) -> None:
        """Count an attempt out."""
        if self.book.attempts.pop(attempt.id, None) is None:
            return
        attempt.step.attempts.pop(attempt.id, None)
        slot = self.book.slots.get(attempt.slot)
        if slot is not None:
            slot.attempts.pop(attempt.id, None)
        self._count(attempt, -1)
        self.due = True

    def _count(self, attempt: Attempt, by: int) -> None:
        job = attempt.job
        _add(self.owners, job.ticket.owner, by)
        _add(job.hosts, attempt.slot[0], by)
        for name in attempt.step.queue.limits:
            _add(self.running, name, by)

    def change_owner(self, job: Job, owner: str) -> None:
        """Give a job to somebody else."""
        count = sum(1 for _ in job.attempts())
        _add(self.owners, job.ticket.owner, -count)
        _add(self.owners, owner, count)
        job.ticket.owner = owner

    # -- jobs -----------------------------------------------------------------------------------------------

    def touch(self, job: Job) -> None:
        """Note that a job has changed."""
        self.ledger.job(job)
        self.changed.add(job.id)

    def happen(self, job: Job, event: JobEvent, *, reason: str | None = None) -> None:
        """Have something happen to a job.

        Raises:
            Conflict: it cannot happen to it as it is.
        """
        before, job.state = job.state, follow(job.state, event)
        if reason is not None:
            job.reason = reason
        now = self.clock()
        if job.state is JobState.ACTIVE and job.started is None:
            job.started = now
            self.happened.append((job, "started"))
        if job.over != (before in OVER):
            job.ended = now if job.over else None
        # Whether something of it runs at the moment changes with every task, and nothing else with that.
        if job.state is not before and not {before, job.state} <= _IN_LINE:
            self.happened.append((job, job.state.value))
            self.refresh_job(job)
        self.touch(job)

    def apply(self, step: Step, event: FrameEvent, indexes: list[int]) -> list[int]:
        """Have something happen to frames; return the ones it changed."""
        touched = step.strip.apply(event, indexes)
        if touched:
            self.ledger.frames(step)
            self.changed.add(step.job.id)
        return touched

    def forget_results(self, step: Step, frames: list[int] | None) -> None:
        """Forget what became of frames; of all of them if none are named."""
        for frame in list(step.made) if frames is None else frames:
            step.made.pop(frame, None)
        self.ledger.no_results(step, frames)

    def follow(self, job: Job) -> None:
        """Let a job's state follow from its frames."""
        if job.over:
            return
        running = any(step.attempts for step in job.steps)
        if all(step.done for step in job.steps):
            self.happen(job, JobEvent.FINISHED, reason="")
        elif not running and not any(
            step.strip.count(FrameState.WAITING) and step.free for step in job.steps
        ):
            self._run_dry(job)
        elif running and may(job.state, JobEvent.STARTED):
            self.happen(job, JobEvent.STARTED)
        elif not running and job.state is JobState.ACTIVE:
            self.happen(job, JobEvent.IDLE)

    def _run_dry(self, job: Job) -> None:
        failed = job.count(FrameState.FAILED)
        if not failed:
            self.happen(job, JobEvent.CANCEL, reason="all that was left of it was cancelled")
            return
        failures = [step.failure for step in job.steps if step.failure]
        text = f"{failed} frame{'s' * (failed > 1)} failed"
        event = JobEvent.BROKE if may(job.state, JobEvent.BROKE) else JobEvent.CANCEL
        self.happen(job, event, reason=f"{text}: {failures[-1]}" if failures else text)

    def can_do(self, step: Step, slot: Slot) -> bool:
        """Tell whether a slot that is there could ever take work of a step."""
        offer, queue = slot.offer, step.queue
        return (
            slot.live
            and slot.wanted == "on"
            and slot.node not in queue.blocked
            and fits(queue.engine, queue.tags, offer) is None
        )


_IN_LINE = frozenset({JobState.QUEUED, JobState.ACTIVE})


def _held(step: Step) -> str:
    job = step.job
    match job.state:
        case JobState.QUEUED | JobState.ACTIVE:
            waits = [name for name in dict.fromkeys(step.needs) if not job.by_name[name].done]
            return f"waits for {', '.join(waits)}" if waits else ""
    return f"the job is {job.state.value}"


def _add(counts: dict[str, int], name: str, by: int) -> None:
    counts[name] = counts.get(name, 0) + by
    if counts[name] <= 0:
        del counts[name]
