"""Which level answers a question about the past, and in how wide buckets. Pure; all times in microseconds."""

from __future__ import annotations

from dataclasses import dataclass

from callboard_broker.store.rollups import HOUR, MINUTE, Level

__all__ = ["RAW_LIMIT", "Plan", "plan"]

#: More readings than this are not aggregated while somebody waits; the minutes answer instead.
RAW_LIMIT = 200_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How to answer.

    Attributes:
        level: which table.
        start: beginning of the first bucket.
        end: end (exclusive).
        width: of a bucket; 0 means every reading by itself.
    """

    level: Level
    start: int
    end: int
    width: int


def plan(
    *, start: int, end: int, points: int, readings: int, raw_since: int = 0, minutes_since: int = 0
) -> Plan:
    """Choose the finest level that has the whole range and answers with at most ``points`` buckets.

    Args:
        start: beginning of the range.
        end: its end (exclusive), after ``start``.
        points: most buckets, at least 1.
        readings: how many readings the range has (counting may stop above ``RAW_LIMIT``).
        raw_since: readings before this are gone.
        minutes_since: minutes before this are gone.
    """
    if start >= raw_since:
        if readings <= points:
            return Plan(Level.RAW, start, end, 0)
        if readings <= RAW_LIMIT and end - start < points * MINUTE:
            return Plan(Level.RAW, start, end, -(-(end - start) // points))
    if start >= minutes_since and end - start < points * HOUR:
        return _aligned(Level.MINUTE, start, end, points, MINUTE)
    return _aligned(Level.HOUR, start, end, points, HOUR)


def _aligned(level: Level, start: int, end: int, points: int, unit: int) -> Plan:
    first = start - start % unit
    units = -(-(end - first) // unit)
    return Plan(level, first, end, -(-units // points) * unit)
