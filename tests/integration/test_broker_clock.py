"""The embedded broker's machine gets its clock set while clients are connected."""

from __future__ import annotations

import time

import pytest

from callboard_broker.engine.embedded.clock import SteadyTime
from support.embedded import ThreadedEngine, embedded_engine
from support.waiting import wait_until
from support.wire import Closed, Will, connect


@pytest.mark.parametrize("step", [3600.0, -3600.0, 86400.0])
def test_setting_the_clock_does_not_change_the_pace_of_time(step: float) -> None:
    wall, passed = 1_700_000_000.0, 50.0
    steady = SteadyTime(lambda: wall, lambda: passed)
    assert steady.now() == 1_700_000_000.0
    passed += 5
    wall += 5 + step
    assert steady.now() == 1_700_000_005.0


def set_clock(monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + step)


def ticks(engine: ThreadedEngine, seconds: float) -> None:
    """Wait until the hub's own time has gone on by so much."""
    hub = engine.engine.hub
    until = hub.now + seconds
    wait_until(lambda: hub.now >= until)


def test_a_clock_that_jumps_ahead_disconnects_nobody_and_publishes_no_will(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        embedded_engine() as engine,
        connect(engine.address(), "watch") as watch,
        connect(engine.address(), "quiet", keepalive=60, will=Will("w", b"lost")) as quiet,
    ):
        watch.subscribe("w")
        before = engine.engine.hub.now
        set_clock(monkeypatch, 3600)
        ticks(engine, 1)
        assert engine.engine.hub.now - before < 1800
        quiet.publish("w", b"still here", qos=1)
        assert watch.message().payload == b"still here"


def test_a_clock_that_jumps_back_hides_no_dead_client(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        embedded_engine() as engine,
        connect(engine.address(), "watch") as watch,
        connect(engine.address(), "dead", keepalive=1, will=Will("w", b"lost")) as dead,
    ):
        watch.subscribe("w")
        ticks(engine, 0.25)
        set_clock(monkeypatch, -3600)
        assert watch.message().payload == b"lost"
        with pytest.raises(Closed):
            dead.receive()
