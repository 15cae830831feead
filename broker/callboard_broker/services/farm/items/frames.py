"""Frames as rows, looked up by their job."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from callboard_broker.services.farm.items.base import Filters, Row, Values, only
from callboard_broker.services.farm.model import Job, Step
from callboard_broker.services.farm.service import Farm
from callboard_broker.store import farm as store
from callboard_core.errors import BadRequest, Conflict
from callboard_core.farm.frames import format_frames
from callboard_core.farm.requests import JobAction
from callboard_core.farm.states import FrameEvent, FrameState, JobEvent, may

__all__ = ["FrameValues", "Frames"]

_RUNNING = frozenset({FrameState.ASSIGNED, FrameState.RENDERING})
_RESULT = ("seconds", "width", "height", "t", "file", "artifact")


class FrameValues(Values):
    """What can be asked of a frame."""

    status: Literal["waiting", "cancelled"]
    """``waiting`` has it made again; ``cancelled`` gives it up."""


class Frames:
    """The frames of jobs; a step that is one piece of work has one, with the number 0."""

    name = "frame"
    aliases = ("frames",)
    creates = "a job has the frames it was submitted with"
    updates = FrameValues
    deletes = "it goes with its job; cancel it with an update"
    needs = ("job",)
    fields: Mapping[str, str] = {
        "id": "job/step/number",
        "job": "the job's id",
        "step": "the job's step",
        "number": "of the frame",
        "status": "waiting, assigned, rendering, done, failed or cancelled",
        "tries": "that failed",
        "client": "the node that has it, or made it",
        "attempt": "the attempt that has it, or made it",
        "seconds": "it took",
        "width": "pixels",
        "height": "pixels",
        "t": "Unix seconds when it was done",
        "file": "its name",
        "artifact": "SHA-256 of the file",
    }

    def __init__(self, farm: Farm) -> None:
        self._farm = farm

    def rows(self, filters: Filters) -> Iterable[Row]:
        """See :class:`~callboard_broker.services.farm.items.base.Item`."""
        jobs = only(filters, "job")
        if jobs is None:
            raise BadRequest("filters.job: expected a job's id, or a list of them")
        wanted = only(filters, "status")
        states = [state for state in FrameState if wanted is None or state.value in wanted]
        with self._farm.reading() as book:
            found = [book.job(job) for job in jobs if job.isdecimal() and int(job) in book.jobs]
            rows = [row for job in found for step in job.steps for row in _rows(step, states)]
        self._add_results(found, rows)
        return rows

    def _add_results(self, jobs: Iterable[Job], rows: list[Row]) -> None:
        done = {
            (row["job"], row["step"], row["number"]): row for row in rows if row["status"] == FrameState.DONE
        }
        if not done:
            return
        with self._farm.stored() as connection:
            for job in jobs:
                for result in store.results(connection, job.id):
                    row = done.get((str(job.id), job.steps[result.step].spec.name, result.frame))
                    if row is not None:
                        row.update(_result(result))

    def create(self, values: Any, who: str) -> Row:
        """Never called: a job's frames are there from the beginning."""
        raise NotImplementedError

    def delete(self, rows: Sequence[Row], values: Any) -> None:
        """Never called: they go with their job."""
        raise NotImplementedError

    def update(self, rows: Sequence[Row], values: FrameValues) -> None:
        """Make frames again, or give them up."""
        chosen: dict[tuple[str, str], list[int]] = {}
        for row in rows:
            chosen.setdefault((row["job"], row["step"]), []).append(row["number"])
        if values.status == "waiting":
            self._requeue(chosen)
        else:
            self._cancel(rows, chosen)

    def _requeue(self, chosen: Mapping[tuple[str, str], list[int]]) -> None:
        jobs = {job: self._farm.core.book.job(job) for job, _ in chosen}
        wrong = next((job for job in jobs.values() if not may(job.state, JobEvent.REQUEUE)), None)
        if wrong is not None:
            raise Conflict(f"job {wrong.id} is {wrong.state}; resume or release it first")
        for (job, step), numbers in chosen.items():
            action = JobAction(do="requeue", what="frames", frames=format_frames(numbers), step=step)
            self._farm.control.act([jobs[job]], action)

    def _cancel(self, rows: Sequence[Row], chosen: Mapping[tuple[str, str], list[int]]) -> None:
        busy = next(
            (row for row in rows if row["status"] in _RUNNING or row["status"] == FrameState.DONE), None
        )
        if busy is not None:
            remedy = "" if busy["status"] == FrameState.DONE else "; cancel its task"
            raise Conflict(f"frame {busy['number']} of job {busy['job']} is {busy['status']}{remedy}")
        core = self._farm.core
        for (job_id, name), numbers in chosen.items():
            step = core.book.job(job_id).step(name)
            core.apply(step, FrameEvent.CANCEL, step.strip.indexes(numbers))
            core.refresh(step)
            core.touch(step.job)
            core.follow(step.job)


def _rows(step: Step, states: list[FrameState]) -> Iterable[Row]:
    strip, job = step.strip, str(step.job.id)
    holder = {index: attempt for attempt in step.attempts.values() for index in attempt.indexes}
    for index in strip.within(*states):
        number, state = step.number_of(index), strip.state(index)
        attempt = holder.get(index) if state in _RUNNING else None
        yield {
            "id": f"{job}/{step.spec.name}/{number}",
            "job": job,
            "step": step.spec.name,
            "number": number,
            "status": state.value,
            "tries": strip.tries[index],
            "client": attempt.slot[0] if attempt else None,
            "attempt": attempt.id if attempt else None,
            **dict.fromkeys(_RESULT),
        }


def _result(result: Any) -> Row:
    artifact = json.loads(result.artifact) if result.artifact else {}
    return {
        "attempt": result.attempt,
        "seconds": result.seconds,
        "width": result.width,
        "height": result.height,
        "t": result._asdict()["t"],
        "file": artifact.get("name"),
        "artifact": artifact.get("sha256"),
    }
