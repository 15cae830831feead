"""When nodes came and went."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select

from callboard_broker.store.models import StatusRow

__all__ = ["StatusRecord", "add", "between", "forget_node", "last", "thin"]


@dataclass(frozen=True, slots=True)
class StatusRecord:
    """One change of liveness; ``t`` in Unix seconds by the board's clock."""

    t: float
    status: str
    epoch: int


def add(connection: Connection, node: str, record: StatusRecord) -> None:
    """Append one change."""
    connection.execute(
        insert(StatusRow).values(node=node, t=record.t, status=record.status, epoch=record.epoch)
    )


def between(
    connection: Connection, node: str, start: float, end: float, *, limit: int = 10_000
) -> list[StatusRecord]:
    """Return the last ``limit`` changes with ``start <= t < end``, oldest first."""
    rows = connection.execute(
        select(StatusRow.t, StatusRow.status, StatusRow.epoch)
        .where(StatusRow.node == node, StatusRow.t >= start, StatusRow.t < end)
        .order_by(StatusRow.t.desc(), StatusRow.id.desc())
        .limit(limit)
    )
    return [StatusRecord(*row) for row in rows][::-1]


def last(connection: Connection) -> dict[str, StatusRecord]:
    """Return the newest change of every node."""
    newest = select(func.max(StatusRow.id)).group_by(StatusRow.node)
    columns = (StatusRow.node, StatusRow.t, StatusRow.status, StatusRow.epoch)
    rows = connection.execute(select(*columns).where(StatusRow.id.in_(newest)))
    return {node: StatusRecord(t, status, epoch) for node, t, status, epoch in rows}


def forget_node(connection: Connection, node: str) -> None:
    """Remove a node's history of liveness."""
    connection.execute(delete(StatusRow).where(StatusRow.node == node))


def thin(connection: Connection, before: float, *, limit: int = 1000) -> int:
    """Remove up to ``limit`` changes older than ``before``; return how many."""
    oldest = select(StatusRow.id).where(StatusRow.t < before).order_by(StatusRow.id).limit(limit)
    return connection.execute(delete(StatusRow).where(StatusRow.id.in_(oldest))).rowcount
