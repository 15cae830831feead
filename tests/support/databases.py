"""An empty database of each kind we promise to work with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from callboard_broker.services.buffer import Buffer, Series
from callboard_broker.services.upkeep import Keep, Upkeep
from callboard_broker.services.writer import Writer
from callboard_broker.store.database import Database
from callboard_broker.store.rollups import HOUR

KINDS = ("sqlite", "postgresql")
DAY = 24 * HOUR
USUAL = Keep(raw=7 * DAY, minute=90 * DAY, hour=3650 * DAY)


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/board.db"
    return str(request.getfixturevalue("postgres").new_database())


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    opened.open()
    yield opened
    opened.close()


@dataclass
class Clock:
    """A clock a test sets; Unix seconds."""

    now: float = field(default_factory=time.time)

    def __call__(self) -> float:
        return self.now


class Recorder:
    """Buffer, writer and upkeep on one database, as the board puts them together."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock | None = None,
        limit: int = 1_000_000,
        min_free: int = 0,
        keep: Keep = USUAL,
    ) -> None:
        self.database = database
        self.clock = clock or Clock()
        self.buffer = Buffer(limit)
        self.upkeep = Upkeep(database, keep, self.clock)
        self.writer = Writer(database, self.buffer, self.upkeep, flush_seconds=0.05, min_free=min_free)
        self.series = Series(("greenhouse", "sensor", "temperature"))

    def add(self, *readings: tuple[float, float | str], series: Series | None = None) -> None:
        for t, value in readings:
            self.buffer.add(series or self.series, round(t * 1e6), value)

    def store(self) -> None:
        """Write what is buffered on this thread; only while the writer's own is not running, as for the next two."""
        while self.writer._write_readings():
            pass

    def roll(self) -> None:
        for _ in self.upkeep.roll():
            pass

    def thin(self) -> None:
        for _ in self.upkeep.thin():
            pass

    def rows(self, statement: str) -> list[tuple]:  # type: ignore[type-arg]
        with self.database.read() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(statement)]
