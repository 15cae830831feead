from __future__ import annotations

from callboard_broker.engine.embedded.waiting import Attempt, Waiting
from callboard_broker.mqtt.connection import Connection
from callboard_broker.mqtt.hub import Hub
from callboard_broker.mqtt.phase import Phase

HUB = Hub()


def waiter() -> Connection:
    connection = Connection(HUB)
    connection.phase = Phase.CHECKING
    return connection


def attempt(address: str, name: str, password: str = "x", *connections: Connection) -> Attempt:
    return Attempt(address, name, password.encode(), list(connections or [waiter()]))


def order(waiting: Waiting) -> list[tuple[str, str, bytes]]:
    found = []
    while (one := waiting.take()) is not None:
        found.append((one.address, one.name, one.password))
    return found


def test_addresses_take_turns_and_so_do_the_names_of_each() -> None:
    waiting = Waiting(10)
    for number in range(3):
        assert waiting.put(attempt("flood", "a", f"{number}"), "a")
    waiting.put(attempt("flood", "b"), "b")
    waiting.put(attempt("honest", "a"), "a")
    assert order(waiting) == [
        ("flood", "a", b"0"),
        ("honest", "a", b"x"),
        ("flood", "b", b"x"),
        ("flood", "a", b"1"),
        ("flood", "a", b"2"),
    ]


def test_names_that_do_not_exist_share_one_turn() -> None:
    waiting = Waiting(10)
    for number in range(3):
        waiting.put(attempt("one", f"nobody{number}"), "")
    waiting.put(attempt("one", "honest"), "honest")
    assert [name for _, name, _ in order(waiting)] == ["nobody0", "honest", "nobody1", "nobody2"]


def test_the_same_credential_is_checked_once_for_all_who_bring_it() -> None:
    waiting = Waiting(1)
    clients = [waiter() for _ in range(250)]
    for client in clients:
        assert waiting.put(attempt("one", "node", "x", client), "node")
        if client is not clients[-1] and client is not clients[0]:
            client.phase = Phase.CLOSED
    found = waiting.take()
    assert found is not None
    assert len(found.connections) < 200  # those who left are forgotten on the way
    assert {clients[0], clients[-1]} <= set(found.connections)
    assert waiting.take() is None


def test_a_name_has_so_much_room_for_each_address_and_who_left_makes_room() -> None:
    waiting = Waiting(2)
    first = attempt("one", "a", "0")
    assert waiting.put(first, "a")
    assert waiting.put(attempt("one", "a", "1"), "a")
    assert not waiting.put(attempt("one", "a", "2"), "a")
    assert waiting.put(attempt("one", "b", "2"), "b")
    assert waiting.put(attempt("two", "a", "2"), "a")
    first.connections[0].phase = Phase.CLOSED
    assert waiting.put(attempt("one", "a", "3"), "a")
    assert [password for *_, password in order(waiting)] == [b"1", b"2", b"2", b"3"]


def test_what_nobody_waits_for_any_more_is_not_checked() -> None:
    waiting = Waiting(10)
    gone = attempt("one", "a", "0")
    waiting.put(gone, "a")
    waiting.put(attempt("one", "a", "1"), "a")
    gone.connections[0].phase = Phase.CLOSED
    assert order(waiting) == [("one", "a", b"1")]
