"""What the embedded broker acknowledged survives `kill -9`; a damaged store does not keep it from starting."""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import packets as p
from support.engines import Embedded, Engine, Options
from support.wire import Closed, Will, Wire

#: Kill cycles under load; 200 in the long mode.
CYCLES = 200 if os.environ.get("CALLBOARD_LONG") == "1" else 12


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Engine]:
    # A fast machine publishes more to the absent session than its queue holds by default.
    engine = Embedded(tmp_path, Options(durability={"will_grace": 1}, limits={"queue_messages": 1_000_000}))
    engine.start()
    yield engine
    if engine.is_running():
        engine.stop()


def crash(engine: Engine) -> None:
    engine.kill()
    engine.start()


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_everything_a_session_is_survives(broker: Engine, how: str) -> None:
    keep = {"level": 5, "clean": False, "props": {"session_expiry": 1000}}
    with broker.connect("p", level=5) as other:
        with broker.connect("s", **keep) as wire:
            wire.subscribe(("q/#", 2), ("gone", 1), ("$share/g/w/#", 1))
            wire.unsubscribe("gone")
            for n, qos in enumerate((1, 2, 2)):
                other.publish(f"q/{n}", b"in flight", qos=qos, props={"content_type": "text/plain"})
            in_flight = [wire.expect(p.PUBLISH) for _ in range(3)]
            wire.send(p.ack(p.PUBREC, in_flight[2].pid))
            wire.expect(p.PUBREL, in_flight[2].pid)
            wire.send(p.publish("in", b"x", qos=2, pid=99, level=5))
            wire.expect(p.PUBREC, 99)
            wire.disconnect()
        other.publish("q/late", b"queued", qos=1, props={"user_property": [("a", "b")]})
        other.publish("gone", b"not wanted", qos=1)
        other.publish("r/a", b"retained", qos=1, retain=True, props={"content_type": "text/plain"})
        other.publish("r/b", b"cleared", qos=1, retain=True)
        other.publish("r/b", b"", qos=1, retain=True)
    crash(broker) if how == "kill" else broker.restart()
    with broker.connect("s", **keep) as wire, broker.connect("watch") as watch:
        assert wire.connack.session_present
        again = [wire.receive() for _ in range(4)]
        expected = [
            (p.PUBLISH, in_flight[0].pid),
            (p.PUBLISH, in_flight[1].pid),
            (p.PUBREL, in_flight[2].pid),
        ]
        assert [(m.kind, m.pid) for m in again[:3]] == expected
        assert [m.dup for m in again[:2]] == [True, True]
        assert again[0].props == {"content_type": "text/plain"}
        assert (again[3].payload, again[3].dup) == (b"queued", False)
        assert again[3].props == {"user_property": [("a", "b")]}
        watch.subscribe("in", "r/#", "w/#")
        assert [(m.topic, m.payload, m.retain) for m in watch.backlog()] == [("r/a", b"retained", True)]
        wire.send(p.publish("in", b"x", qos=2, pid=99, level=5, dup=True))  # known: not delivered again
        wire.expect(p.PUBREC, 99)
        wire.send(p.ack(p.PUBREL, 99))
        wire.expect(p.PUBCOMP, 99)
        assert watch.is_quiet()
        watch.publish("w/1", b"work", qos=1)
        assert wire.wait_for(lambda m: m.kind == p.PUBLISH).payload == b"work"


def test_clean_sessions_do_not_survive(broker: Engine) -> None:
    with broker.connect("clean") as wire:
        wire.subscribe(("t", 1))
        crash(broker)
    with broker.connect("clean", clean=False) as wire:
        assert not wire.connack.session_present
        wire.publish("t", b"x", qos=1)
        assert wire.is_quiet()


def test_the_wills_of_a_crashed_broker_are_published_when_nobody_comes_back(broker: Engine) -> None:
    broker.connect("watch", clean=False).subscribe(("w/+", 1))
    wires = [
        broker.connect(name, clean=False, will=Will(f"w/{name}", qos=1, retain=True)) for name in ("a", "b")
    ]
    crash(broker)
    with broker.connect("a", clean=False), broker.connect("watch", clean=False) as watch:
        assert watch.message().topic == "w/b"
        assert watch.is_quiet()
    for wire in wires:
        wire.close()


class Load(threading.Thread):
    """One client that publishes retained and queued messages and remembers what was acknowledged."""

    def __init__(self, engine: Engine, number: int, cycle: int) -> None:
        super().__init__()
        self.engine, self.number, self.cycle = engine, number, cycle
        self.retained: dict[str, tuple[int, int]] = {}  # topic -> last acknowledged and last sent value
        self.queued: list[int] = []  # acknowledged, in order
        self.sent = 0

    def run(self) -> None:
        with contextlib.suppress(ConnectionError, Closed, AssertionError):
            self._publish(self.engine.connect(f"load{self.number}"))

    def _publish(self, wire: Wire) -> None:
        while True:  # until the broker is killed under us
            topics = [f"r/{self.number}/{n % 7}" for n in range(10)]
            first = self.sent + 1
            packets = []
            for n, topic in enumerate(topics):
                self.sent += 1
                acked = self.retained.get(topic, (0, 0))[0]
                self.retained[topic] = (acked, self.sent)
                value = b"%d %d" % (self.cycle, self.sent)
                packets.append(p.publish(topic, value, qos=1 + n % 2, retain=True, pid=1 + n))
                packets.append(p.publish(f"q/{self.number}", value, qos=1, pid=101 + n))
            wire.send(*packets)
            self._acknowledgements(wire, first, topics)

    def _acknowledgements(self, wire: Wire, first: int, topics: list[str]) -> None:
        missing = set(range(1, 11)) | set(range(101, 111))
        while missing:
            packet = wire.receive()
            if packet.kind == p.PUBREC:
                wire.send(p.ack(p.PUBREL, packet.pid))
            if packet.pid > 100:
                self.queued.append(first + packet.pid - 101)
            else:
                topic = topics[packet.pid - 1]
                acked, sent = self.retained[topic]
                self.retained[topic] = (max(acked, first + packet.pid - 1), sent)
            if packet.kind != p.PUBREC:
                missing.discard(packet.pid)


@pytest.mark.timeout(3600)
def test_no_acknowledged_message_is_lost_in_kill_cycles_under_load(broker: Engine) -> None:
    """200 cycles with CALLBOARD_LONG=1."""
    random.seed(4)
    with broker.connect("keeper", clean=False) as wire:
        wire.subscribe(("q/#", 1))
    for cycle in range(CYCLES):
        loads = [Load(broker, number, cycle) for number in range(4)]
        for load in loads:
            load.start()
        loads[0].join(0.1 + random.random() * 0.4)
        crash(broker)
        for load in loads:
            load.join()
        _check_retained(broker, loads, cycle)
        _check_queue(broker, loads, cycle)
    assert "damaged" not in broker.text()


def _check_retained(broker: Engine, loads: list[Load], cycle: int) -> None:
    """Each topic holds the last acknowledged value or a later one that was sent."""
    with broker.connect("reader") as wire:
        wire.subscribe(("r/#", 1))
        found = {m.topic: m.payload.split() for m in wire.backlog()}
    for load in loads:
        for topic, (acked, sent) in load.retained.items():
            if acked:
                in_cycle, value = map(int, found[topic])
                assert in_cycle == cycle, topic
                assert acked <= value <= sent, topic


def _check_queue(broker: Engine, loads: list[Load], cycle: int) -> None:
    """The absent session has every acknowledged message, in order."""
    got: dict[int, list[int]] = {load.number: [] for load in loads}
    with broker.connect("keeper", clean=False) as wire:
        assert wire.connack.session_present
        while batch := wire.backlog():
            for message in batch:
                wire.answer(message)
                in_cycle, value = map(int, message.payload.split())
                if in_cycle == cycle:
                    got[int(message.topic[2:])].append(value)
        wire.disconnect()
    for load in loads:
        values = got[load.number]
        assert values == sorted(values)
        assert set(load.queued) <= set(values)


def _store(engine: Engine) -> list[Path]:
    files = [path for path in (engine.state / "broker").iterdir() if path.stat().st_size]
    assert files
    return files


def _fill(engine: Engine, count: int = 50) -> None:
    with engine.connect("filler") as wire:
        for n in range(count):
            wire.publish(f"r/{n}", b"kept %d" % n, qos=1, retain=True)


def _kept(engine: Engine) -> int:
    with engine.connect("reader") as wire:
        wire.subscribe(("r/#", 1))
        return len(wire.backlog())


def test_a_store_that_ends_in_the_middle_of_a_record_is_read_up_to_there(broker: Engine) -> None:
    _fill(broker)
    broker.kill()
    newest = max(_store(broker), key=lambda path: path.stat().st_size)
    with newest.open("r+b") as file:
        file.truncate(newest.stat().st_size - 5)
    broker.start()
    assert 48 <= _kept(broker) <= 50
    _fill(broker)
    crash(broker)
    assert _kept(broker) == 50


@pytest.mark.parametrize("damage", ["all", "start", "middle", "empty"])
def test_a_damaged_store_is_set_aside_and_the_broker_starts(broker: Engine, damage: str) -> None:
    _fill(broker)
    broker.stop()
    for path in _store(broker):
        content = bytearray(path.read_bytes())
        if damage == "all":
            content[:] = random.Random(1).randbytes(len(content))
        elif damage == "start":
            content[:16] = bytes(16)
        elif damage == "middle":
            middle = len(content) // 2
            content[middle : middle + 8] = b"\xff" * 8
        else:
            content[:] = b""
        path.write_bytes(content)
    before = broker.text()
    broker.start()
    said = broker.text()[len(before) :]
    if damage != "empty":
        assert "damaged" in said
        assert "set aside" in said
        assert any(
            "damaged" in path.name or "aside" in path.name for path in (broker.state / "broker").iterdir()
        )
    assert _kept(broker) < 50
    _fill(broker)
    crash(broker)
    assert _kept(broker) == 50


def test_two_brokers_cannot_share_a_store(broker: Engine, tmp_path: Path) -> None:
    second = Embedded(tmp_path, Options())
    with pytest.raises(RuntimeError):
        second.start()
    assert broker.is_running()
    _fill(broker, 3)


def test_the_store_does_not_grow_with_traffic_that_is_done_with(broker: Engine) -> None:
    body = b"x" * 10_000
    with broker.connect("p") as wire:
        for _ in range(80):
            wire.send(*(p.publish("r/same", body, qos=1, retain=True, pid=n) for n in range(1, 101)))
            for _ in range(100):
                wire.expect(p.PUBACK)
        while (
            sum(path.stat().st_size for path in _store(broker)) > 40_000_000
        ):  # the test's time-out ends this
            assert wire.is_quiet()
    crash(broker)
    assert _kept(broker) == 1
    assert sum(path.stat().st_size for path in _store(broker)) < 100_000


def test_acknowledgements_may_wait_for_the_disk(tmp_path: Path) -> None:
    """With fsync and a delay, acknowledgements come in batches, and none is missing."""
    engine = Embedded(tmp_path, Options(durability={"fsync": True, "commit_delay": 0.01}))
    engine.start()
    try:
        with engine.connect("p") as wire:
            wire.send(*(p.publish(f"r/{n}", b"x", qos=1 + n % 2, retain=True, pid=n) for n in range(1, 41)))
            for _ in range(40):
                packet = wire.wait_for(lambda m: m.kind in {p.PUBACK, p.PUBREC})
                if packet.kind == p.PUBREC:
                    wire.send(p.ack(p.PUBREL, packet.pid))
                    wire.wait_for(lambda m, pid=packet.pid: m.kind == p.PUBCOMP and m.pid == pid)
        crash(engine)
        assert _kept(engine) == 40
    finally:
        engine.kill()
