"""Tasks (orders) as rows: what was given to which client, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from callboard_broker.services.farm.book import Book
from callboard_broker.services.farm.items.base import Filters, Row, Table, Values, only
from callboard_broker.services.farm.model import Attempt
from callboard_broker.services.farm.service import Farm
from callboard_broker.store import farm as store
from callboard_core.errors import Conflict
from callboard_core.farm.states import FrameEvent

__all__ = ["TaskValues", "Tasks"]

#: Ended tasks of one job that are read.
_MOST = 10_000


class TaskValues(Values):
    """What can be asked of a task that has not ended."""

    status: Literal["waiting", "cancelled"]
    """``waiting`` takes it back and gives it to whoever is next; ``cancelled`` gives it up."""


class Tasks(Table):
    """Those that are assigned; with a filter for their job also those that have ended."""

    name = "task"
    aliases = ("tasks", "order", "orders")
    creates = "the board cuts a job into tasks when slots become free"
    updates = TaskValues
    deletes = "it goes with its job; cancel it with an update"
    needs = ()
    fields: Mapping[str, str] = {
        "id": "job-number",
        "attempt": "what its slot and its log know it by",
        "job": "the job's id",
        "step": "the job's step",
        "frames": "e.g. 21-30",
        "client": "the node",
        "slot": "the slot of the node",
        "status": "assigned, running, done, failed, cancelled, or ready when it went back to the queue",
        "progress": "0 to 1, while it runs",
        "eta": "seconds it will still take",
        "frames_done": "while it runs",
        "made": "Unix seconds",
        "started": "Unix seconds",
        "ended": "Unix seconds",
        "fault": "whose, when it failed: node, job or licence",
        "code": "why it ended, as a stable name",
        "message": "why it ended, for people",
    }

    def __init__(self, farm: Farm) -> None:
        self._farm = farm

    def rows(self, filters: Filters) -> Iterable[Row]:
        """See :class:`~callboard_broker.services.farm.items.base.Item`."""
        jobs = only(filters, "job")
        with self._farm.reading() as book:
            live = {
                one.id: _row(one) for one in book.attempts.values() if jobs is None or str(one.job.id) in jobs
            }
            steps = _steps(book, jobs or [])
        return [*live.values(), *(row for row in self._ended(steps) if row["attempt"] not in live)]

    def _ended(self, steps: Mapping[int, list[str]]) -> Iterable[Row]:
        if not steps:
            return []
        with self._farm.stored() as connection:
            return [
                _stored_row(row, names)
                for job, names in steps.items()
                for row in store.attempts(connection, job, _MOST)
                if row.ended is not None
            ]

    def update(self, rows: Sequence[Row], values: TaskValues) -> None:
        """Take tasks away from their slots."""
        book = self._farm.core.book
        over = next((row for row in rows if row["attempt"] not in book.attempts), None)
        if over is not None:
            raise Conflict(f"task {over['id']} is {over['status']}; requeue its frames instead")
        event = FrameEvent.RELEASED if values.status == "waiting" else FrameEvent.CANCEL
        attempts = [book.attempts[row["attempt"]] for row in rows]
        for attempt in attempts:
            self._farm.control.stop(attempt, event)
        for step in {id(one.step): one.step for one in attempts}.values():
            self._farm.core.refresh(step)
            self._farm.core.follow(step.job)


def _steps(book: Book, jobs: Iterable[str]) -> dict[int, list[str]]:
    found = [book.jobs[int(job)] for job in jobs if job.isdecimal() and int(job) in book.jobs]
    return {job.id: [step.spec.name for step in job.steps] for job in found}


def _row(attempt: Attempt) -> Row:
    return {
        "id": attempt.task_id,
        "attempt": attempt.id,
        "job": str(attempt.job.id),
        "step": attempt.step.spec.name,
        "frames": "" if attempt.step.single else attempt.frames,
        "client": attempt.slot[0],
        "slot": attempt.slot[1],
        "status": attempt.state.value,
        "progress": attempt.progress,
        "eta": attempt.eta,
        "frames_done": attempt.done,
        "made": attempt.made,
        "started": attempt.started,
        "ended": attempt.ended,
        "fault": attempt.fault,
        "code": attempt.code,
        "message": attempt.message,
    }


def _stored_row(row: Any, steps: list[str]) -> Row:
    return {
        "id": f"{row.job}-{row.task}",
        "attempt": row.id,
        "job": str(row.job),
        "step": steps[row.step] if row.step < len(steps) else "",
        "frames": row.frames,
        "client": row.node,
        "slot": row.slot,
        "status": row.state,
        "progress": None,
        "eta": None,
        "frames_done": None,
        "made": row.made,
        "started": row.started,
        "ended": row.ended,
        "fault": row.fault,
        "code": row.code,
        "message": row.message,
    }
