"""Slowing down who guesses."""

from __future__ import annotations

from callboard_broker.services.brake import Brake


def failing(brake: Brake, key: str, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        brake.failed(key, now)


def test_a_few_failures_cost_nothing():
    brake = Brake(free=5)
    failing(brake, "a", 4)
    assert brake.wait("a", 0.0) == 0


def test_each_further_failure_doubles_the_wait_up_to_a_bound():
    brake = Brake(free=5, first=1, longest=10)
    waits = []
    for _ in range(10):
        failing(brake, "a", 1)
        waits.append(brake.wait("a", 0.0))
    assert waits == [0, 0, 0, 0, 1, 2, 4, 8, 10, 10]


def test_a_thousand_failures_are_no_trouble():
    brake = Brake()
    failing(brake, "a", 1000)
    assert brake.wait("a", 0.0) == 60


def test_the_wait_passes():
    brake = Brake(free=1, first=8)
    failing(brake, "a", 1, now=100.0)
    assert brake.wait("a", 103.0) == 5
    assert brake.wait("a", 108.0) == 0


def test_others_do_not_wait():
    brake = Brake(free=1)
    failing(brake, "a", 5)
    assert brake.wait("b", 0.0) == 0


def test_success_and_time_forgive():
    brake = Brake(free=1, remembered=100, longest=1000, first=1000)
    failing(brake, "a", 5)
    brake.succeeded("a")
    assert brake.wait("a", 0.0) == 0
    failing(brake, "b", 5)
    assert brake.wait("b", 50.0) > 0
    assert brake.wait("b", 101.0) == 0


def test_memory_is_bounded():
    brake = Brake(free=1, most=3)
    for key in "abcd":
        failing(brake, key, 1)
    assert brake.wait("a", 0.0) == 0
    assert brake.wait("d", 0.0) > 0


def test_failures_are_counted_for_as_long_as_they_are_remembered():
    brake = Brake(remembered=10)
    failing(brake, "a", 3, now=1.0)
    assert [brake.failures("a", now) for now in (1.0, 11.0, 12.0)] == [3, 3, 0]
    assert brake.failures("b", 1.0) == 0
