"""Insert-or-update in the words of whichever database is connected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from callboard_broker.store.models import Base

__all__ = ["insert_new", "upsert"]


def upsert(connection: Connection, model: type[Base], row: Mapping[str, Any]) -> None:
    """Insert ``row``, or replace every other column of the row with the same primary key."""
    statement = _insert(connection, model).values(dict(row))
    keys = [column.name for column in model.__table__.primary_key]
    changes = {name: statement.excluded[name] for name in row if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changes))


def insert_new(connection: Connection, model: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows that break no unique rule; leave the others as they are."""
    if rows:
        connection.execute(_insert(connection, model).on_conflict_do_nothing(), rows)


def _insert(connection: Connection, model: type[Base]) -> sqlite.Insert | postgresql.Insert:
    return sqlite.insert(model) if connection.dialect.name == "sqlite" else postgresql.insert(model)
