"""Nodes as the board last knew them."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, select

from callboard_broker.store.models import NodeRow
from callboard_broker.store.upsert import upsert

__all__ = ["NodeRecord", "forget", "load", "save"]


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A row of ``nodes``. Times in Unix seconds by the board's clock; ``skew`` in seconds, None while unknown."""

    id: str
    since: float
    first_seen: float
    last_seen: float | None = None
    card: str | None = None
    status: str | None = None
    epoch: int | None = None
    skew: float | None = None


def load(connection: Connection) -> list[NodeRecord]:
    """Return every node, by id."""
    rows = connection.execute(select(NodeRow.__table__).order_by(NodeRow.id))
    return [NodeRecord(**row) for row in rows.mappings()]


def save(connection: Connection, record: NodeRecord) -> None:
    """Insert or replace one node."""
    upsert(connection, NodeRow, asdict(record))


def forget(connection: Connection, node: str) -> None:
    """Remove one node."""
    connection.execute(delete(NodeRow).where(NodeRow.id == node))
