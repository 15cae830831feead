"""The directory over a real Mosquitto: complete, quick, and true again after whatever happened."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from pathlib import Path

import pytest

from callboard_core import topics
from callboard_core.cards import NodeCard, SensorCard
from callboard_core.directory import Available, Changed, Directory, Dropped, Refused
from callboard_core.errors import BadRequest, TimedOut
from callboard_core.link import Link
from callboard_core.messages import Status
from callboard_core.topics import Kind
from support.links import Collector, MakeLink, links
from support.mosquitto import Mosquitto, mosquitto
from support.timing import Stopwatch
from support.waiting import wait_until

__all__ = ["links", "mosquitto"]

SITE = "callboard"


def announce(link: Link, node: str, *sensors: str, epoch: int = 1, tags: tuple[str, ...] = ()) -> None:
    card = NodeCard(name=node, epoch=epoch, version="1", tags=list(tags))
    link.publish(topics.announce(SITE, node), card, qos=1, retain=True)
    for name in sensors:
        thing = SensorCard(name=name, epoch=epoch, tags=list(tags))
        link.publish(topics.announce(SITE, node, Kind.SENSOR, name), thing, qos=1, retain=True)
    say(link, node, "ready", epoch)


def say(link: Link, node: str, status: str, epoch: int = 1) -> None:
    body = Status(status=status, epoch=epoch, t=time.time())
    link.publish(topics.status(SITE, node), body, qos=1, retain=True).result(30)


@pytest.fixture
def writer(mosquitto: Mosquitto, links: MakeLink) -> Link:
    return links("writer", mosquitto.endpoint, outbox_limit=50_000)


@pytest.fixture
def directory(mosquitto: Mosquitto, links: MakeLink) -> Directory:
    made = Directory(links("watcher", mosquitto.endpoint))
    made.start()
    made.wait_complete(10)
    return made


def test_it_is_complete_at_once_when_nothing_is_announced(directory: Directory) -> None:
    assert directory.complete
    assert directory.find() == []
    assert directory.nodes() == []
    assert directory.node("alpha") is None


def test_a_nonce_does_not_overtake_the_subscriptions_of_a_link_that_is_connected_already(
    mosquitto: Mosquitto, links: MakeLink, writer: Link
) -> None:
    announce(writer, "alpha", "temp")
    link = links("watcher", mosquitto.endpoint)
    for _ in range(200):
        directory = Directory(link)
        directory.start()
        directory.wait_complete(10)
        assert [node.id for node in directory.nodes()] == ["alpha"]


def test_what_was_announced_before_is_there_when_it_is_complete(
    mosquitto: Mosquitto, links: MakeLink, writer: Link
) -> None:
    announce(writer, "alpha", "temp", "humidity")
    announce(writer, "beta", "temp")
    say(writer, "beta", "lost")
    directory = Directory(links("watcher", mosquitto.endpoint, start=False))
    directory.start()
    directory._link.start()
    directory.wait_complete(10)
    assert {(e.node, e.name) for e in directory.find()} == {
        ("alpha", "alpha"),
        ("alpha", "temp"),
        ("alpha", "humidity"),
    }
    assert len(directory.find(live=None)) == 5
    assert {e.node for e in directory.find(live=False)} == {"beta"}
    assert [(n.id, n.live) for n in sorted(directory.nodes(), key=lambda n: n.id)] == [
        ("alpha", True),
        ("beta", False),
    ]


def test_it_can_be_searched_by_kind_name_node_and_tags(directory: Directory, writer: Link) -> None:
    announce(writer, "alpha", "temp-in", "temp-out", tags=("roof", "old"))
    announce(writer, "beta", "temp-in", tags=("roof",))
    directory._link.round_trip(5).result()
    assert len(directory.find(kind="sensor")) == 3
    assert len(directory.find(kind=Kind.SENSOR, name="temp-*")) == 3
    assert {e.name for e in directory.find(kind="node")} == {"alpha", "beta"}
    assert len(directory.find(name=re.compile("temp-(in|on)"))) == 2
    assert len(directory.find(name="temp")) == 0
    assert len(directory.find(node="alpha")) == 3
    assert len(directory.find(tags=["roof", "old"], kind="sensor")) == 2
    assert len(directory.find(tags="roof")) == 5
    assert directory.find(tags=["nowhere"]) == []
    with pytest.raises(BadRequest, match="kind 'wheel'"):
        directory.find(kind="wheel")


def test_it_times_out_without_a_broker(links: MakeLink) -> None:
    from callboard_core.link import Endpoint
    from support.mosquitto import free_port

    directory = Directory(links("watcher", Endpoint("127.0.0.1", free_port()), start=False))
    directory.start()
    directory._link.start()
    with pytest.raises(TimedOut):
        directory.wait_complete(0.2)


def test_a_follower_is_told_what_is_there_comes_changes_and_goes(directory: Directory, writer: Link) -> None:
    announce(writer, "alpha", "temp")
    directory._link.round_trip(5).result()
    events: Collector = Collector()
    follower = directory.follow(kind="sensor", callback=events)
    assert isinstance(events.items[0], Available)
    announce(writer, "alpha", "humidity")
    assert events.wait_for(2)[1].entry.name == "humidity"
    changed = SensorCard(name="temp", epoch=1, label="Temperature")
    writer.publish(topics.announce(SITE, "alpha", Kind.SENSOR, "temp"), changed, qos=1, retain=True)
    event = events.wait_for(3)[2]
    assert isinstance(event, Changed)
    assert (event.before.card.title, event.entry.card.title) == ("temp", "Temperature")
    writer.publish(topics.announce(SITE, "alpha", Kind.SENSOR, "humidity"), b"", qos=1, retain=True)
    event = events.wait_for(4)[3]
    assert isinstance(event, Dropped)
    assert (event.entry.name, event.reason) == ("humidity", "removed")
    say(writer, "alpha", "lost")
    event = events.wait_for(5)[4]
    assert isinstance(event, Dropped)
    assert (event.entry.name, event.reason) == ("temp", "lost")
    say(writer, "alpha", "ready")
    assert isinstance(events.wait_for(6)[5], Available)
    follower.close()
    say(writer, "alpha", "lost")
    directory._link.round_trip(5).result()
    assert len(events.items) == 6


def test_a_follower_can_be_iterated_and_closed_from_elsewhere(directory: Directory, writer: Link) -> None:
    follower = directory.follow(live=None)
    names = []

    def read() -> None:
        names.extend(event.entry.name for event in follower)

    reader = threading.Thread(target=read)
    reader.start()
    announce(writer, "alpha", "a", "b")
    wait_until(lambda: len(names) >= 3)
    follower.close()
    reader.join(30)
    assert not reader.is_alive()
    assert {"alpha", "a", "b"} == set(names)


async def test_a_follower_can_be_iterated_asynchronously(directory: Directory, writer: Link) -> None:
    names = []
    with directory.follow(kind="sensor") as follower:
        await asyncio.to_thread(announce, writer, "alpha", "a", "b")
        async with asyncio.timeout(5):
            async for event in follower:
                names.append(event.entry.name)
                if len(names) == 2:
                    break
    assert names == ["a", "b"]


def test_a_callback_that_raises_stops_neither_the_directory_nor_other_followers(
    directory: Directory, writer: Link
) -> None:
    events: Collector = Collector()

    def broken(_: object) -> None:
        raise RuntimeError("on purpose")

    directory.follow(callback=broken)
    directory.follow(callback=events)
    announce(writer, "alpha", "a", "b")
    events.wait_for(3)
    assert len(directory.find()) == 3


def test_a_slow_reader_sees_the_last_state_and_costs_no_memory(directory: Directory, writer: Link) -> None:
    follower = directory.follow(kind="sensor")
    for number in range(200):
        card = SensorCard(name="temp", epoch=1, label=str(number))
        writer.publish(topics.announce(SITE, "alpha", Kind.SENSOR, "temp"), card, qos=1, retain=True)
    say(writer, "alpha", "ready")
    directory._link.round_trip(5).result()
    event = follower.get(30)
    assert isinstance(event, Available)
    assert event.entry.card.title == "199"
    assert follower.get(0.01) is None
    follower.close()


def test_what_does_not_parse_is_refused_told_and_changes_nothing(directory: Directory, writer: Link) -> None:
    announce(writer, "alpha", "temp")
    refused: Collector[Refused] = Collector()
    directory.on_refused(refused)
    topic = topics.announce(SITE, "alpha", Kind.SENSOR, "temp")
    bad = [
        (topic, b"no json"),
        (topic, b'{"kind": "sensor", "name": "other", "epoch": 1}'),
        (
            topic,
            b'{"kind": "sensor", "name": "temp", "epoch": 1, "description": "' + b"x" * 1_000_000 + b'"}',
        ),
        (f"{SITE}/alpha/announce/wheel/x", b"{}"),
        (f"{SITE}/Alpha/status", b"{}"),
        (f"{SITE}/alpha/status", b'{"status": "odd", "epoch": 1, "t": 1}'),
        (f"{SITE}/alpha/announce", b"\xff"),
    ]
    for where, payload in bad:
        writer.publish(where, payload, qos=1).result(30)
    items = refused.wait_for(len(bad))
    assert [one.topic for one in items] == [where for where, _ in bad]
    assert items[0].size == 7
    assert "name" in items[1].reason
    assert "limit" in items[2].reason
    assert directory.refused == len(bad)
    assert {e.name for e in directory.find()} == {"alpha", "temp"}


def test_what_was_cleared_while_the_link_was_away_is_dropped_after_the_reconnect(
    mosquitto: Mosquitto, directory: Directory, writer: Link
) -> None:
    announce(writer, "alpha", "temp", "humidity")
    announce(writer, "beta", "temp")
    events: Collector = Collector()
    wait_until(lambda: len(directory.find()) == 5)
    directory.follow(callback=events)
    # The connection breaks, and the broker's word about it reaches nobody before all is cleared.
    hold = threading.Event()
    directory._link._connector._login.endpoint = lambda: hold.wait(10) and mosquitto.endpoint  # type: ignore[return-value]
    directory._link._connector._session._client.socket().shutdown(2)
    wait_until(lambda: not directory._link.connected)
    assert not directory.complete
    writer.publish(topics.announce(SITE, "alpha", Kind.SENSOR, "temp"), b"", qos=1, retain=True)
    for topic in (
        topics.announce(SITE, "beta"),
        topics.announce(SITE, "beta", Kind.SENSOR, "temp"),
        topics.status(SITE, "beta"),
    ):
        writer.publish(topic, b"", qos=1, retain=True).result(30)
    assert len(directory.find()) == 5
    hold.set()
    directory.wait_complete(10)
    assert {e.name for e in directory.find(live=None)} == {"alpha", "humidity"}
    assert [n.id for n in directory.nodes()] == ["alpha"]
    dropped = [e.entry.key for e in events.wait_for(8) if isinstance(e, Dropped)]
    assert len(dropped) == 3


def test_it_looks_again_when_messages_had_to_be_dropped(
    mosquitto: Mosquitto, links: MakeLink, writer: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard_core.link.inbox.PATIENCE", 0.05)
    watcher = links("watcher", mosquitto.endpoint, inbox_limit=20)
    release = threading.Event()
    watcher.subscribe("callboard/writer/event/block", lambda _: release.wait(10)).ready.result(30)
    directory = Directory(watcher)
    directory.start()
    announce(writer, "alpha", "old")
    wait_until(lambda: len(directory.find()) == 2)
    writer.publish("callboard/writer/event/block", b"")
    for number in range(100):
        writer.publish(topics.announce(SITE, f"junk-{number}"), b"", qos=1, retain=True)
    wait_until(lambda: watcher.dropped)
    announce(writer, "alpha", "new")
    writer.publish(topics.announce(SITE, "alpha", Kind.SENSOR, "old"), b"", qos=1, retain=True).result(30)
    watcher.publish("callboard/watcher/event/x", b"", qos=1).result(30)
    release.set()
    wait_until(lambda: {e.name for e in directory.find()} == {"alpha", "new"})


@pytest.mark.parametrize("limits", ["", "max_queued_messages 1000\n"], ids=["unlimited", "mosquitto's own"])
def test_ten_thousand_cards_are_complete_in_two_seconds_whatever_the_brokers_queue(
    tmp_path: Path, links: MakeLink, limits: str
) -> None:
    broker = Mosquitto(tmp_path, extra=limits)
    broker.start()
    try:
        writer = links("filler", broker.endpoint, outbox_limit=50_000)
        for number in range(1_000):
            node = f"n{number}"
            card = NodeCard(name=node, epoch=1, version="1")
            writer.publish(topics.announce(SITE, node), card, qos=1, retain=True)
            for sensor in range(9):
                thing = SensorCard(name=f"s{sensor}", epoch=1, tags=[f"row-{number % 10}"])
                topic = topics.announce(SITE, node, Kind.SENSOR, thing.name)
                writer.publish(topic, thing, qos=1, retain=True)
            ready = Status(status="ready", epoch=1, t=1.0)
            writer.publish(topics.status(SITE, node), ready, qos=1, retain=True)
        writer.round_trip(30).result()
        quick = False
        for number in range(3):
            watcher = links(f"watcher-{number}", broker.endpoint, start=False)
            directory = Directory(watcher)
            directory.start()
            took = Stopwatch()
            watcher.start()
            directory.wait_complete(40)
            quick = quick or took.within(2)
            assert len(directory.find()) == 10_000
            assert len(directory.find(kind="sensor", tags=["row-3"])) == 900
            assert watcher.dropped == 0
        assert quick
    finally:
        broker.kill()
