import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy.exc import TimeoutError as PoolTimeout

from callboard_broker.services.farm import desk as module
from callboard_broker.services.farm.desk import Desk
from callboard_broker.store.farm import Changes
from callboard_core.errors import BadRequest, Failed, Unavailable

pytestmark = pytest.mark.filterwarnings("error")


class Disk:
    """A database that counts, and that can be full."""

    def __init__(self) -> None:
        self.written: list[Changes] = []
        self.full = threading.Event()
        self.refused = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    @contextmanager
    def write(self) -> Iterator[Any]:
        self.gate.wait(10)
        if self.full.is_set():
            self.refused.set()
            raise PoolTimeout("no space left")
        yield self


@pytest.fixture
def disk(monkeypatch) -> Disk:
    monkeypatch.setattr(module.store, "save", lambda connection, changes: connection.written.append(changes))
    return Disk()


class Books:
    """What the desk's work changes."""

    def __init__(self, disk: Disk) -> None:
        self.settled = 0
        self.changed: list[int] = []
        self.desk = Desk(disk, settle=self.settle, collect=self.collect)  # type: ignore[arg-type]

    def settle(self) -> None:
        self.settled += 1

    def collect(self) -> Changes:
        changes = Changes(jobs={number: {"id": number} for number in self.changed})
        self.changed = []
        return changes

    def change(self, number: int) -> int:
        self.changed.append(number)
        return number


@pytest.fixture
def books(disk) -> Iterator[Books]:
    found = Books(disk)
    found.desk.start()
    yield found
    assert found.desk.stop(5)


def test_what_is_answered_is_written(disk, books):
    assert books.desk.do(lambda: books.change(7)) == 7
    assert [list(changes.jobs) for changes in disk.written] == [[7]]


def test_what_comes_together_is_one_transaction(disk, books):
    disk.gate.clear()
    first = books.desk.ask(lambda: books.change(0))
    later = [books.desk.ask(lambda n=n: books.change(n)) for n in range(1, 100)]
    disk.gate.set()
    assert [first.result(5), *(one.result(5) for one in later)] == list(range(100))
    assert len(disk.written) <= 3
    assert books.settled <= 4


def test_a_full_disk_makes_everybody_wait_and_nothing_is_told_before_it_has_room(disk, books):
    disk.full.set()
    told = threading.Event()

    def work() -> None:
        books.change(1)
        books.desk.then(told.set)

    answer = books.desk.ask(work)
    assert disk.refused.wait(5)
    disk.refused.clear()
    assert disk.refused.wait(5), "it is tried again"
    assert not answer.done()
    assert not told.is_set()
    assert "no space left" in books.desk.problem
    disk.full.clear()
    answer.result(5)
    assert told.is_set()
    assert books.desk.problem == ""


def test_a_row_that_no_database_takes_keeps_none_of_the_others_waiting(disk, books, monkeypatch):
    def save(connection, changes) -> None:
        raise ValueError("no database takes this")

    apart: list[Changes] = []
    monkeypatch.setattr(module.store, "save", save)
    monkeypatch.setattr(
        module.store, "save_apart", lambda write, changes: apart.append(changes) or [ValueError()]
    )
    assert books.desk.do(lambda: books.change(1)) == 1
    assert [list(changes.jobs) for changes in apart] == [[1]]
    assert books.desk.problem == ""


def test_an_error_of_ours_is_the_callers_and_any_other_too(books):
    def refuse() -> None:
        raise BadRequest("frames: missing")

    with pytest.raises(BadRequest, match="frames: missing"):
        books.desk.do(refuse)
    with pytest.raises(Failed, match="ZeroDivisionError"):
        books.desk.do(lambda: 1 // 0)
    assert books.desk.do(lambda: books.change(1)) == 1


def test_timers_run_in_their_order_and_can_be_cancelled(books):
    ran: list[str] = []
    done = threading.Event()

    def arrange() -> None:
        books.desk.later(0.03, lambda: (ran.append("second"), done.set()))
        books.desk.later(0.02, lambda: ran.append("never")).cancel()
        books.desk.later(0.01, lambda: ran.append("first"))

    books.desk.do(arrange)
    assert done.wait(5)
    assert ran == ["first", "second"]


def test_what_is_asked_of_a_stopped_desk_is_refused_at_once(disk):
    desk = Books(disk).desk
    desk.start()
    assert desk.stop(5)
    with pytest.raises(Unavailable):
        desk.do(lambda: None)


def test_stopping_does_not_wait_for_a_disk_that_is_full(disk):
    books = Books(disk)
    books.desk.start()
    disk.full.set()
    answer = books.desk.ask(lambda: books.change(1))
    assert disk.refused.wait(5)
    assert books.desk.stop(3)
    assert not answer.done(), "what is not written was never promised"
