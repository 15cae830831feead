"""What is made of a Mosquitto's log: whom it has kept out, and what is worth keeping of it."""

from __future__ import annotations

from callboard_broker.engine.kept_out import KeptOut

REFUSED = "Client <unknown> disconnected, not authorised."


def opened(log: KeptOut, *whence: str, now: float = 1.0) -> None:
    for each in whence:
        assert not log.read(f"New connection from {each} on port 8883.", now)


def test_who_is_let_in_is_not_told_of_and_not_kept_in_the_log():
    log = KeptOut()
    opened(log, "10.0.0.7:50001")
    assert not log.read("New client connected from 10.0.0.7:50001 as pump (p2, c1, k60, u'pump').", 1.0)
    assert not log.read("Client pump disconnected.", 2.0)
    assert not log.read("Client pump closed its connection.", 2.0)
    assert log.read("Error: Address already in use", 2.0)
    assert log.take() == []


def test_a_refused_log_in_is_told_with_the_address_of_its_connection():
    log = KeptOut()
    opened(log, "10.0.0.7:50001", "fd00::7:50002")
    log.read("New client connected from 10.0.0.7:50001 as pump (p2, c1, k60, u'pump').", 1.0)
    assert log.read(REFUSED, 2.0)
    (entry,) = log.take()
    assert (entry.t, entry.what, entry.user, entry.address, entry.result) == (
        2.0,
        "login",
        "",
        "fd00::7",
        "unauthorized",
    )
    assert "does not tell the user" in entry.detail
    assert log.take() == []


def test_what_is_alike_is_counted():
    log = KeptOut()
    for number in range(5):
        opened(log, f"10.0.0.7:{50000 + number}")
        log.read(REFUSED, float(number))
    (entry,) = log.take()
    assert (entry.times, entry.t) == (5, 4.0)


def test_of_several_connections_that_may_have_been_it_all_are_told():
    log = KeptOut()
    opened(log, "10.0.0.7:1", "10.0.0.8:1", "10.0.0.7:2")
    log.read(REFUSED, 2.0)
    (entry,) = log.take()
    assert entry.address == "10.0.0.7"
    assert "10.0.0.8" in entry.detail


def test_a_connection_of_long_ago_was_not_it_and_websockets_are_not_announced():
    log = KeptOut()
    opened(log, "10.0.0.7:1")
    log.read(REFUSED, 60.0)
    (entry,) = log.take()
    assert entry.address == ""
    assert "nor from where" in entry.detail


def test_a_later_mosquitto_names_the_connection_itself():
    log = KeptOut()
    opened(log, "10.0.0.7:1")
    log.read("Client <unknown> [10.0.0.8:4711] disconnected: not authorised.", 2.0)
    (entry,) = log.take()
    assert entry.address == "10.0.0.8"


def test_connections_without_end_are_forgotten():
    log = KeptOut()
    for number in range(5_000):
        opened(log, f"10.0.0.7:{number}")
    log.read("New client connected from 10.0.0.7:4999 as x (p2, c1, k60).", 1.0)
    assert len(log._open) == 999
