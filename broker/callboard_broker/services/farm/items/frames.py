"""Frames as rows, looked up by their job."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from callboard_broker.services.farm.items.base import Filters, Row, Table, Values, only
from callboard_broker.services.farm.model import Step
from callboard_broker.services.farm.service import Farm
from callboard_broker.services.farm.strip import code
from callboard_broker.store import farm as store
from callboard_core.errors import BadRequest, Conflict
from callboard_core.farm.frames import format_frames
from callboard_core.farm.requests import JobAction
from callboard_core.farm.states import FrameEvent, FrameState, JobEvent, may

__all__ = ["FrameValues", "Frames"]

_RUNNING = frozenset({FrameState.ASSIGNED, FrameState.RENDERING})
_STATES = tuple(FrameState)
_NOTHING: Mapping[str, None] = dict.fromkeys(("seconds", "width", "height", "t", "file", "artifact"))
#: What is in the database only.
_OF_RESULTS = {*_NOTHING, "attempt", "client"}


class FrameValues(Values):
    """What can be asked of a frame."""

    status: Literal["waiting", "cancelled"]
    """``waiting`` has it made again; ``cancelled`` gives it up."""


class Frames(Table):
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
        strips = self._strips(jobs, only(filters, "step"))
        found = _Picked(only(filters, "status"), only(filters, "number"))
        rows = (row for strip in strips for row in _rows(strip, found))
        return self._with_results(rows) if filters.keys() & _OF_RESULTS else rows

    def complete(self, rows: list[Row]) -> list[Row]:
        """Add what became of the frames."""
        return list(self._with_results(rows))

    def _strips(self, jobs: Iterable[str], steps: Sequence[str] | None) -> list[_Strip]:
        """Copy the states, so that rows are made while the farm goes on."""
        with self._farm.reading() as book:
            known = [book.jobs[int(job)] for job in jobs if job.isdecimal() and int(job) in book.jobs]
            return [
                _strip(step)
                for job in known
                for step in job.steps
                if steps is None or step.spec.name in steps
            ]

    def _with_results(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Read the results of a job only once, and of none that has no frame that is done."""
        known: dict[str, dict[tuple[int, int], Row]] = {}
        for row in rows:
            if row["status"] == FrameState.DONE and row["attempt"] is None:
                if row["job"] not in known:
                    known[row["job"]] = self._results(row["job"])
                row.update(known[row["job"]].get((row["_step"], row["number"]), {}))
            yield row

    def _results(self, job: str) -> dict[tuple[int, int], Row]:
        with self._farm.stored() as connection:
            return {(one.step, one.frame): _result(one) for one in store.results(connection, int(job))}

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


@dataclass(frozen=True, slots=True)
class _Strip:
    """A copy of a step's frames; ``holders`` has who works on what: index → node and attempt."""

    job: str
    step: str
    number: int
    numbers: Sequence[int]
    states: bytes
    tries: bytes
    holders: Mapping[int, tuple[str, str]]


def _strip(step: Step) -> _Strip:
    holders = {
        index: (attempt.slot[0], attempt.id)
        for attempt in step.attempts.values()
        for index in attempt.indexes
    }
    strip = step.strip
    return _Strip(
        str(step.job.id),
        step.spec.name,
        step.number,
        strip.numbers,
        bytes(strip.states),
        bytes(strip.tries),
        holders,
    )


class _Picked:
    """Which frames a filter leaves, as far as it is by state and number."""

    def __init__(self, states: Sequence[str] | None, numbers: Sequence[str] | None) -> None:
        self._codes = None if states is None else {code(one) for one in FrameState if one.value in states}
        self._numbers = (
            None if numbers is None else {int(one) for one in numbers if one.lstrip("-").isdecimal()}
        )

    def indexes(self, strip: _Strip) -> Iterable[int]:
        if self._numbers is not None:
            found: Iterable[int] = (i for i, number in enumerate(strip.numbers) if number in self._numbers)
        else:
            found = range(len(strip.states))
        return found if self._codes is None else (i for i in found if strip.states[i] in self._codes)


def _rows(strip: _Strip, picked: _Picked) -> Iterator[Row]:
    for index in picked.indexes(strip):
        number, state = int(strip.numbers[index]), _STATES[strip.states[index]]
        node, attempt = strip.holders.get(index, (None, None)) if state in _RUNNING else (None, None)
        yield {
            "id": f"{strip.job}/{strip.step}/{number}",
            "job": strip.job,
            "step": strip.step,
            "_step": strip.number,
            "number": number,
            "status": state.value,
            "tries": strip.tries[index],
            "client": node,
            "attempt": attempt,
            **_NOTHING,
        }


def _result(result: Any) -> Row:
    artifact = json.loads(result.artifact) if result.artifact else {}
    return {
        "client": result.node,
        "attempt": result.attempt,
        "seconds": result.seconds,
        "width": result.width,
        "height": result.height,
        "t": result.done_at,
        "file": artifact.get("name"),
        "artifact": artifact.get("sha256"),
    }
