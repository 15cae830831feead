"""The short numbers that stand for things in readings."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, select, tuple_

from callboard_broker.store.models import SeriesRow
from callboard_broker.store.upsert import insert_new

__all__ = ["Thing", "find", "load", "number"]

#: node, kind, name
Thing = tuple[str, str, str]
#: How many are looked up with one statement; SQLite allows 32,766 variables.
_CHUNK = 1000


def load(connection: Connection) -> dict[Thing, int]:
    """Return the number of every thing."""
    rows = connection.execute(select(SeriesRow.__table__))
    return {(row.node, row.kind, row.name): row.id for row in rows}


def find(connection: Connection, thing: Thing) -> int | None:
    """Return the number of a thing that has readings, else None."""
    node, kind, name = thing
    columns = (SeriesRow.node == node, SeriesRow.kind == kind, SeriesRow.name == name)
    return connection.execute(select(SeriesRow.id).where(*columns)).scalar()


def number(connection: Connection, things: Collection[Thing]) -> dict[Thing, int]:
    """Return a number for each thing; new things get a new one."""
    wanted = list(things)
    insert_new(connection, SeriesRow, [{"node": n, "kind": k, "name": m} for n, k, m in wanted])
    key = tuple_(SeriesRow.node, SeriesRow.kind, SeriesRow.name)
    found: dict[Thing, int] = {}
    for start in range(0, len(wanted), _CHUNK):
        rows = connection.execute(select(SeriesRow.__table__).where(key.in_(wanted[start : start + _CHUNK])))
        found |= {(row.node, row.kind, row.name): row.id for row in rows}
    return found
