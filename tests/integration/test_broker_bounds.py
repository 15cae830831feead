"""The embedded broker's bounds: each is set low, gone beyond, and seen in `$SYS`; memory stays flat."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import packets as p
from support.engines import Engine, Options, running
from support.kernel import state_of
from support.timing import Stopwatch
from support.waiting import wait_until
from support.wire import Closed, Wire, rejected

LONG = os.environ.get("CALLBOARD_LONG") == "1"
#: What passes a subscriber that never reads: the full million in the long mode.
FLOOD = 1_000_000 if LONG else 100_000


@contextlib.contextmanager
def bounded(tmp_path: Path, **limits: Any) -> Iterator[Engine]:
    with running("embedded", tmp_path, Options(limits=limits)) as engine:
        yield engine


def counted(engine: Engine, bound: str) -> int:
    """How often a bound was hit, as `$SYS/broker/callboard/bounds` tells; waits until it was at all."""
    with engine.connect(f"watch-{bound}") as wire:
        wire.subscribe("$SYS/broker/callboard/bounds")
        while not (number := json.loads(wire.message().payload).get(bound, 0)):
            pass
        return number


def dropped(engine: Engine, at_least: int) -> int:
    """The broker's count of messages it did not deliver."""
    with engine.connect("watch-dropped") as wire:
        wire.subscribe("$SYS/broker/publish/messages/dropped")
        while (number := int(wire.message().payload)) < at_least:
            pass
        return number


def never_reads(engine: Engine, client_id: str, *filters: tuple[str, int], clean: bool = True) -> Wire:
    """A subscriber that will not read again. The kernel takes some 4 MB for it, so floods have to be larger."""
    wire = engine.connect(client_id, clean=clean, keepalive=0)
    wire.subscribe(*filters)
    return wire


def flood(wire: Wire, topic: str, count: int, *, size: int = 100, qos: int = 0) -> None:
    """Publish `count` messages as fast as the broker takes them, and wait until it has handled them."""
    body = b"x" * size
    for start in range(0, count, 500):
        many = min(500, count - start)
        wire.send(*(p.publish(topic, body, qos=qos, pid=n + 1) for n in range(many)))
        if qos:
            for _ in range(many):
                wire.expect(p.PUBACK)
    assert wire.is_quiet()


def test_a_message_larger_than_allowed_closes_its_connection_only(tmp_path: Path) -> None:
    with bounded(tmp_path, message_bytes=10_000) as engine, engine.connect("bystander") as bystander:
        bystander.subscribe(("t", 1))
        with engine.connect("fits") as wire:
            wire.publish("t", b"x" * 10_000, qos=1)
        assert len(bystander.message().payload) == 10_000
        with engine.connect("huge") as wire:
            wire.send(p.publish("t", b"x" * 1_000_000, qos=1)[:5])  # the length alone says it
            assert wire.is_closed()
        with engine.connect("huge", level=5) as wire:
            assert wire.connack.props["maximum_packet_size"] >= 10_000
            wire.send(p.publish("t", b"x" * 1_000_000, qos=1, level=5)[:5])
            assert wire.expect(p.DISCONNECT).code == 0x95
        assert bystander.is_quiet()


def test_a_connect_may_not_announce_more_than_that_either(tmp_path: Path) -> None:
    with bounded(tmp_path, message_bytes=10_000) as engine:
        began = Stopwatch()
        assert rejected(engine.address, b"\x10\xff\xff\xff\x7f") is None
        assert began.within(5), began  # not the time-out of a CONNECT that does not come


def test_no_more_than_the_window_is_in_flight(tmp_path: Path) -> None:
    with bounded(tmp_path, inflight=5) as engine, engine.connect("p") as other, engine.connect("s") as wire:
        wire.subscribe(("t", 1))
        for n in range(20):
            other.publish("t", b"%d" % n, qos=1)
        first = wire.backlog()
        assert len(first) == 5
        for message in first:
            wire.answer(message)
        rest = wire.messages(15)
        assert [int(m.payload) for m in [*first, *rest]] == list(range(20))


@pytest.mark.parametrize("limits", [{"queue_messages": 10}, {"queue_bytes": 1_500}])
def test_the_queue_of_an_absent_session_keeps_the_oldest_up_to_its_bound(
    tmp_path: Path, limits: dict[str, int]
) -> None:
    with bounded(tmp_path, **limits) as engine:
        with engine.connect("s", clean=False) as wire:
            wire.subscribe(("t", 1))
            wire.disconnect()
        with engine.connect("p") as other:
            for n in range(40):
                other.publish("t", b"%100d" % n, qos=1)
        with engine.connect("s", clean=False) as wire:
            got = [int(m.payload) for m in wire.backlog()]
            assert 5 <= len(got) <= 15
            assert got == list(range(len(got)))
        assert counted(engine, "queue") == 40 - len(got)
        assert dropped(engine, 40 - len(got)) == 40 - len(got)


def test_a_slow_reader_loses_qos_0_and_nobody_else_does(tmp_path: Path) -> None:
    count = 30_000
    with (
        running("embedded", tmp_path) as engine,
        engine.connect("p") as other,
        engine.connect("quick") as quick,
        never_reads(engine, "slow", ("t", 0)) as slow,
    ):
        quick.subscribe("t")
        for _ in range(count // 500):
            flood(other, "t", 500, size=500)
            assert len(quick.messages(500)) == 500
        got = len(slow.backlog())
        assert 0 < got < count
        assert dropped(engine, count - got) == count - got


def test_a_slow_reader_of_qos_1_is_dropped_when_its_queue_is_full(tmp_path: Path) -> None:
    with (
        bounded(tmp_path, queue_messages=1_000, inflight=10) as engine,
        engine.connect("p") as other,
        never_reads(engine, "slow", ("t", 1)) as slow,
    ):
        flood(other, "t", 2_000, size=10, qos=1)
        assert slow.is_closed()
        assert counted(engine, "slow_reader") == 1
        assert "slow" in engine.text()


def test_a_slow_reader_with_a_kept_session_finds_its_queue_again(tmp_path: Path) -> None:
    with bounded(tmp_path, queue_messages=100, inflight=10) as engine, engine.connect("p") as other:
        with never_reads(engine, "slow", ("t", 1), clean=False) as slow:
            for n in range(300):
                other.publish("t", b"%d" % n, qos=1)
            assert slow.is_closed()
        with engine.connect("slow", clean=False) as back:
            got = [int(m.payload) for m in back.messages(110)]
            assert got == list(range(110))
            assert back.is_quiet()


def test_a_client_that_takes_nothing_is_disconnected(tmp_path: Path) -> None:
    with (
        bounded(tmp_path, stall_timeout=1) as engine,
        engine.connect("p") as other,
        never_reads(engine, "stalled", ("t", 0)) as stalled,
    ):
        flood(other, "t", 20_000, size=500)
        assert counted(engine, "stall_timeout") == 1
        # The kernel does not keep the megabytes either that it has for a reader that never comes.
        wait_until(lambda: state_of(engine.port, stalled.socket) is None)
        assert stalled.is_closed()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("qos", [0, 1])
def test_memory_stays_flat_with_a_subscriber_that_never_reads(tmp_path: Path, qos: int) -> None:
    """The full size, a million messages, with CALLBOARD_LONG=1."""
    count = FLOOD if LONG or qos == 0 else FLOOD // 5
    with running("embedded", tmp_path) as engine, engine.connect("p") as other:
        slow = never_reads(engine, "slow", ("t", qos), clean=False)
        flood(other, "t", 20_000, size=200, qos=qos)
        before = engine.rss()
        flood(other, "t", count, size=200, qos=qos)
        assert engine.rss() - before < 24_000_000
        slow.close()


def test_memory_stays_flat_with_an_absent_session(tmp_path: Path) -> None:
    with running("embedded", tmp_path) as engine, engine.connect("p") as other:
        with engine.connect("away", clean=False) as wire:
            wire.subscribe(("t", 1))
        flood(other, "t", 12_000, size=200, qos=1)
        before = engine.rss()
        flood(other, "t", FLOOD // 5, size=200, qos=1)
        assert engine.rss() - before < 10_000_000
        assert dropped(engine, 1) > 0


@pytest.mark.parametrize("bound", ["connections", "connections_per_address"])
def test_connections_at_once_are_bounded_and_free_again(tmp_path: Path, bound: str) -> None:
    with bounded(tmp_path, **{bound: 5}) as engine:
        wires = [engine.connect(f"c{n}") for n in range(5)]
        with pytest.raises((Closed, ConnectionError)), Wire(engine.address) as more:
            more.connect("more")
        wires.pop().disconnect()
        _until_accepted(engine, "again").close()
        for wire in wires:
            assert wire.is_quiet()
            wire.close()
        _until_accepted(engine, "last").close()
        assert counted(engine, bound) >= 1


def _until_accepted(engine: Engine, client_id: str) -> Wire:
    """Connect once the broker has seen that another connection is gone."""
    deadline = time.monotonic() + 10
    while True:
        wire = Wire(engine.address)
        try:
            assert wire.connect(client_id).code == 0
        except ConnectionError:
            assert time.monotonic() < deadline
        else:
            return wire


def test_the_rate_of_new_connections_is_bounded(tmp_path: Path) -> None:
    with bounded(tmp_path, connect_rate=20) as engine:
        kept = 0
        began = time.monotonic()
        for _ in range(60):
            with contextlib.suppress(ConnectionError), Wire(engine.address) as wire:
                kept += wire.connect("").code == 0
        took = time.monotonic() - began
        assert 10 <= kept <= 20 + 20 * took + 1
        assert kept < 60 or took > 2
        _until_accepted(engine, "later").close()


@pytest.mark.parametrize("opening", [b"", b"\x10", b"\x10\x40\x00\x04MQTT\x04\x02"])
def test_a_half_open_socket_is_closed_in_time(tmp_path: Path, opening: bytes) -> None:
    with bounded(tmp_path, connect_timeout=0.5) as engine, Wire(engine.address) as wire:
        wire.send(opening)
        assert wire.is_closed()
        assert counted(engine, "connect_timeout") >= 1


def test_a_connect_that_drips_in_does_not_stretch_its_time(tmp_path: Path) -> None:
    with bounded(tmp_path, connect_timeout=1) as engine, Wire(engine.address) as wire:
        began = Stopwatch()
        with contextlib.suppress(ConnectionError):
            for byte in p.connect("x" * 200):
                wire.send(bytes([byte]))
                if wire.is_closed(0.1):
                    break
        assert began.within(10), began


def test_a_thousand_half_open_sockets_disturb_nobody(tmp_path: Path) -> None:
    with bounded(tmp_path, connect_timeout=2) as engine, engine.connect("works") as wire:
        half = [Wire(engine.address) for _ in range(1_000)]
        wire.subscribe("t")
        wire.publish("t", b"x")
        assert wire.message().payload == b"x"
        assert all(each.is_closed() for each in half)
        for each in half:
            each.close()


def test_filters_of_one_client_are_bounded(tmp_path: Path) -> None:
    with bounded(tmp_path, subscriptions=10) as engine:
        for level, refused in ((4, 0x80), (5, 0x97)):
            with engine.connect("s", level=level) as wire:
                codes = wire.subscribe(*((f"t/{n}", 1) for n in range(12))).codes
                assert codes == (1,) * 10 + (refused,) * 2
                assert wire.subscribe(("t/3", 0)).codes == (0,)  # one it has may change
                wire.unsubscribe("t/0")
                assert wire.subscribe(("t/11", 1)).codes == (1,)
        assert counted(engine, "subscriptions") == 4


@pytest.mark.parametrize("limits", [{"retained_messages": 5}, {"retained_bytes": 600}])
def test_retained_messages_are_bounded(tmp_path: Path, limits: dict[str, int]) -> None:
    with bounded(tmp_path, **limits) as engine, engine.connect("p", level=5) as wire:
        codes = [wire.publish(f"r/{n}", b"x" * 100, qos=1, retain=True).code for n in range(10)]
        kept = codes.count(0) + codes.count(0x10)
        assert 3 <= kept <= 5
        assert codes[kept:] == [0x97] * (10 - kept)
        wire.subscribe("r/#")
        assert len(wire.messages(kept)) == kept
        assert wire.is_quiet()
        wire.publish("r/0", b"", qos=1, retain=True)  # making room is always possible
        assert wire.publish("r/9", b"x", qos=1, retain=True).code in {0, 0x10}
        assert counted(engine, "retained") == 10 - kept


def test_how_long_a_session_is_kept_is_bounded(tmp_path: Path) -> None:
    with bounded(tmp_path, session_expiry=1) as engine:
        with engine.connect("old", clean=False) as wire:
            wire.subscribe(("t", 1))
        with engine.connect("new", level=5, props={"session_expiry": 1_000}) as wire:
            assert wire.connack.props["session_expiry"] == 1
        with engine.connect("clock") as clock:
            assert not clock.is_closed(2.5)
        with engine.connect("old", clean=False) as wire:
            assert not wire.connack.session_present


def test_topic_aliases_are_bounded_and_said(tmp_path: Path) -> None:
    with bounded(tmp_path, topic_aliases=0) as engine, engine.connect("a", level=5) as wire:
        assert wire.connack.props.get("topic_alias_maximum", 0) == 0
        wire.send(p.publish("t", b"x", level=5, props={"topic_alias": 1}))
        assert wire.expect(p.DISCONNECT).code == 0x94


def test_two_clients_that_fight_for_one_id_are_shown(tmp_path: Path) -> None:
    with running("embedded", tmp_path) as engine, engine.connect("watch") as watch:
        watch.subscribe("$SYS/broker/callboard/flapping")
        wires = [engine.connect("same") for _ in range(10)]
        while not (shown := json.loads(watch.message().payload)):
            pass
        assert shown[0]["client"] == "same"
        for wire in wires:
            wire.close()
