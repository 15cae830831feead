"""Cards of things, as the JSON that was retained."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from callboard_broker.store.models import CardRow
from callboard_broker.store.upsert import upsert

__all__ = ["forget", "forget_node", "load", "save"]

#: node, kind, name
Key = tuple[str, str, str]


def load(connection: Connection) -> dict[Key, str]:
    """Return every card."""
    rows = connection.execute(select(CardRow.node, CardRow.kind, CardRow.name, CardRow.card))
    return {(row.node, row.kind, row.name): row.card for row in rows}


def save(connection: Connection, key: Key, card: str, since: float) -> None:
    """Insert or replace one card; ``since`` is when this version appeared (Unix seconds)."""
    node, kind, name = key
    upsert(connection, CardRow, {"node": node, "kind": kind, "name": name, "card": card, "since": since})


def forget(connection: Connection, key: Key) -> None:
    """Remove one card."""
    node, kind, name = key
    connection.execute(
        delete(CardRow).where(CardRow.node == node, CardRow.kind == kind, CardRow.name == name)
    )


def forget_node(connection: Connection, node: str) -> None:
    """Remove every card of a node."""
    connection.execute(delete(CardRow).where(CardRow.node == node))
