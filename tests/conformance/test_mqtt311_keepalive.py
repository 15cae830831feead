"""MQTT 3.1.1 section 3.1.2.10: keep-alive. One experiment with several clients at once, then one test per rule."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import pytest

from support.engines import Engine
from support.wire import Will

LIMIT = 15.0  # seconds; the rule says 1.5 x 2 s, brokers check at intervals, machines are noisy


@dataclass(frozen=True)
class Outcome:
    """Seconds until the will of each silent client came, and which clients were still there at the end."""

    silent: float
    fed: float
    pinging_alive: bool
    unlimited_alive: bool


@pytest.fixture(scope="module")
def outcome(engine: Engine) -> Outcome:
    word = f"keepalive{os.getpid()}"
    with (
        engine.connect(f"{word}w") as watcher,
        engine.connect(f"{word}0", keepalive=0) as unlimited,
        engine.connect(f"{word}p", keepalive=1) as pinging,
        engine.connect(f"{word}f", keepalive=2, will=Will(f"{word}/will/fed")) as fed,
        engine.connect(f"{word}s", keepalive=2, will=Will(f"{word}/will/silent")) as silent,
    ):
        fed.subscribe(f"{word}/food")
        watcher.subscribe(f"{word}/will/+")
        began = time.monotonic()
        gone: dict[str, float] = {}
        while len(gone) < 2 and time.monotonic() - began < LIMIT:
            watcher.publish(f"{word}/food", b"x")
            pinging.is_quiet()
            try:
                gone[watcher.receive(0.2).topic.rpartition("/")[2]] = time.monotonic() - began
            except TimeoutError:
                continue
        alive = pinging.is_quiet() and not pinging.is_closed(0.1)
        assert silent.is_closed()
        return Outcome(gone.get("silent", LIMIT), gone.get("fed", LIMIT), alive, unlimited.is_quiet())


def test_mqtt_3_1_2_24_silent_client_is_dropped_after_one_and_a_half_keep_alives(outcome: Outcome) -> None:
    assert 2.0 <= outcome.silent < LIMIT


def test_mqtt_3_1_2_24_a_client_that_pings_is_not_dropped(outcome: Outcome) -> None:
    assert outcome.pinging_alive


def test_mqtt_3_1_2_24_traffic_towards_a_client_is_no_sign_of_its_life(outcome: Outcome) -> None:
    assert outcome.fed < LIMIT


def test_keep_alive_zero_turns_the_limit_off(outcome: Outcome) -> None:
    assert outcome.unlimited_alive
