"""What people do with jobs: make, hold, pause, cancel, requeue, change and delete them. On the farm's thread only.

Everything is checked before anything is changed, so that a mass operation happens to all that match or to none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from callboard_broker.services.farm.attempts import Attempts
from callboard_broker.services.farm.core import Core
from callboard_broker.services.farm.files import Files
from callboard_broker.services.farm.jobtypes import TaskSpec
from callboard_broker.services.farm.making import make_job
from callboard_broker.services.farm.model import Attempt, Job, Step
from callboard_broker.services.farm.places import Places
from callboard_broker.services.farm.roster import Roster
from callboard_core.errors import BadRequest, Conflict
from callboard_core.farm.frames import parse_frames
from callboard_core.farm.messages import SlotCommand
from callboard_core.farm.requests import HIGHEST_PRIORITY, JobAction, JobRequest
from callboard_core.farm.states import FrameEvent, FrameState, JobEvent, JobState, may

__all__ = ["CHANGEABLE", "Control"]

#: What of a job can be changed after it was made.
CHANGEABLE = ("name", "owner", "tier", "priority", "tags", "note", "project", "sequence", "shot")
_TEXTS = {"name": 200, "owner": 100, "note": 10_000}
_NUMBERS = {"tier": (0, 9), "priority": (0, HIGHEST_PRIORITY)}
_PLAIN: Mapping[str, JobEvent] = {"hold": JobEvent.HOLD, "release": JobEvent.RELEASE}
_UNFINISHED = (FrameState.FAILED, FrameState.CANCELLED)
_AT_WORK = frozenset({FrameState.ASSIGNED, FrameState.RENDERING})


class Control:
    """Changes jobs."""

    def __init__(self, core: Core, attempts: Attempts, roster: Roster, files: Files, places: Places) -> None:
        self._core = core
        self._attempts = attempts
        self._roster = roster
        self._files = files
        self._places = places
        self._next = 1

    def begin_at(self, job_id: int) -> None:
        """Give the next job this number."""
        self._next = job_id

    # -- making ---------------------------------------------------------------------------------------------

    def submit(self, request: JobRequest, specs: Sequence[TaskSpec], owner: str) -> Job:
        """Make a job.

        Raises:
            BadRequest: what it asks for does not fit together, or an input is not here.
        """
        core = self._core
        job = make_job(self._next, request, specs, owner=owner, now=core.clock())
        self._files.check_inputs(request.inputs)
        self._files.keep_inputs(job, request.inputs)
        places = self._places.path(request.project, request.sequence, request.shot, owner=job.ticket.owner)
        job.ticket.project, job.ticket.sequence, job.ticket.shot = places
        self._next += 1
        core.book.jobs[job.id] = job
        for step in job.steps:
            core.ledger.frames(step)
        core.refresh_job(job)
        core.touch(job)
        core.happened.append((job, "submitted"))
        return job

    # -- acting ---------------------------------------------------------------------------------------------

    def act(self, jobs: Sequence[Job], action: JobAction) -> None:
        """Do something with jobs.

        Raises:
            Conflict: it cannot be done to one of them as it is; nothing was changed.
            BadRequest: the frames are none of the job's.
        """
        match action.do:
            case "cancel":
                self._all(jobs, JobEvent.CANCEL, self._cancel)
            case "pause":
                self._all(jobs, JobEvent.PAUSE, self._pause)
            case "resume":
                self._all(jobs, JobEvent.RESUME, self._resume)
            case "requeue":
                self._requeue_all(jobs, action)
            case "delete":
                for job in jobs:
                    self._delete(job, remove=action.files == "remove")
            case "hold" | "release":
                event = _PLAIN[action.do]
                self._all(jobs, event, lambda job: self._core.happen(job, event, reason=""))

    def _all(self, jobs: Sequence[Job], event: JobEvent, do: Callable[[Job], object]) -> None:
        wrong = [job for job in jobs if not may(job.state, event)]
        if wrong:
            raise Conflict(f"job {wrong[0].id} is {wrong[0].state}; it cannot be asked to {event}")
        for job in jobs:
            do(job)

    def _cancel(self, job: Job) -> None:
        self._core.happen(job, JobEvent.CANCEL, reason="cancelled")
        for attempt in list(job.attempts()):
            self.stop(attempt, FrameEvent.CANCEL)
        for step in job.steps:
            self._core.apply(step, FrameEvent.CANCEL, step.strip.within(FrameState.WAITING))
            self._core.refresh(step)

    def give_up(self, step: Step, reason: str) -> None:
        """End a job of which nothing can be done."""
        job = step.job
        event = JobEvent.BROKE if may(job.state, JobEvent.BROKE) else JobEvent.CANCEL
        self._core.happen(job, event, reason=f"{step.spec.name}: {reason}")
        for attempt in list(job.attempts()):
            self.stop(attempt, FrameEvent.RELEASED)

    def stop(self, attempt: Attempt, event: FrameEvent) -> None:
        """Take an attempt's frames back and have its slot stop."""
        if attempt.cancelled:
            return
        self._attempts.take_back(attempt, event)
        slot = self._core.book.slots.get(attempt.slot)
        if slot is not None:
            self._roster.command(slot, SlotCommand(do="cancel", attempt=attempt.id))

    def _pause(self, job: Job) -> None:
        """What runs is stopped where it is; what was only sent ahead goes back to the queue."""
        self._core.happen(job, JobEvent.PAUSE, reason="paused")
        for attempt in list(job.attempts()):
            first = next(iter(self._attempts.of_slot(attempt.slot)), None)
            if first is attempt:
                self._tell(attempt, "pause")
            else:
                self.stop(attempt, FrameEvent.RELEASED)

    def _resume(self, job: Job) -> None:
        self._core.happen(job, JobEvent.RESUME, reason="")
        for attempt in job.attempts():
            self._tell(attempt, "resume")
        self._core.follow(job)

    def _tell(self, attempt: Attempt, do: Literal["pause", "resume"]) -> None:
        slot = self._core.book.slots.get(attempt.slot)
        if slot is not None:
            self._roster.command(slot, SlotCommand(do=do, attempt=attempt.id))

    # -- requeueing -----------------------------------------------------------------------------------------

    def _requeue_all(self, jobs: Sequence[Job], action: JobAction) -> None:
        wrong = [job for job in jobs if not may(job.state, JobEvent.REQUEUE)]
        if wrong:
            raise Conflict(f"job {wrong[0].id} is {wrong[0].state}; resume or release it first")
        chosen = [(job, self._choose(job, action)) for job in jobs]
        for job, steps in chosen:
            self._requeue(job, steps)

    def _choose(self, job: Job, action: JobAction) -> dict[int, list[int]]:
        """Return the frames that are to be made again, by step."""
        if action.what == "frames" or action.frames is not None:
            if action.frames is None:
                raise BadRequest("frames: missing; say which, e.g. 3,5-10")
            step = job.step(action.step)
            wanted = parse_frames(action.frames)
            return {step.number: step.strip.indexes(wanted)}
        steps = job.steps if action.step is None else [job.step(action.step)]
        states = tuple(FrameState) if action.what == "all" else _UNFINISHED
        return {step.number: step.strip.within(*states) for step in steps}

    def _requeue(self, job: Job, chosen: dict[int, list[int]]) -> None:
        core = self._core
        redone: set[str] = set()
        for step in job.steps:  # a step comes after all it depends on
            indexes = chosen.get(step.number, [])
            if redone.intersection(step.needs):
                indexes = list(range(len(step.strip)))
                for attempt in list(step.attempts.values()):
                    self.stop(attempt, FrameEvent.RELEASED)
            if self._make_again(step, indexes):
                redone.add(step.spec.name)
        if job.over and job.count(FrameState.WAITING):
            core.happen(job, JobEvent.REQUEUE, reason="")
        core.refresh_job(job)
        core.touch(job)
        core.follow(job)

    def _make_again(self, step: Step, indexes: Iterable[int]) -> list[int]:
        core = self._core
        free = [index for index in indexes if step.strip.state(index) not in _AT_WORK]
        touched = core.apply(step, FrameEvent.REQUEUE, free)
        step.strip.forgive(touched)
        if touched:
            core.forget_results(step, None if step.single else [step.number_of(index) for index in touched])
            step.queue.blocked.clear()
            step.job.faults.pop(step.spec.type, None)
            step.in_a_row.clear()
            step.queue.not_before, step.failure = 0.0, ""
        return touched

    # -- changing -------------------------------------------------------------------------------------------

    def change(self, jobs: Sequence[Job], values: Mapping[str, Any]) -> None:
        """Change some of :data:`CHANGEABLE` of jobs.

        Raises:
            BadRequest: that cannot be changed, or not to this; nothing was changed.
            NotFound: there is no such project, sequence or shot.
        """
        checked = {name: self._check(name, value) for name, value in values.items()}
        for job in jobs:
            for name, value in checked.items():
                if name == "owner":
                    self._core.change_owner(job, value)
                else:
                    setattr(job.ticket, name, value)
            self._core.refresh_job(job)
            self._core.touch(job)

    def _check(self, name: str, value: Any) -> Any:
        if name in _TEXTS:
            if isinstance(value, str) and len(value) <= _TEXTS[name] and (value or name != "name"):
                return value
            raise BadRequest(f"{name}: expected a text of at most {_TEXTS[name]} characters")
        if name in _NUMBERS:
            low, high = _NUMBERS[name]
            if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
                return value
            raise BadRequest(f"{name}: expected a whole number from {low} to {high}")
        if name == "tags":
            if isinstance(value, list) and all(isinstance(tag, str) and tag for tag in value):
                return sorted(set(value))
            raise BadRequest("tags: expected a list of texts")
        if name in CHANGEABLE:
            return None if value is None else self._places.find(name, value).id
        raise BadRequest(f"{name} of a job cannot be changed; {', '.join(CHANGEABLE)} can")

    # -- deleting -------------------------------------------------------------------------------------------

    def _delete(self, job: Job, *, remove: bool) -> None:
        core = self._core
        if not job.over:
            self._cancel(job)
        for attempt in list(job.attempts()):
            slot = core.book.slots.get(attempt.slot)
            core.end(attempt)
            if slot is not None and slot.live:
                self._roster.synchronise(slot)  # it may still be stopping
        core.drop(job)
        del core.book.jobs[job.id]
        core.ledger.no_job(job)
        core.changed.add(job.id)
        core.happened.append((job, "deleted"))
        let_go = self._files.drop(job, remove=remove)
        core.desk.then(lambda: threading.Thread(target=let_go, name="farm-files", daemon=True).start())

    def state_counts(self) -> dict[JobState, int]:
        """Return how many jobs are in each state."""
        counts = dict.fromkeys(JobState, 0)
        for job in self._core.book.jobs.values():
            counts[job.state] += 1
        return counts
