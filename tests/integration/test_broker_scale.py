"""A retained directory of 10,000 cards and as many subscriptions, on the embedded broker.

What takes how long beside Mosquitto is measured by `bench/broker.py`; here costs are compared with costs of the same broker.
"""

from __future__ import annotations

import os
import resource
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import packets as p
from support.engines import Engine, Options, running
from support.timing import Stopwatch
from support.wire import Wire

CARDS = 10_000
CARD = b'{"kind": "sensor", "name": "x", "unit": "C"}' * 6


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A broker with 10,000 cards."""
    with running("embedded", tmp_path_factory.mktemp("scale")) as engine:
        _pin(engine)
        yield engine


def _pin(engine: Engine) -> None:
    with engine.connect("pinner") as wire:
        for start in range(0, CARDS, 500):
            topics = [f"callboard/n{n // 20}/announce/sensor/s{n % 20}" for n in range(start, start + 500)]
            wire.send(
                *(p.publish(topic, CARD, qos=1, retain=True, pid=n + 1) for n, topic in enumerate(topics))
            )
            for _ in topics:
                wire.expect(p.PUBACK)


@pytest.mark.parametrize(
    ("wanted", "count"), [("#", CARDS), ("callboard/+/announce/#", CARDS), ("callboard/n7/#", 20)]
)
def test_a_new_subscriber_has_every_card_once_before_anything_newer(
    directory: Engine, wanted: str, count: int
) -> None:
    with directory.connect("reader") as wire, directory.connect("writer") as other:
        wire.subscribe((wanted, 1))
        other.publish("callboard/n7/announce/sensor/s3", b"newer", qos=1)
        cards = wire.messages(count)
        assert len({card.topic for card in cards}) == count
        assert {(card.payload, card.qos, card.retain) for card in cards} == {(CARD, 1, True)}
        newer = wire.message()
        assert (newer.payload, newer.retain) == (b"newer", False)
        assert wire.is_quiet()


def test_connecting_costs_the_same_with_and_without_10_000_cards(directory: Engine, tmp_path: Path) -> None:
    with running("embedded", tmp_path) as empty, directory.connect("everything") as wire:
        wire.subscribe("#")
        wire.messages(CARDS)
        costs: dict[str, list[float]] = {"empty": [], "full": []}
        for _ in range(5):
            for name, engine in (("empty", empty), ("full", directory)):
                costs[name].append(_cpu_of(engine, lambda engine=engine: _connect_many(engine)))
        assert statistics.median(costs["full"]) <= 1.5 * statistics.median(costs["empty"]) + 0.03


def _connect_many(engine: Engine) -> None:
    for n in range(200):
        engine.connect(f"c{n}").disconnect()


def _cpu_of(engine: Engine, work) -> float:
    before = engine.cpu_seconds()
    work()
    return engine.cpu_seconds() - before


def test_10_000_subscriptions_do_not_slow_a_publish_down(tmp_path: Path) -> None:
    def publish(wire: Wire) -> None:
        for start in range(0, 20_000, 500):
            wire.send(
                *(
                    p.publish(f"callboard/n{n % 50}/state/sensor/x", b"21.4")
                    for n in range(start, start + 500)
                )
            )
        wire.is_quiet()

    with running("embedded", tmp_path) as engine, engine.connect("p") as wire, engine.connect("s") as other:
        publish(wire)
        few = min(_cpu_of(engine, lambda: publish(wire)) for _ in range(3))
        for start in range(0, 10_000, 1_000):
            codes = other.subscribe(
                *((f"callboard/+/state/control/c{n}", 0) for n in range(start, start + 1_000))
            ).codes
            assert codes == (0,) * 1_000
        publish(wire)
        many = min(_cpu_of(engine, lambda: publish(wire)) for _ in range(3))
        assert many <= 1.5 * few + 0.03


def test_10_000_subscriptions_are_made_in_linear_time(tmp_path: Path) -> None:
    with running("embedded", tmp_path) as engine, engine.connect("s") as wire:
        costs = []
        for start in range(0, 10_000, 2_000):
            filters = [(f"callboard/+/state/sensor/s{n}", 1) for n in range(start, start + 2_000)]
            costs.append(_cpu_of(engine, lambda filters=filters: wire.subscribe(*filters)))
        assert sum(costs) < 5
        assert costs[-1] <= 3 * costs[0] + 0.05


def test_idle_connections_cost_little_memory(tmp_path: Path) -> None:
    """A thousand here, 5,000 in the bench."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4_096)), hard))
    with running("embedded", tmp_path) as engine:
        wires = [engine.connect(f"warm{n}") for n in range(100)]
        before = engine.rss()
        wires += [engine.connect(f"idle{n}") for n in range(1_000)]
        assert (engine.rss() - before) / 1_000 <= 20_000
        for wire in wires:
            wire.close()


def test_a_burst_of_connects_is_served_at_once(tmp_path: Path) -> None:
    """A backlog of a hundred made a thousand of them wait for retransmissions, 8 s."""
    with running("embedded", tmp_path, Options()) as engine:
        wires = [Wire(engine.address) for _ in range(1_000)]
        began = Stopwatch()
        for n, wire in enumerate(wires):
            wire.send(p.connect(f"b{n}"))
        assert all(wire.receive().code == 0 for wire in wires)
        assert began.within(5 * (os.cpu_count() or 1)), began
        for wire in wires:
            wire.close()
