"""The farm in the database: rows in and out, several at a time. What they mean is the services' business."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select

from callboard_broker.store.database import Trouble, trouble
from callboard_broker.store.farm_models import (
    AttemptRow,
    JobRow,
    LogRow,
    PlaceRow,
    ResultRow,
    SegmentRow,
    SettingRow,
    SlotRow,
)
from callboard_broker.store.models import Base
from callboard_broker.store.upsert import upsert_all

__all__ = [
    "Changes",
    "attempt",
    "attempts",
    "frame_results",
    "last_job",
    "last_result",
    "load",
    "logs",
    "result",
    "results",
    "rows",
    "save",
    "save_apart",
]

#: Tables whose rows belong to a job and go with it.
_OF_JOBS: tuple[Any, ...] = (SegmentRow, ResultRow, AttemptRow, LogRow)
#: Rows removed per statement.
_CHUNK = 500

#: A row's own attribute ``t`` is in the way of a column of this name.
_RESULT = [
    column.label("done_at") if column.name == "t" else column for column in ResultRow.__table__.columns
]

Row = Mapping[str, Any]


@dataclass(slots=True)
class Changes:
    """What one transaction writes; a later row of a key replaces an earlier one."""

    jobs: dict[int, Row] = field(default_factory=dict)
    places: dict[int, Row] = field(default_factory=dict)
    segments: dict[tuple[int, int, int], Row] = field(default_factory=dict)
    results: dict[tuple[int, int, int], Row] = field(default_factory=dict)
    attempts: dict[str, Row] = field(default_factory=dict)
    logs: dict[tuple[str, int], Row] = field(default_factory=dict)
    slots: dict[tuple[str, str], Row] = field(default_factory=dict)
    settings: dict[str, Row] = field(default_factory=dict)
    no_results: set[tuple[int, int, int]] = field(default_factory=set)
    no_step_results: set[tuple[int, int]] = field(default_factory=set)
    no_logs: set[tuple[int, str]] = field(default_factory=set)
    no_jobs: set[int] = field(default_factory=set)
    no_places: set[int] = field(default_factory=set)
    no_slots: set[tuple[str, str]] = field(default_factory=set)
    no_settings: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__slots__)


def save(connection: Connection, changes: Changes) -> None:
    """Write everything, inside the caller's transaction."""
    _remove(connection, changes)
    for model, found in _tables(changes):
        upsert_all(connection, model, found)


def save_apart(write: Callable[[], AbstractContextManager[Connection]], changes: Changes) -> list[Exception]:
    """Write row by row, each in a transaction of its own; return why some cannot be written at all.

    Raises:
        Exception: the database cannot be written now.
    """
    refused: list[Exception] = []
    with write() as connection:
        _remove(connection, changes)
    for model, found in _tables(changes):
        for row in found:
            try:
                with write() as connection:
                    upsert_all(connection, model, [row])
            except Exception as error:
                if trouble(error) is not Trouble.BUG:
                    raise
                refused.append(error)
    return refused


def _tables(changes: Changes) -> Iterator[tuple[type[Base], list[Row]]]:
    for model, found in (
        (PlaceRow, changes.places),
        (JobRow, changes.jobs),
        (SegmentRow, changes.segments),
        (ResultRow, changes.results),
        (AttemptRow, changes.attempts),
        (LogRow, changes.logs),
        (SlotRow, changes.slots),
        (SettingRow, changes.settings),
    ):
        yield model, list(found.values())


_NO_RESULT = delete(ResultRow).where(
    ResultRow.job == bindparam("j"), ResultRow.step == bindparam("s"), ResultRow.frame == bindparam("f")
)


def _remove(connection: Connection, changes: Changes) -> None:
    for job, step in changes.no_step_results:
        connection.execute(delete(ResultRow).where(ResultRow.job == job, ResultRow.step == step))
    if changes.no_results:
        connection.execute(_NO_RESULT, [dict(zip("jsf", key, strict=True)) for key in changes.no_results])
    for job, attempt in changes.no_logs:
        connection.execute(delete(LogRow).where(LogRow.job == job, LogRow.attempt == attempt))
    _remove_keys(connection, JobRow, JobRow.id, changes.no_jobs)
    for model in _OF_JOBS:
        _remove_keys(connection, model, model.job, changes.no_jobs)
    _remove_keys(connection, PlaceRow, PlaceRow.id, changes.no_places)
    _remove_keys(connection, SettingRow, SettingRow.name, changes.no_settings)
    for node, slot in changes.no_slots:
        connection.execute(delete(SlotRow).where(SlotRow.node == node, SlotRow.slot == slot))


def _remove_keys(connection: Connection, model: type[Base], column: Any, keys: Iterable[Any]) -> None:
    wanted = list(keys)
    for start in range(0, len(wanted), _CHUNK):
        connection.execute(delete(model).where(column.in_(wanted[start : start + _CHUNK])))


def rows(connection: Connection, model: type[Base], *where: Any) -> Iterator[Any]:
    """Yield a table's rows as named tuples."""
    return iter(connection.execute(select(*model.__table__.columns).where(*where)))


@dataclass(frozen=True, slots=True)
class Loaded:
    """All that scheduling needs."""

    places: list[Any]
    jobs: list[Any]
    segments: list[Any]
    attempts: list[Any]
    slots: list[Any]
    settings: list[Any]


def load(connection: Connection) -> Loaded:
    """Read what the last run left: every job and slot, the frames' states, and the attempts that have not ended."""
    return Loaded(
        places=list(rows(connection, PlaceRow)),
        jobs=list(rows(connection, JobRow)),
        segments=list(rows(connection, SegmentRow)),
        attempts=list(rows(connection, AttemptRow, AttemptRow.ended.is_(None))),
        slots=list(rows(connection, SlotRow)),
        settings=list(rows(connection, SettingRow)),
    )


def attempts(connection: Connection, job: int, limit: int, offset: int = 0) -> Sequence[Any]:
    """Return a job's attempts, the newest first."""
    found = (
        select(*AttemptRow.__table__.columns)
        .where(AttemptRow.job == job)
        .order_by(AttemptRow.task.desc(), AttemptRow.made.desc())
        .limit(limit)
        .offset(offset)
    )
    return list(connection.execute(found))


def attempt(connection: Connection, attempt_id: str) -> Any | None:
    """Return one attempt, also one that has ended."""
    found = select(*AttemptRow.__table__.columns).where(AttemptRow.id == attempt_id)
    return connection.execute(found).first()


def results(
    connection: Connection, job: int, step: int | None = None, *, limit: int | None = None, offset: int = 0
) -> Iterator[Any]:
    """Yield what became of a job's frames and which node made them, by step and frame."""
    wanted = [ResultRow.job == job, *([] if step is None else [ResultRow.step == step])]
    found = (
        select(*_RESULT, AttemptRow.node)
        .join(AttemptRow, AttemptRow.id == ResultRow.attempt, isouter=True)
        .where(*wanted)
        .order_by(ResultRow.step, ResultRow.frame)
        .limit(limit)
        .offset(offset)
    )
    return iter(connection.execute(found))


def frame_results(connection: Connection, job: int, step: int) -> list[Any]:
    """Return where and how fast each frame of a step was made."""
    found = (
        select(ResultRow.frame, ResultRow.seconds, AttemptRow.node)
        .join(AttemptRow, AttemptRow.id == ResultRow.attempt, isouter=True)
        .where(ResultRow.job == job, ResultRow.step == step)
    )
    return list(connection.execute(found))


def result(connection: Connection, job: int, step: int, frame: int) -> Any | None:
    """Return what became of one frame; None if it is not done."""
    found = select(*_RESULT).where(ResultRow.job == job, ResultRow.step == step, ResultRow.frame == frame)
    return connection.execute(found).first()


def last_result(connection: Connection, job: int) -> Any | None:
    """Return the newest result of a job that has a picture."""
    found = (
        select(*_RESULT)
        .where(ResultRow.job == job, ResultRow.thumbnail.is_not(None))
        .order_by(ResultRow.t.desc())
        .limit(1)
    )
    return connection.execute(found).first()


def logs(connection: Connection, job: int, attempt: str) -> list[Any]:
    """Return the parts of an attempt's log, in order."""
    found = (
        select(LogRow.part, LogRow.lines, LogRow.size, LogRow.data)
        .where(LogRow.job == job, LogRow.attempt == attempt)
        .order_by(LogRow.part)
    )
    return list(connection.execute(found))


def last_job(connection: Connection) -> int:
    """Return the highest number a job has, or had while it left anything; 0 if there was none."""
    return max(
        connection.execute(select(func.max(column))).scalar() or 0 for column in (JobRow.id, AttemptRow.job)
    )
