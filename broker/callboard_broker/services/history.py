"""Answers questions about the past with at most as many points as were asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from callboard_broker.errors import StoreUnavailable
from callboard_broker.services.resolution import RAW_LIMIT, Plan, plan
from callboard_broker.store import readings, rollups, series
from callboard_broker.store.database import Database
from callboard_broker.store.readings import Bucket, TextBucket
from callboard_broker.store.rollups import Level
from callboard_broker.store.series import Thing
from callboard_core.errors import BadRequest, NotFound, Overloaded

__all__ = ["MOST_POINTS", "Answer", "History"]

#: Most points of one answer.
MOST_POINTS = 20_000
#: Seconds that are shown when no start is given.
_DAY = 86_400.0
#: Questions that are answered at a time, and seconds that further ones wait.
_AT_A_TIME = 6
_QUEUE_SECONDS = 5.0
_LATEST = 1e11  # the year 5138; microseconds of it fit 63 bits


@dataclass(frozen=True, slots=True)
class Answer:
    """Numbers in ``buckets`` or texts in ``texts``; a thing that had both gives both."""

    resolution: Level
    buckets: list[Bucket] = field(default_factory=list)
    texts: list[TextBucket] = field(default_factory=list)


class History:
    """Reads only; safe from any thread."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], float] = time.time,
        frozen: Callable[[], bool] = lambda: False,
    ) -> None:
        self._database = database
        self._clock = clock
        self._frozen = frozen
        self._slots = threading.BoundedSemaphore(_AT_A_TIME)

    def ask(self, thing: Thing, start: float | None, end: float | None, points: int) -> Answer:
        """Return a thing's past.

        Args:
            thing: node, kind and name.
            start: Unix seconds; a day before ``end`` by default.
            end: Unix seconds, exclusive; now by default.
            points: most points, at least 1.

        Raises:
            NotFound: it has no history.
            BadRequest: start is not before end.
            StoreUnavailable: the database does not answer.
            Overloaded: too many ask at once.
        """
        until = self._clock() if end is None else end
        since = until - _DAY if start is None else start
        if not -_LATEST < since < until < _LATEST:
            raise BadRequest("start: must be before end, both in Unix seconds")
        with self._slot():
            try:
                with self._database.read() as connection:
                    return _answer(connection, thing, round(since * 1e6), round(until * 1e6), points)
            except SQLAlchemyError as error:
                raise StoreUnavailable("the database does not answer; try again in a while") from error

    @contextmanager
    def _slot(self) -> Iterator[None]:
        """A database that does not answer must not take every thread of the board with it."""
        if self._frozen():
            raise StoreUnavailable("the database does not answer; try again in a while")
        if not self._slots.acquire(timeout=_QUEUE_SECONDS):
            raise Overloaded("too many questions about the past at once; try again in a while")
        try:
            yield
        finally:
            self._slots.release()


def _answer(connection: Connection, thing: Thing, start: int, end: int, points: int) -> Answer:
    number = series.find(connection, thing)
    span = None if number is None else readings.span(connection, number)
    if number is None or span is None:
        raise NotFound(f"{'/'.join(thing)} has no history")
    # A bucket is as wide as the data asks for, not the empty years before it.
    start, end = max(start, span[0]), min(end, span[1] + 1)
    if start >= end:
        return Answer(Level.RAW)
    horizons = rollups.horizons(connection)
    chosen = plan(
        start=start,
        end=end,
        points=points,
        readings=readings.count(connection, number, start, end, RAW_LIMIT + 1),
        raw_since=horizons.get(Level.RAW, 0),
        minutes_since=horizons.get(Level.MINUTE, 0),
    )
    texts = readings.texts_between(connection, number, start, end, points)
    return Answer(chosen.level, _buckets(connection, number, chosen, points), texts)


def _buckets(connection: Connection, number: int, chosen: Plan, points: int) -> list[Bucket]:
    if chosen.width == 0:
        return readings.between(connection, number, chosen.start, chosen.end, points)
    return rollups.buckets(connection, chosen.level, number, chosen.start, chosen.end, chosen.width)
