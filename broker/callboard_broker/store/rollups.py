"""Minutes and hours: least, mean and greatest value, and the number of readings.

A minute is computed from the readings it has, an hour from its minutes; doing it again gives the same. What is
older than the data it would be computed from (late readings) is merged into the row that is there instead.
"""

# ruff: noqa: S608 - the only names put into statements are those of our own tables

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from sqlalchemy import Connection, text

from callboard_broker.store.models import Horizon
from callboard_broker.store.readings import Bucket
from callboard_broker.store.upsert import upsert

__all__ = [
    "HOUR",
    "MINUTE",
    "Level",
    "buckets",
    "horizons",
    "mark",
    "merge_late",
    "oldest_unrolled",
    "roll",
    "set_horizon",
    "unrolled",
]

#: Microseconds.
MINUTE = 60_000_000
HOUR = 60 * MINUTE


class Level(StrEnum):
    """How fine a table is; the value is what HTTP calls it."""

    RAW = "raw"
    MINUTE = "minute"
    HOUR = "hour"


_REPLACE = (
    " ON CONFLICT (series, t) DO UPDATE SET low = excluded.low, mean = excluded.mean,"
    " high = excluded.high, n = excluded.n"
)
_MERGE = (
    " ON CONFLICT (series, t) DO UPDATE SET"
    " low = CASE WHEN excluded.low < {table}.low THEN excluded.low ELSE {table}.low END,"
    " high = CASE WHEN excluded.high > {table}.high THEN excluded.high ELSE {table}.high END,"
    " mean = ({table}.mean * {table}.n + excluded.mean * excluded.n) / ({table}.n + excluded.n),"
    " n = {table}.n + excluded.n"
)
_FIGURES = "min(value), avg(value), max(value), count(*)"
# CROSS JOIN keeps SQLite from turning the loop inside out.
_MINUTES = (
    f"INSERT INTO minutes (series, t, low, mean, high, n) SELECT due.series, due.t, {_FIGURES}"
    " FROM ({due}) AS due CROSS JOIN readings AS r"
    f" WHERE r.series = due.series AND r.t >= due.t AND r.t < due.t + {MINUTE} GROUP BY due.series, due.t"
    + _REPLACE
)
_HOURS = (
    "INSERT INTO hours (series, t, low, mean, high, n)"
    " SELECT due.series, due.hour, min(m.low), sum(m.mean * m.n) / sum(m.n), max(m.high), sum(m.n)"
    f" FROM (SELECT DISTINCT series, t - t % {HOUR} AS hour FROM ({{due}}) AS waiting) AS due"
    " CROSS JOIN minutes AS m"
    f" WHERE m.series = due.series AND m.t >= due.hour AND m.t < due.hour + {HOUR}"
    " AND due.hour >= :minutes_kept GROUP BY due.series, due.hour" + _REPLACE
)
_DUE = "SELECT series, t FROM unrolled WHERE t < :before ORDER BY t, series LIMIT :limit"


def mark(connection: Connection, minutes: Collection[tuple[int, int]]) -> None:
    """Note that these (series, beginning of a minute in µs) got readings."""
    if minutes:
        connection.execute(
            text("INSERT INTO unrolled (series, t) VALUES (:series, :t) ON CONFLICT DO NOTHING"),
            [{"series": series, "t": t} for series, t in minutes],
        )


def oldest_unrolled(connection: Connection, series: int | None = None) -> int | None:
    """Return the first minute (µs) that waits to be rolled up, of one series or of all."""
    if series is None:
        return connection.execute(text("SELECT min(t) FROM unrolled")).scalar()
    statement = text("SELECT min(t) FROM unrolled WHERE series = :series")
    return connection.execute(statement, {"series": series}).scalar()


def unrolled(connection: Connection) -> list[tuple[int, int]]:
    """Return every minute that waits, as (series, beginning in µs)."""
    return [(series, t) for series, t in connection.execute(text("SELECT series, t FROM unrolled"))]


def roll(connection: Connection, before: int, minutes_kept: int, limit: int) -> list[tuple[int, int]]:
    """Roll up to ``limit`` marked minutes before ``before`` (µs), and their hours.

    Args:
        connection: a write transaction.
        before: only minutes that are over.
        minutes_kept: the horizon of the minutes (µs); hours before it are no longer computed from minutes.
        limit: how many minutes at most.

    Returns:
        what was rolled, as (series, minute).
    """
    due = {"before": before, "limit": limit}
    done = [(series, t) for series, t in connection.execute(text(_DUE), due)]
    if done:
        connection.execute(text(_MINUTES.format(due=_DUE)), due)
        connection.execute(text(_HOURS.format(due=_DUE)), due | {"minutes_kept": minutes_kept})
        connection.execute(
            text("DELETE FROM unrolled WHERE series = :series AND t = :t"),
            [{"series": series, "t": t} for series, t in done],
        )
    return done


def merge_late(connection: Connection, minutes_kept: int) -> int:
    """Merge the readings that came too late for the raw data into minutes and hours; return how many."""
    if connection.execute(text("SELECT 1 FROM late LIMIT 1")).scalar() is None:
        return 0
    for table, unit, where in (("minutes", MINUTE, "t >= :kept"), ("hours", HOUR, "true")):
        statement = text(
            f"INSERT INTO {table} (series, t, low, mean, high, n)"
            f" SELECT series, t - t % {unit}, {_FIGURES} FROM late WHERE {where} GROUP BY 1, 2"
            + _MERGE.format(table=table)
        )
        connection.execute(statement, {"kept": minutes_kept} if table == "minutes" else {})
    return connection.execute(text("DELETE FROM late")).rowcount


def buckets(
    connection: Connection, level: Level, series: int, start: int, end: int, width: int
) -> list[Bucket]:
    """Return the readings of ``start <= t < end`` in buckets of ``width`` (all µs), empty ones left out.

    The hours that are not complete yet come from minutes, and what is not rolled up from the readings themselves.
    """
    tail = start if level is Level.RAW else max(start, min(end, _tail(connection, series)))
    hours = max(start, tail - tail % HOUR) if level is Level.HOUR else start
    rows = connection.execute(
        _BUCKETS,
        {"series": series, "start": start, "hours": hours, "tail": tail, "end": end, "width": width},
    )
    return [
        Bucket(start + int(bucket) * width, low, mean, high, int(n)) for bucket, low, mean, high, n in rows
    ]


_BUCKETS = text(
    "SELECT (t - :start) / :width AS bucket, min(low), sum(mean * n) / sum(n), max(high), sum(n) FROM ("
    " SELECT t, low, mean, high, n FROM hours WHERE series = :series AND t >= :start AND t < :hours"
    " UNION ALL SELECT t, low, mean, high, n FROM minutes WHERE series = :series AND t >= :hours AND t < :tail"
    " UNION ALL SELECT t, value, value, value, 1 FROM readings WHERE series = :series AND t >= :tail AND t < :end"
    ") AS found GROUP BY bucket ORDER BY bucket"
)


def _tail(connection: Connection, series: int) -> int:
    """Return from when on the roll-ups of a series are not complete (µs)."""
    first = oldest_unrolled(connection, series)
    return first if first is not None else 1 << 62


def horizons(connection: Connection) -> dict[str, int]:
    """Return until when (µs) each level has been thinned; a level that never was is missing."""
    return {row.level: row.until for row in connection.execute(text("SELECT level, until FROM horizons"))}


def set_horizon(connection: Connection, level: Level, until: int) -> None:
    """Note that a level is being thinned up to ``until`` (µs)."""
    upsert(connection, Horizon, {"level": level.value, "until": until})
