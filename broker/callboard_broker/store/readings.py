"""Readings as they were measured: one row of (series, t, value), and texts as (series, t, word)."""

# ruff: noqa: S608 - the only names put into statements are those of our own tables

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, select, text

from callboard_broker.store.models import Word
from callboard_broker.store.upsert import insert_new

__all__ = [
    "Bucket",
    "TextBucket",
    "between",
    "count",
    "insert",
    "insert_texts",
    "oldest",
    "remove_before",
    "remove_repeated_texts",
    "remove_unused_words",
    "span",
    "texts_between",
]

#: series, microseconds since 1970, value
Row = tuple[int, int, float]
_CHUNK = 1000
_TABLES = {"readings", "late", "texts", "minutes", "hours"}


class Bucket(NamedTuple):
    """Readings of one stretch of time: its beginning (µs), least, mean and greatest value, and how many."""

    t: int
    low: float
    mean: float
    high: float
    n: int


class TextBucket(NamedTuple):
    """Text readings of one stretch of time: when the last of them was taken (µs), its text, and how many."""

    t: int
    text: str
    n: int


def insert(connection: Connection, rows: Sequence[Row], table: str = "readings") -> int:
    """Store readings; one that is there already (same series and time) stays. Return how many were new."""
    if not rows:
        return 0
    if connection.dialect.name == "sqlite":
        statement = f"INSERT OR IGNORE INTO {_known(table)} (series, t, value) VALUES (?, ?, ?)"
        return connection.exec_driver_sql(statement, list(rows)).rowcount
    # One statement with three arrays is ten times as fast as a statement per row.
    series, times, values = (list(column) for column in zip(*rows, strict=True))
    statement = (
        f"INSERT INTO {_known(table)} (series, t, value)"
        " SELECT * FROM unnest(%s::int[], %s::bigint[], %s::float8[]) ON CONFLICT DO NOTHING"
    )
    return connection.exec_driver_sql(statement, (series, times, values)).rowcount


def insert_texts(connection: Connection, rows: Sequence[tuple[int, int, str]]) -> int:
    """Store text readings; return how many were new."""
    if not rows:
        return 0
    words = _number_words(connection, {text for _, _, text in rows})
    statement = text("INSERT INTO texts (series, t, word) VALUES (:series, :t, :word) ON CONFLICT DO NOTHING")
    numbered = [{"series": series, "t": t, "word": words[value]} for series, t, value in rows]
    return connection.execute(statement, numbered).rowcount


def _number_words(connection: Connection, texts: Collection[str]) -> dict[str, int]:
    insert_new(connection, Word, [{"text": value} for value in texts])
    found: dict[str, int] = {}
    wanted = list(texts)
    for start in range(0, len(wanted), _CHUNK):
        chunk = wanted[start : start + _CHUNK]
        rows = connection.execute(select(Word.id, Word.text).where(Word.text.in_(chunk)))
        found |= {row.text: row.id for row in rows}
    return found


def between(connection: Connection, series: int, start: int, end: int, limit: int) -> list[Bucket]:
    """Return up to ``limit`` readings with ``start <= t < end`` (µs), each a bucket of its own."""
    rows = connection.execute(
        text(
            "SELECT t, value FROM readings WHERE series = :series AND t >= :start AND t < :end"
            " ORDER BY t LIMIT :limit"
        ),
        {"series": series, "start": start, "end": end, "limit": limit},
    )
    return [Bucket(t, value, value, value, 1) for t, value in rows]


def count(connection: Connection, series: int, start: int, end: int, limit: int) -> int:
    """Return how many readings lie in ``start <= t < end`` (µs); counting stops at ``limit``."""
    statement = text(
        "SELECT count(*) FROM (SELECT 1 FROM readings WHERE series = :series AND t >= :start AND t < :end"
        " LIMIT :limit) AS found"
    )
    found = connection.execute(statement, {"series": series, "start": start, "end": end, "limit": limit})
    return int(found.scalar_one())


def span(connection: Connection, series: int) -> tuple[int, int] | None:
    """Return when the first and the last reading of a series on any level were taken (µs), or None."""
    statement = text(
        " UNION ALL ".join(
            f"SELECT min(t), max(t) FROM {table} WHERE series = :series"
            for table in ("readings", "texts", "late", "minutes", "hours")
        )
    )
    found = [row for row in connection.execute(statement, {"series": series}) if row[0] is not None]
    return (min(row[0] for row in found), max(row[1] for row in found)) if found else None


def texts_between(connection: Connection, series: int, start: int, end: int, points: int) -> list[TextBucket]:
    """Return the last text of each of ``points`` equal stretches of ``start <= t < end`` (µs)."""
    statement = text(
        "SELECT last.t, words.text, last.n FROM ("
        " SELECT max(t) AS t, count(*) AS n FROM texts"
        " WHERE series = :series AND t >= :start AND t < :end GROUP BY (t - :start) / :width"
        ") AS last JOIN texts ON texts.series = :series AND texts.t = last.t"
        " JOIN words ON words.id = texts.word ORDER BY last.t"
    )
    width = max(1, -(-(end - start) // points))
    rows = connection.execute(statement, {"series": series, "start": start, "end": end, "width": width})
    return [TextBucket(*row) for row in rows]


def oldest(connection: Connection, table: str) -> dict[int, int]:
    """Return the time (µs) of the oldest row of every series that has any."""
    statement = text(
        f"SELECT id, (SELECT min(t) FROM {_known(table)} WHERE series = series_of.id) AS t"
        " FROM series AS series_of"
    )
    return {number: t for number, t in connection.execute(statement) if t is not None}


def remove_before(connection: Connection, table: str, series: int, before: int, limit: int) -> int:
    """Remove up to ``limit`` of the oldest rows of a series that lie before ``before`` (µs); return how many."""
    name = _known(table)
    statement = text(
        f"DELETE FROM {name} WHERE series = :series AND t < coalesce("
        f"(SELECT t FROM {name} WHERE series = :series AND t < :before ORDER BY t LIMIT 1 OFFSET :limit), :before)"
    )
    return connection.execute(statement, {"series": series, "before": before, "limit": limit}).rowcount


def remove_repeated_texts(connection: Connection, series: int, start: int, end: int) -> int:
    """Keep only changes: remove texts of ``start <= t < end`` (µs) that repeat the one before."""
    statement = text(
        "DELETE FROM texts WHERE series = :series AND t IN (SELECT t FROM ("
        " SELECT t, word, lag(word) OVER (ORDER BY t) AS before FROM texts"
        " WHERE series = :series AND t >= :start AND t < :end) AS run WHERE word = before)"
    )
    return connection.execute(statement, {"series": series, "start": start, "end": end}).rowcount


def remove_unused_words(connection: Connection, limit: int) -> int:
    """Remove up to ``limit`` texts that no reading has any more."""
    statement = text(
        "DELETE FROM words WHERE id IN (SELECT id FROM words WHERE NOT EXISTS"
        " (SELECT 1 FROM texts WHERE texts.word = words.id) LIMIT :limit)"
    )
    return connection.execute(statement, {"limit": limit}).rowcount


def _known(table: str) -> str:
    if table not in _TABLES:
        raise ValueError(f"no table {table!r}")
    return table
