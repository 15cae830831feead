"""The store on both databases: migrations, nouns, readings and their size."""

from __future__ import annotations

import random
import sqlite3
import stat

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from callboard_broker.errors import NewerDatabase, StoreUnavailable
from callboard_broker.store import (
    cards,
    farm,
    migrate,
    nodes,
    readings,
    refused,
    rollups,
    series,
    statuses,
    tokens,
)
from callboard_broker.store.database import Database, Trouble, trouble
from callboard_broker.store.farm_models import Base
from callboard_broker.store.nodes import NodeRecord
from callboard_broker.store.refused import RefusedRecord
from callboard_broker.store.statuses import StatusRecord
from callboard_broker.store.tokens import TokenRecord
from callboard_core.errors import BadRequest


def test_migrations_build_exactly_what_the_models_say(database):
    with database.write() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_newest_migration_is_the_one_the_code_expects():
    config = Config()
    config.set_main_option("script_location", "callboard_broker.store:migrations")
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == migrate.HEAD


def test_opening_twice_changes_nothing(database, database_url):
    with database.write() as connection:
        series.number(connection, [("a", "sensor", "b")])
    again = Database(database_url)
    again.open()
    with again.read() as connection:
        assert series.find(connection, ("a", "sensor", "b")) == 1
    again.close()


def test_a_database_of_a_newer_version_is_refused(database, database_url):
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    again = Database(database_url)
    with pytest.raises(NewerDatabase, match="install the newer version"):
        again.open()
    again.close()


def test_a_database_that_is_not_there_says_so_without_its_password(tmp_path):
    database = Database("postgresql://callboard:secret@127.0.0.1:1/none")
    with pytest.raises(StoreUnavailable, match="cannot open") as caught:
        database.open()
    assert "secret" not in str(caught.value)
    database.close()


def test_a_file_that_is_no_database_says_so(tmp_path):
    path = tmp_path / "board.db"
    path.write_text("this is not a database, it is much longer than a header has to be" * 100)
    database = Database(f"sqlite:///{path}")
    with pytest.raises(StoreUnavailable, match="not a database"):
        database.open()
    database.close()


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://host/db", "oracle://x/y", "sqlite"])
def test_another_kind_of_database_is_refused(url):
    with pytest.raises(BadRequest, match="expected sqlite"):
        Database(url)


def test_the_file_is_only_for_its_owner(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/deep/board.db")
    database.open()
    assert stat.S_IMODE((tmp_path / "deep" / "board.db").stat().st_mode) == 0o600
    database.close()


def test_nodes_are_kept_and_forgotten(database):
    record = NodeRecord(
        "pi", since=1.5, first_seen=1.0, last_seen=2.0, card="{}", status="ready", epoch=7, skew=-0.5
    )
    with database.write() as connection:
        nodes.save(connection, NodeRecord("pi", since=0.0, first_seen=0.0))
        nodes.save(connection, record)
        assert nodes.load(connection) == [record]
        nodes.forget(connection, "pi")
        assert nodes.load(connection) == []


def test_cards_are_kept_and_forgotten(database):
    with database.write() as connection:
        cards.save(connection, ("pi", "sensor", "a"), '{"x": 1}', 1.0)
        cards.save(connection, ("pi", "sensor", "a"), '{"x": 2}', 2.0)
        cards.save(connection, ("pi", "sensor", "b"), "{}", 2.0)
        cards.forget(connection, ("pi", "sensor", "b"))
        assert cards.load(connection) == {("pi", "sensor", "a"): '{"x": 2}'}
        cards.forget_node(connection, "pi")
        assert cards.load(connection) == {}


def test_statuses_come_back_in_order_and_are_thinned(database):
    history = [StatusRecord(float(t), "ready" if t % 2 else "lost", t) for t in range(10)]
    with database.write() as connection:
        for record in history:
            statuses.add(connection, "pi", record)
        statuses.add(connection, "other", StatusRecord(3.0, "ready", 1))
        assert statuses.between(connection, "pi", 2, 5) == history[2:5]
        assert statuses.between(connection, "pi", 0, 100, limit=3) == history[-3:]
        assert statuses.last(connection) == {"pi": history[-1], "other": StatusRecord(3.0, "ready", 1)}
        assert statuses.thin(connection, 4.0) == 5
        assert statuses.between(connection, "pi", 0, 100) == history[4:]
        statuses.forget_node(connection, "pi")
        assert statuses.between(connection, "pi", 0, 100) == []


def test_the_last_hundred_refused_messages_are_kept_and_all_are_counted(database):
    records = [RefusedRecord(float(n), f"t/{n}", None, "why", n) for n in range(250)]
    with database.write() as connection:
        assert refused.count(connection) == 0
        refused.add(connection, records[:60], 60)
        refused.add(connection, records[150:250], 250)
        assert refused.count(connection) == 250
        assert refused.load(connection) == records[150:]


def test_tokens_end(database):
    with database.write() as connection:
        for digest, expires in (("a", 10.0), ("b", 20.0), ("c", 30.0)):
            tokens.save(connection, TokenRecord(digest, "me", "viewer", expires))
        tokens.remove(connection, "c")
        tokens.remove_expired(connection, 15.0)
        assert [record.digest for record in tokens.load(connection)] == ["b"]


def test_things_keep_their_numbers(database):
    things = [("n", "sensor", f"t{index}") for index in range(2500)]
    with database.write() as connection:
        first = series.number(connection, things[:100])
        everything = series.number(connection, things)
    assert {thing: everything[thing] for thing in first} == first
    assert len(set(everything.values())) == 2500
    with database.read() as connection:
        assert series.load(connection) == everything


def test_a_reading_that_comes_twice_is_stored_once(database):
    with database.write() as connection:
        assert readings.insert(connection, [(1, 10, 1.5), (1, 20, 2.5)]) == 2
        assert readings.insert(connection, [(1, 10, 99.0), (1, 30, 3.5), (2, 10, 0.0)]) == 2
        assert [bucket.mean for bucket in readings.between(connection, 1, 0, 100, 10)] == [1.5, 2.5, 3.5]


def test_texts_are_stored_once_each_and_come_back(database):
    rows = [(1, t, "open" if t % 20 else "closed ✓") for t in range(0, 100, 10)]
    with database.write() as connection:
        assert readings.insert_texts(connection, rows) == 10
        assert readings.insert_texts(connection, rows) == 0
        found = readings.texts_between(connection, 1, 0, 100, 100)
        assert [(one.t, one.text) for one in found] == [(t, text) for _, t, text in rows]
        assert len(readings.texts_between(connection, 1, 0, 100, 3)) == 3
        assert readings.remove_repeated_texts(connection, 1, 0, 100) == 0
        readings.insert_texts(connection, [(1, 41, "closed ✓"), (1, 42, "closed ✓")])
        assert readings.remove_repeated_texts(connection, 1, 0, 100) == 2


def test_old_rows_go_a_few_at_a_time(database):
    with database.write() as connection:
        readings.insert(connection, [(1, t, 0.0) for t in range(100)])
        assert readings.remove_before(connection, "readings", 1, 50, 20) == 20
        assert readings.remove_before(connection, "readings", 1, 50, 100) == 30
        assert readings.remove_before(connection, "readings", 1, 50, 100) == 0
        assert readings.count(connection, 1, 0, 1000, 1000) == 50


def test_a_reading_takes_at_most_forty_bytes_in_sqlite(tmp_path):
    """100 things at 1 Hz for half an hour, written every half second, values like a thermometer's."""
    database = Database(f"sqlite:///{tmp_path}/board.db")
    database.open()
    chance = random.Random(1)
    start = 1_795_000_000_000_000
    for second in range(1800):
        rows = [
            (thing, start + second * 1_000_000 + chance.randrange(900_000), round(20 + chance.random(), 2))
            for thing in range(1, 101)
        ]
        with database.write() as connection:
            readings.insert(connection, sorted(rows))
            rollups.mark(connection, {(row[0], row[1] - row[1] % rollups.MINUTE) for row in rows})
    with database.write() as connection:
        rollups.roll(connection, 1 << 62, 0, 10_000)
    database.close()
    with sqlite3.connect(tmp_path / "board.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        raw = connection.execute("SELECT sum(pgsize) FROM dbstat WHERE name = 'readings'").fetchone()[0]
    connection.close()
    everything = (tmp_path / "board.db").stat().st_size
    assert raw / 180_000 <= 30
    assert everything / 180_000 <= 40  # with roll-ups and all


def test_an_error_of_the_program_is_no_trouble_of_the_database(database):
    with pytest.raises(Exception) as caught, database.write() as connection:
        connection.exec_driver_sql("SELECT * FROM no_such_table")
    assert trouble(caught.value) is Trouble.BUG
    assert trouble(ValueError()) is Trouble.BUG


def test_a_full_sqlite_file_is_told_from_other_trouble(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/board.db")
    database.open()
    database.may_grow = False
    with pytest.raises(Exception) as caught:
        for step in range(100):
            with database.write() as connection:
                readings.insert(connection, [(1, step * 1000 + t, 0.5) for t in range(1000)])
    assert trouble(caught.value) is Trouble.FULL
    database.close()


def _attempt(name: str, message: str | None) -> dict[str, object]:
    row = dict.fromkeys(("started", "ended", "fault", "code"), None)
    return row | {"id": name, "job": 1, "step": 0, "task": 1, "node": "n", "slot": "s", "frames": "1"} | {
        "state": "failed", "seq": 1, "made": 0.0, "message": message
    }  # fmt: skip


def test_rows_that_cannot_be_written_are_told_and_the_others_are(database):
    changes = farm.Changes(attempts={"bad": _attempt("bad", "half a \ud800"), "good": _attempt("good", None)})
    refused = farm.save_apart(database.write, changes)
    assert len(refused) == 1
    with database.read() as connection:
        assert farm.attempt(connection, "good").node == "n"
        assert farm.attempt(connection, "bad") is None
        assert [row.id for row in farm.load(connection).attempts] == ["good"]
        assert farm.last_job(connection) == 1
