"""The writer through everything a database can do to it: locked, frozen, gone, full."""

from __future__ import annotations

import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from callboard_broker.services import writer as writer_module
from callboard_broker.services.buffer import Series
from callboard_broker.services.writer import Condition
from callboard_broker.store.database import Database
from support.boards import eventually
from support.databases import Recorder
from support.postgres import Cluster
from support.root import cannot
from support.timing import Stopwatch

#: How long a database stalls, in seconds, and how many readings come each second meanwhile.
STALL = 30
PACE = 2000


@contextmanager
def running(database: Database, **options) -> Iterator[Recorder]:
    recorder = Recorder(database, **options)
    recorder.writer.start()
    try:
        yield recorder
    finally:
        recorder.writer.stop(10)


def count(recorder: Recorder) -> int:
    return recorder.rows("SELECT count(*) FROM readings")[0][0]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold SQLite's write lock, as a backup or a careless tool does."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


@contextmanager
def frozen(cluster: Cluster) -> Iterator[None]:
    cluster.freeze()
    try:
        yield
    finally:
        cluster.thaw()


def test_readings_are_written_within_the_flush_time(database):
    with running(database) as recorder:
        recorder.add(*((recorder.clock() - n, float(n)) for n in range(1000)))
        eventually(lambda: recorder.writer.written == 1000)
        assert count(recorder) == 1000
        assert recorder.series.number is not None


def test_nothing_is_lost_while_both_databases_stall_for_thirty_seconds(tmp_path, postgres):
    """One held lock, one frozen server; readings go on coming. (Both at once, to wait only once.)"""
    path = tmp_path / "board.db"
    lite, big = Database(f"sqlite:///{path}"), Database(postgres.new_database())
    for database in (lite, big):
        database.open()
    with running(lite) as one, running(big) as two:
        start = time.time()
        for recorder in (one, two):
            recorder.add((start - 100, 1.0))
            recorder.writer.wait_written(10)
        sent = 1
        with locked(path), frozen(postgres):
            begun = time.monotonic()
            while (elapsed := time.monotonic() - begun) < STALL:
                due = int(elapsed * PACE)
                readings = [(start + number / PACE, float(number)) for number in range(sent - 1, due)]
                for recorder in (one, two):
                    recorder.add(*readings)
                sent += len(readings)
                time.sleep(0.05)
            for recorder in (one, two):
                assert recorder.writer.condition is Condition.STALLED
                assert recorder.writer.stalled_for > STALL - 5
                assert len(recorder.buffer) == sent - 1
            assert one.writer.stalls > 5
            assert "locked" in one.writer.problem
        for recorder in (one, two):
            eventually(lambda r=recorder: len(r.buffer) == 0)
            assert count(recorder) == sent
            assert recorder.buffer.dropped == 0
            assert recorder.writer.condition is Condition.WELL
    lite.close()
    big.close()


def test_a_stalled_database_does_not_keep_the_writer_from_stopping(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/board.db")
    database.open()
    recorder = Recorder(database)
    recorder.writer.start()
    with locked(tmp_path / "board.db"):
        recorder.add((1.0, 1.0))
        begun = Stopwatch()
        assert not recorder.writer.stop(1.0)
        assert begun.within(2), begun
    recorder.writer._thread.join(10)
    database.close()


def test_a_server_that_is_killed_and_comes_back_gets_everything(postgres):
    database = Database(postgres.new_database())
    database.open()
    with running(database) as recorder:
        recorder.add((1e9, 0.0))
        assert recorder.writer.wait_written(10)
        postgres.stop()
        recorder.add(*((1e9 + n, 1.0) for n in range(1, 500)))
        eventually(lambda: recorder.writer.condition is Condition.STALLED)
        postgres.start()
        eventually(lambda: recorder.writer.condition is Condition.WELL and len(recorder.buffer) == 0)
        assert count(recorder) == 500
    database.close()


def test_what_the_buffer_cannot_hold_is_counted(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/board.db")
    database.open()
    with running(database, limit=1000) as recorder:
        recorder.writer.wait_written(5)
        with locked(tmp_path / "board.db"):
            recorder.add(*((1e9 + n, 1.0) for n in range(1500)))
            assert recorder.buffer.dropped == 500
        eventually(lambda: count(recorder) == 1000)
    database.close()


def test_jobs_run_in_order_and_the_last_of_one_key_wins(database):
    done: list[str] = []
    with running(database) as recorder:
        with recorder.writer._jobs_lock:  # as if they came while a write was going on
            recorder.writer._jobs["a"] = lambda _: done.append("never")
        recorder.writer.submit("b", lambda _: done.append("b"))
        recorder.writer.submit("a", lambda _: done.append("a"))
        assert recorder.writer.wait_written(10)
    assert [one for one in done if one != "never"] == ["b", "a"]


def test_a_job_that_cannot_succeed_does_not_hold_the_others_up(database):
    done: list[str] = []

    def wrong(connection) -> None:
        connection.exec_driver_sql("SELECT * FROM no_such_table")

    with running(database) as recorder:
        recorder.writer.submit("wrong", wrong)
        recorder.writer.submit("right", lambda _: done.append("right"))
        eventually(lambda: done)
        recorder.add((1e9, 1.0))
        eventually(lambda: recorder.writer.written == 1)
        assert recorder.writer.jobs_waiting == 0


def test_minutes_are_rolled_up_while_the_writer_runs(database):
    with running(database) as recorder:
        recorder.add((recorder.clock() - 600, 1.0))
        eventually(lambda: recorder.rows("SELECT n FROM minutes") == [(1,)])


class TestFullDisk:
    """A file system of 12 MiB that somebody else fills."""

    @pytest.fixture
    def small_disk(self, tmp_path) -> Iterator[Path]:
        folder = tmp_path / "disk"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=12m", "none", folder],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            cannot(f"needs the right to mount: {done.stderr.strip()}")
        yield folder
        subprocess.run(["umount", "-l", folder], check=True)

    def test_the_oldest_readings_make_room_when_the_disk_runs_low(self, tmp_path, monkeypatch):
        """With less space free than there must be, the file keeps its size and works as a ring."""
        database = Database(f"sqlite:///{tmp_path}/board.db")
        database.open()
        with running(database) as recorder:
            start = recorder.clock() - 86_400
            recorder.add(*((start + n, float(n)) for n in range(50_000)))
            assert recorder.writer.wait_written(30)
            eventually(lambda: len(recorder.upkeep.unrolled) == 0, timeout=30)
            monkeypatch.setattr(writer_module, "room", lambda _path: 0)
            recorder.writer._min_free = 1
            eventually(lambda: recorder.writer.low)
            assert "0 MiB are free" in recorder.writer.shortage
            size = (tmp_path / "board.db").stat().st_size
            recorder.add(*((start + 50_000 + n, float(n)) for n in range(30_000)))
            eventually(lambda: len(recorder.buffer) == 0, timeout=30)
            assert (tmp_path / "board.db").stat().st_size <= size
            assert recorder.upkeep.shed > 10_000
            newest = recorder.rows("SELECT max(t), min(t) FROM readings")[0]
            assert newest[0] == round((start + 79_999) * 1e6)
            assert newest[1] > round(start * 1e6)
            recorder.writer.submit(
                "note", lambda c: c.exec_driver_sql("INSERT INTO horizons VALUES ('x', 1)")
            )
            assert recorder.writer.wait_written(10)
            shed = recorder.upkeep.shed
            monkeypatch.undo()
            eventually(lambda: not recorder.writer.low)
            recorder.add(*((start + 80_000 + n, float(n)) for n in range(6_000)))
            eventually(lambda: len(recorder.buffer) == 0, timeout=30)
            assert recorder.upkeep.shed == shed
        database.close()

    def test_a_disk_that_is_full_to_the_last_byte_is_survived_and_told(self, small_disk):
        database = Database(f"sqlite:///{small_disk}/board.db")
        database.open()
        with running(database, limit=100_000) as recorder:
            start = recorder.clock() - 86_400
            recorder.add(*((start + n, float(n)) for n in range(20_000)))
            assert recorder.writer.wait_written(30)
            ballast = small_disk / "ballast"
            with ballast.open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(b"x" * 4096)
            recorder.add(*((start + 20_000 + n, float(n)) for n in range(60_000)))
            eventually(lambda: recorder.writer.condition is Condition.FULL)
            assert recorder.writer.problem
            ballast.unlink()
            eventually(
                lambda: recorder.writer.condition is Condition.WELL and len(recorder.buffer) == 0, timeout=30
            )
            assert recorder.buffer.dropped == 0
            found = recorder.rows("SELECT sum(n) FROM (SELECT count(*) AS n FROM readings)")[0][0]
            assert found + recorder.upkeep.shed == 80_000
        database.close()


def test_two_things_of_one_batch_get_numbers_of_their_own(database):
    with running(database) as recorder:
        other = Series(("attic", "sensor", "temperature"))
        recorder.add((1e9, 1.0))
        recorder.add((1e9, 2.0), series=other)
        assert recorder.writer.wait_written(10)
        assert recorder.series.number != other.number


@pytest.mark.parametrize("value", [1.7e308, -0.0, 5e-324, 2**63])
def test_numbers_at_the_edge_are_stored_as_they_are(database, value):
    with running(database) as recorder:
        recorder.add((1e9, float(value)))
        assert recorder.writer.wait_written(10)
        assert recorder.rows("SELECT value FROM readings") == [(float(value),)]


def test_waiting_for_a_write_ends_when_it_takes_too_long(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/board.db")
    database.open()
    with running(database) as recorder, locked(tmp_path / "board.db"):
        recorder.add((1e9, 1.0))
        assert not recorder.writer.wait_written(0.3)
    database.close()
