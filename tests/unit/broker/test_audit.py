"""The audit log: merged when alike, bounded, written once, thinned by age and number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from callboard_broker.services.audit import APART, WAITING, Audit, Wanted
from callboard_broker.store import audit as store
from callboard_broker.store.database import Database
from callboard_core.errors import Overloaded


class Notes(dict):
    full = False

    def submit(self, key, job) -> None:
        if self.full:
            raise Overloaded("no room")
        self[key] = job


class Log:
    """An audit log on a database of its own, written when the test says so."""

    def __init__(self, database: Database) -> None:
        self.database, self.notes = database, Notes()
        self.now = 1000.0
        self.audit = Audit(database, self.notes, clock=lambda: self.now)

    def write(self) -> None:
        with self.database.write() as connection:
            self.notes.pop("audit")(connection)

    def all(self) -> list[store.AuditRecord]:
        return self.audit.find(Wanted(), after=0, limit=100_000)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    database = Database(f"sqlite:///{tmp_path / 'board.db'}")
    database.open()
    yield Log(database)
    database.close()


def test_a_note_is_written_with_everything_that_was_told(log: Log):
    log.audit.note("ann", "user.add", "ben", "10.0.0.7", "conflict", "there is one")
    log.write()
    [found] = log.all()
    told = (
        found.t,
        found.who,
        found.what,
        found.subject,
        found.origin,
        found.result,
        found.detail,
        found.count,
    )
    assert told == (1000.0, "ann", "user.add", "ben", "10.0.0.7", "conflict", "there is one", 1)


def test_many_alike_are_counted_instead_of_kept(log: Log):
    for number in range(APART + 100):
        log.now = 1000.0 + number
        log.audit.note("node", "command", "callboard/pump/command/worker/x")
    log.audit.note("ann", "command", "callboard/pump/command/worker/x")
    log.write()
    records = log.all()
    assert len(records) == APART + 1
    assert sum(record.count for record in records if record.who == "node") == APART + 100
    assert max(record.t for record in records) == 1000.0 + APART + 99


def test_refused_log_ins_of_one_address_are_counted_whatever_names_they_try(log: Log):
    for number in range(APART + 100):
        log.audit.note(f"n{number}", "login", f"n{number}", f"10.0.0.9 c{number}", "unauthorized", "wrong")
    log.audit.note("ann", "login", "ann", "10.0.0.7 c", "unauthorized")
    log.write()
    records = log.all()
    assert len(records) == APART + 1
    many = next(record for record in records if record.count > 1)
    assert (many.who, many.subject, many.origin, many.count) == ("", "", "10.0.0.9", 101)
    assert many.detail == "under several names"


def test_what_finds_no_room_is_counted(log: Log):
    for number in range(WAITING + 7):
        log.audit.note("eve", "command", f"topic {number}")
    log.write()
    full = log.audit.find(Wanted(what="audit.full"), limit=10)
    assert [record.count for record in full] == [7]


def test_what_the_writer_had_no_room_for_is_written_with_the_next_note(log: Log):
    log.notes.full = True
    log.audit.note("ann", "login", "ann")
    assert not log.notes
    log.notes.full = False
    log.audit.note("ben", "login", "ben")
    log.write()
    assert [record.who for record in log.all()] == ["ann", "ben"]


def test_after_every_write_the_next_note_is_written_too(log: Log):
    for who in ("ann", "ben", "cleo"):
        log.audit.note(who, "login", who)
        log.audit.note(who, "user.add", who)
        log.write()
    assert [record.who for record in log.all()] == ["ann", "ann", "ben", "ben", "cleo", "cleo"]


def test_a_write_that_fails_loses_and_repeats_nothing(log: Log):
    log.audit.note("ann", "login")
    job = log.notes["audit"]
    with pytest.raises(RuntimeError), log.database.write() as connection:
        job(connection)
        raise RuntimeError("the disk is full")
    log.audit.note("ben", "login")
    log.write()
    log.audit.note("cid", "login")
    log.write()
    assert [record.who for record in log.all()] == ["ann", "ben", "cid"]


def test_ids_go_on_after_a_restart(log: Log):
    log.audit.note("ann", "login")
    log.write()
    again = Log(log.database)
    with again.database.read() as connection:
        again.audit.load(connection)
    again.audit.note("ben", "login")
    again.write()
    assert [record.who for record in again.all()] == ["ann", "ben"]


def test_text_that_no_database_takes_is_replaced_and_long_text_cut(log: Log):
    log.audit.note("a\0b", "login", "\ud800", detail="x" * 10_000)
    log.write()
    [found] = log.all()
    assert found.who == "a\N{REPLACEMENT CHARACTER}b"
    assert found.subject == "?"
    assert len(found.detail) == 500


def test_what_is_noted_while_a_request_is_answered_is_the_askers(log: Log):
    with log.audit.asked() as request:
        request.who, request.origin = "ann", "10.0.0.7"
        log.audit.note("", "role.add", "gardener")
        assert request.noted
    log.audit.note("", "role.add", "other")
    log.write()
    assert [(record.who, record.origin) for record in log.all()] == [("ann", "10.0.0.7"), ("", "")]


def test_old_records_go_by_age_and_by_number(log: Log):
    for number in range(10):
        log.now = 1000.0 + number
        log.audit.note("ann", "login", str(number))
    log.write()

    def thin(before: float, most: int, step: int = 100) -> int:
        with log.database.write() as connection:
            return store.thin(connection, before, most, step)

    assert thin(1003.0, 1000) == 3
    assert thin(0.0, 4, step=2) == 2
    assert thin(0.0, 4) == 1
    assert [record.subject for record in log.all()] == ["6", "7", "8", "9"]


def test_what_anybody_can_have_refused_pushes_nothing_out_that_was_done(log: Log):
    for number in range(3):
        log.audit.note("ann", "user.add", f"done {number}")
    for number in range(6):
        log.audit.note(f"n{number}", "login", f"refused {number}", f"10.0.0.{number}", "unauthorized")
    log.audit.note("ann", "user.add", "done 3")
    log.write()

    def thin(most: int, step: int = 100) -> int:
        with log.database.write() as connection:
            return store.thin(connection, 0.0, most, step)

    assert thin(10) == 0
    assert [thin(5, step=2) for _ in range(4)] == [2, 2, 1, 0]
    assert [record.subject for record in log.all()] == ["done 0", "done 1", "done 2", "refused 5", "done 3"]
    assert thin(3) == 2
    assert [record.subject for record in log.all()] == ["done 1", "done 2", "done 3"]
