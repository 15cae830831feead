"""Who did what: appended in batches, found by filters, thinned by age and number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select

from callboard_broker.store.models import AuditRow

__all__ = ["AuditRecord", "Wanted", "add", "find", "last_id", "thin"]


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Something that somebody did, or tried to.

    Attributes:
        t: when, Unix seconds by the board's clock; of several alike, the last one.
        who: the user, as far as it is known.
        origin: the address it came from, and over MQTT the client id.
        what: a verb such as ``command``, ``login`` or ``user.add``.
        subject: what it was done to: a topic, path, name or id.
        result: ``ok``, an error code, ``timeout`` or ``sent`` (nobody was to answer).
        detail: one sentence, or nothing.
        count: how many alike this stands for.
        id: grows with time; 0 before it is stored.
    """

    t: float
    who: str
    origin: str
    what: str
    subject: str
    result: str
    detail: str = ""
    count: int = 1
    id: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records; times in Unix seconds. ``what`` also finds all that begins with it and a dot."""

    who: str | None = None
    what: str | None = None
    subject: str | None = None
    result: str | None = None
    since: float | None = None
    until: float | None = None


def add(connection: Connection, records: Sequence[AuditRecord]) -> None:
    """Append records."""
    if records:
        connection.execute(insert(AuditRow), [asdict(record) for record in records])


def last_id(connection: Connection) -> int:
    """Return the id of the newest record; 0 if there is none."""
    return connection.execute(select(func.max(AuditRow.id))).scalar() or 0


def find(
    connection: Connection, wanted: Wanted, *, before: int | None = None, after: int | None = None, limit: int
) -> list[AuditRecord]:
    """Return records: newest first, those with ids below ``before``; or oldest first, those above ``after``."""
    query = select(AuditRow.__table__).where(*_conditions(wanted)).limit(limit)
    if after is not None:
        query = query.where(AuditRow.id > after).order_by(AuditRow.id)
    else:
        query = query.order_by(AuditRow.id.desc())
        if before is not None:
            query = query.where(AuditRow.id < before)
    return [AuditRecord(**row) for row in connection.execute(query).mappings()]


def _conditions(wanted: Wanted) -> Iterable[ColumnElement[bool]]:
    if wanted.who is not None:
        yield AuditRow.who == wanted.who
    if wanted.what is not None:
        yield (AuditRow.what == wanted.what) | AuditRow.what.startswith(f"{wanted.what}.", autoescape=True)
    if wanted.subject is not None:
        yield AuditRow.subject.contains(wanted.subject, autoescape=True)
    if wanted.result is not None:
        yield AuditRow.result == wanted.result if wanted.result != "failed" else AuditRow.result.not_in(_WELL)
    if wanted.since is not None:
        yield AuditRow.t >= wanted.since
    if wanted.until is not None:
        yield AuditRow.t < wanted.until


_WELL = ("ok", "sent")


def thin(connection: Connection, before: float, most: int, step: int) -> int:
    """Remove up to ``step`` records: those from before ``before`` (Unix seconds), then while there are more than ``most``.

    Of too many, what was refused goes first, oldest first: anybody can have something refused as often as he likes, and must
    not push out of the log what was done.
    """
    found = _ids(connection, AuditRow.t < before, step)
    if not found:
        over = min(step, _count_beyond(connection, most))
        found = _ids(connection, AuditRow.result.not_in(_WELL), over)
        found += _ids(connection, AuditRow.result.in_(_WELL), over - len(found))
    if found:
        connection.execute(delete(AuditRow).where(AuditRow.id.in_(found)))
    return len(found)


def _ids(connection: Connection, wanted: ColumnElement[bool], most: int) -> list[int]:
    """The oldest ones."""
    if most <= 0:
        return []
    query = select(AuditRow.id).where(wanted).order_by(AuditRow.id).limit(most)
    return list(connection.execute(query).scalars().all())


def _count_beyond(connection: Connection, most: int) -> int:
    if last_id(connection) <= most:  # ids begin at 1, so there cannot be more
        return 0
    count: int = connection.execute(select(func.count()).select_from(AuditRow)).scalar_one()
    return count - most
