"""Timers of agents: on time, without drift, listed and stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from callboard_core.link.lane import Lane
from callboard_nodes.timers import Timers
from support.links import Collector


def run(function: Callable[[], Any]) -> Future[Any]:
    future: Future[Any] = Future()
    try:
        future.set_result(function())
    except Exception as error:
        future.set_exception(error)
    return future


@pytest.fixture
def failures() -> Collector[tuple[str, BaseException]]:
    return Collector()


@pytest.fixture
def timers(failures: Collector) -> Iterator[Timers]:
    lane = Lane("timers")
    found = Timers(lane, run, lambda name, error: failures((name, error)))
    yield found
    found.close()
    lane.stop()
    lane.join(5)


def test_a_timer_does_not_drift_however_long_its_function_takes(timers: Timers):
    ticks: Collector[float] = Collector()

    def tick() -> None:
        ticks(time.monotonic())
        time.sleep(0.004)

    begun = time.monotonic()
    timers.add(0.01, tick, repeat=True, name=None)
    seen = ticks.wait_for(100, timeout=20)
    skipped = timers.list()[0].skipped
    late = [when - begun - 0.01 * round((when - begun) / 0.01) for when in seen]
    assert sum(late) / len(late) < 0.005, "on average at its ticks, not after the function"
    assert seen[99] - begun >= 0.01 * 99.5, "not faster either"
    assert seen[99] - begun < 0.01 * (100 + skipped) + 0.1


def test_a_timer_runs_once_or_until_it_is_stopped(timers: Timers):
    once, often = threading.Event(), Collector()
    timers.add(0.01, once.set, repeat=False, name="once")
    name = timers.add(0.01, lambda: often(1), repeat=True, name="often")
    assert timers.add(9, once.set, repeat=True, name="often") == "often-2"
    assert once.wait(5)
    often.wait_for(2)
    assert [(one.name, one.every) for one in timers.list()] == [("often", 0.01), ("often-2", 9.0)]
    assert timers.stop(name)
    assert not timers.stop(name)
    count = len(often.items)
    time.sleep(0.05)  # nothing is to happen
    assert len(often.items) <= count + 1


def test_a_timer_that_fails_goes_on_and_is_told_about(timers: Timers, failures: Collector):
    def fail() -> None:
        raise ValueError("no")

    timers.add(0.005, fail, repeat=True, name="broken")
    seen = failures.wait_for(3)
    assert {name for name, _ in seen} == {"broken"}
    assert timers.list()[0].failed >= 2
