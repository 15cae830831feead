"""Machines that asked to be let in, as stored. Of the ticket, which is a secret, only the SHA-256 is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, update

from callboard_broker.store.models import EnrolmentRow
from callboard_core.trust.enrolment import EnrolmentState

__all__ = [
    "EnrolmentRecord",
    "add",
    "by_number",
    "by_ticket",
    "change",
    "count_pending",
    "every",
    "forget_node",
    "latest",
    "of_nodes",
    "remove_old",
    "same",
    "was_followed",
]


@dataclass(frozen=True, slots=True)
class EnrolmentRecord:
    """One of them; times in Unix seconds by the board's clock. ``number`` is 0 until it is stored."""

    node: str
    state: str
    reason: str
    label: str | None
    host: str | None
    address: str
    key: str
    csr: str
    code: str
    ticket: str
    asked: float
    decided: float | None = None
    by: str | None = None
    authority: str | None = None
    number: int = 0


def add(connection: Connection, record: EnrolmentRecord) -> int:
    """Add one; returns its number."""
    row = {name: value for name, value in asdict(record).items() if name != "number"}
    made = connection.execute(insert(EnrolmentRow).values(row)).inserted_primary_key
    return int(made[0]) if made else 0


def change(
    connection: Connection, number: int, values: Mapping[str, Any], *, state: str | None = None
) -> bool:
    """Change one, if it is (still) in ``state``; returns whether that was so."""
    wanted = EnrolmentRow.number == number
    if state is not None:
        wanted = and_(wanted, EnrolmentRow.state == state)
    return connection.execute(update(EnrolmentRow).where(wanted).values(**values)).rowcount == 1


def by_number(connection: Connection, number: int) -> EnrolmentRecord | None:
    """Return the one with this number."""
    return _first(connection, EnrolmentRow.number == number)


def by_ticket(connection: Connection, ticket: str) -> EnrolmentRecord | None:
    """Return the one with this ticket (its SHA-256)."""
    return _first(connection, EnrolmentRow.ticket == ticket)


def same(connection: Connection, code: str, node: str, key: str) -> EnrolmentRecord | None:
    """Return the one in which the machine with this key asked for this id with this code."""
    wanted = and_(EnrolmentRow.code == code, EnrolmentRow.node == node, EnrolmentRow.key == key)
    return _first(connection, wanted)


def latest(connection: Connection, node: str) -> EnrolmentRecord | None:
    """Return the last one in which a node was let in."""
    accepted = EnrolmentRow.state == EnrolmentState.ACCEPTED
    return _first(connection, and_(EnrolmentRow.node == node, accepted))


def was_followed(connection: Connection, record: EnrolmentRecord) -> bool:
    """Return whether, after it was decided about this one, another one was let in under the same id."""
    followed = and_(
        EnrolmentRow.node == record.node,
        EnrolmentRow.number != record.number,
        EnrolmentRow.decided > record.decided,
        EnrolmentRow.authority.is_not(None),
    )
    return _first(connection, followed) is not None


def of_nodes(connection: Connection) -> dict[str, EnrolmentRecord]:
    """Return the latest one of each node that was let in."""
    accepted = EnrolmentRow.state == EnrolmentState.ACCEPTED
    return {record.node: record for record in reversed(_all(connection, accepted))}


def every(connection: Connection, limit: int) -> list[EnrolmentRecord]:
    """Return the last ``limit``, the newest first."""
    return _all(connection, limit=limit)


def count_pending(connection: Connection) -> int:
    """Return how many wait."""
    query = select(func.count()).where(EnrolmentRow.state == EnrolmentState.PENDING)
    return int(connection.execute(query).scalar_one())


def forget_node(connection: Connection, node: str) -> None:
    """Forget all of a node."""
    connection.execute(delete(EnrolmentRow).where(EnrolmentRow.node == node))


def remove_old(connection: Connection, before: float) -> None:
    """Forget those that asked before ``before`` (Unix seconds) and are not let in."""
    gone = and_(EnrolmentRow.asked < before, EnrolmentRow.state != EnrolmentState.ACCEPTED)
    connection.execute(delete(EnrolmentRow).where(gone))


def _first(connection: Connection, wanted: ColumnElement[bool]) -> EnrolmentRecord | None:
    found = _all(connection, wanted, limit=1)
    return found[0] if found else None


def _all(
    connection: Connection, wanted: ColumnElement[bool] | None = None, limit: int | None = None
) -> list[EnrolmentRecord]:
    query = select(EnrolmentRow.__table__).order_by(EnrolmentRow.number.desc()).limit(limit)
    if wanted is not None:
        query = query.where(wanted)
    return [EnrolmentRecord(**row) for row in connection.execute(query).mappings()]
