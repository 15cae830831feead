"""The last messages that were refused, and how many there ever were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, func, insert, select

from callboard_broker.store.models import RefusedRow

__all__ = ["KEPT", "RefusedRecord", "add", "count", "load"]

#: How many refused messages are kept.
KEPT = 100


@dataclass(frozen=True, slots=True)
class RefusedRecord:
    """A refused message.

    Attributes:
        t: when it arrived, Unix seconds by the board's clock.
        topic: where it was published.
        node: the sender, as far as the topic tells.
        reason: one sentence.
        size: bytes of its payload.
    """

    t: float
    topic: str
    node: str | None
    reason: str
    size: int


def add(connection: Connection, records: Sequence[RefusedRecord], total: int) -> None:
    """Append ``records`` so that the newest one is number ``total``; keep the last hundred."""
    first = total - len(records) + 1
    rows = [{"id": first + index, **asdict(record)} for index, record in enumerate(records)]
    connection.execute(insert(RefusedRow), rows)
    connection.execute(delete(RefusedRow).where(RefusedRow.id <= total - KEPT))


def load(connection: Connection) -> list[RefusedRecord]:
    """Return what is kept, oldest first."""
    columns = (RefusedRow.t, RefusedRow.topic, RefusedRow.node, RefusedRow.reason, RefusedRow.size)
    rows = connection.execute(select(*columns).order_by(RefusedRow.id))
    return [RefusedRecord(**row) for row in rows.mappings()]


def count(connection: Connection) -> int:
    """Return how many were ever refused."""
    return connection.execute(select(func.max(RefusedRow.id))).scalar() or 0
