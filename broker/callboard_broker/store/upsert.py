"""Insert-or-update in the words of whichever database is connected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, bindparam
from sqlalchemy.dialects import sqlite

from callboard_broker.store.models import Base

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

__all__ = ["insert_new", "upsert", "upsert_all"]


def upsert(connection: Connection, model: type[Base], row: Mapping[str, Any]) -> None:
    """Insert ``row``, or replace every other column of the row with the same primary key."""
    connection.execute(_upsert(connection.dialect.name, model, tuple(row)), dict(row))


def upsert_all(connection: Connection, model: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """The same for several rows, which all have the same columns."""
    if rows:
        statement = _upsert(connection.dialect.name, model, tuple(rows[0]))
        connection.execute(statement, [dict(row) for row in rows])


# Building a statement takes ten times as long as running it.
@lru_cache
def _upsert(dialect: str, model: type[Base], columns: tuple[str, ...]) -> sqlite.Insert | postgresql.Insert:
    statement = _insert(dialect, model).values({name: bindparam(name) for name in columns})
    keys = [column.name for column in model.__table__.primary_key]
    changes = {name: statement.excluded[name] for name in columns if name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=changes)


def insert_new(connection: Connection, model: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows that break no unique rule; leave the others as they are."""
    if rows:
        connection.execute(_insert(connection.dialect.name, model).on_conflict_do_nothing(), rows)


def _insert(dialect: str, model: type[Base]) -> sqlite.Insert | postgresql.Insert:
    if dialect == "sqlite":
        return sqlite.insert(model)
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - 50 ms that most boards need not spend

    return postgresql.insert(model)
