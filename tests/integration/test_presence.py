"""Presence over a real Mosquitto: order at connect, ghosts, late wills, twins, brokers that come and go."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from callboard_core import topics
from callboard_core.callee import Callee
from callboard_core.cards import ControlCard, NodeCard, SensorCard
from callboard_core.directory import Directory
from callboard_core.errors import Conflict, TooLarge
from callboard_core.link import Backoff, Endpoint, Link, Message
from callboard_core.messages import State, Status, StatusName, parse
from callboard_core.presence import Presence, new_instance
from callboard_core.topics import Kind
from support.links import Collector, MakeLink, links
from support.mosquitto import Mosquitto, durable, mosquitto
from support.timing import Stopwatch
from support.waiting import wait_until

__all__ = ["durable", "links", "mosquitto"]

SITE = "callboard"


class Node:
    """A node in miniature: a link, its presence and its callee."""

    def __init__(self, make: MakeLink, endpoint: Endpoint, name: str = "alpha", epoch: int = 1, **settings):
        self.link: Link = make(name, endpoint, start=False, **settings)
        card = NodeCard(name=name, epoch=0, version="1")
        self.presence = Presence(self.link, card=card, epoch=epoch, instance=new_instance())
        self.callee = Callee(self.link, self.presence)

    def start(self) -> None:
        self.link.start()
        self.link.wait_connected(30)

    def stop(self) -> None:
        self.link.stop(farewell=self.presence.farewell())
        self.callee.close()


def statuses(items: list[Message]) -> list[str]:
    return [parse(Status, m.payload).status.value for m in items if m.topic.endswith("/status")]


def shows_only(directory: Directory, names: set[str]) -> bool:
    everything = {entry.name for entry in directory.find(live=None)}
    return everything == {entry.name for entry in directory.find()} == names


def test_cards_come_first_then_states_then_ready_and_disconnected_is_the_last_word(
    mosquitto: Mosquitto, links: MakeLink
) -> None:
    got: Collector[Message] = Collector()
    links("reader", mosquitto.endpoint).subscribe("callboard/alpha/#", got).ready.result(30)
    node = Node(links, mosquitto.endpoint, epoch=7)
    node.presence.pin(SensorCard(name="temp", epoch=0))
    node.presence.state(Kind.SENSOR, "temp", State(v=20.5, t=1.0))
    node.link.publish("callboard/alpha/event/hello", b"{}", qos=1)
    node.start()
    node.stop()
    order = [
        m.topic.removeprefix("callboard/alpha/") for m in got.wait(lambda i: "disconnected" in statuses(i))
    ]
    assert [one for one in order if not one.startswith(("reply", "command"))] == [
        "announce",
        "announce/sensor/temp",
        "state/sensor/temp",
        "status",
        "event/hello",
        "status",
    ]
    assert statuses(got.items) == ["ready", "disconnected"]
    assert all(b'"epoch":7' in m.payload for m in got.items if "announce" in m.topic)


def test_what_is_retained_and_not_ours_is_cleared(mosquitto: Mosquitto, links: MakeLink) -> None:
    writer = links("writer", mosquitto.endpoint)
    ghosts = [
        "callboard/alpha/announce/sensor/old",
        "callboard/alpha/state/sensor/old",
        "callboard/alpha/announce/nonsense",
        "callboard/alpha/state/a/b/c",
    ]
    kept = ["callboard/alpha/state/control/fan", "callboard/beta/announce/sensor/old"]
    for topic in (*ghosts, *kept):
        writer.publish(topic, b"{}", qos=1, retain=True).result(30)
    got: Collector[Message] = Collector()
    writer.subscribe("callboard/#", got).ready.result(30)
    got.wait_for(len(ghosts) + len(kept))
    node = Node(links, mosquitto.endpoint)
    node.presence.pin(ControlCard(name="fan", epoch=0))
    node.start()
    got.wait(lambda items: {m.topic for m in items if not m.payload} >= set(ghosts))
    node.link.round_trip(5).result()
    left: Collector[Message] = Collector()
    links("late", mosquitto.endpoint).subscribe("callboard/#", left).ready.result(30)
    topics_left = {m.topic for m in left.wait(lambda i: any(m.topic.endswith("status") for m in i))}
    assert topics_left == {
        *kept,
        "callboard/alpha/announce",
        "callboard/alpha/announce/control/fan",
        "callboard/alpha/status",
    }


def test_a_late_will_of_ours_is_answered_with_ready(mosquitto: Mosquitto, links: MakeLink) -> None:
    node = Node(links, mosquitto.endpoint, epoch=3)
    node.start()
    other = links("other", mosquitto.endpoint)
    got: Collector[Message] = Collector()
    other.subscribe("callboard/alpha/status", got).ready.result(30)
    for name, epoch in (("lost", 3), ("lost", 2), ("disconnected", 3)):
        got.items.clear()
        late = Status(status=name, epoch=epoch, t=1.0, instance=node.presence.instance)
        other.publish("callboard/alpha/status", late, qos=1, retain=True)
        got.wait(lambda items: statuses(items)[-1:] == ["ready"])
    for nonsense in (b"", b"no json"):
        got.items.clear()
        other.publish("callboard/alpha/status", nonsense, qos=1, retain=True)
        got.wait(lambda items: items and b"ready" in items[-1].payload)


def test_a_sleeping_node_comes_back_sleeping(mosquitto: Mosquitto, links: MakeLink) -> None:
    node = Node(links, mosquitto.endpoint)
    node.start()
    node.presence.status(StatusName.SLEEPING).result(30)
    mosquitto.kill(forget=True)
    mosquitto.start()
    got: Collector[Message] = Collector()
    links("reader", mosquitto.endpoint).subscribe("callboard/alpha/status", got)
    assert statuses(got.wait_for(1)) == ["sleeping"]


def test_an_unpinned_thing_is_gone_with_its_state(mosquitto: Mosquitto, links: MakeLink) -> None:
    node = Node(links, mosquitto.endpoint)
    node.presence.pin(SensorCard(name="temp", epoch=0))
    node.presence.state(Kind.SENSOR, "temp", State(v=1, t=1.0))
    node.start()
    node.presence.unpin(Kind.SENSOR, "temp").result(30)
    left: Collector[Message] = Collector()
    late = links("late", mosquitto.endpoint)
    late.subscribe("callboard/alpha/#", left).ready.result(30)
    late.round_trip(5).result()
    assert {m.topic for m in left.items} == {"callboard/alpha/announce", "callboard/alpha/status"}


def test_a_card_over_64_kib_is_refused(mosquitto: Mosquitto, links: MakeLink) -> None:
    node = Node(links, mosquitto.endpoint)
    with pytest.raises(TooLarge):
        node.presence.pin(SensorCard(name="big", epoch=0, description="x" * 70_000))


def test_a_state_of_before_an_outage_never_replaces_a_newer_one(
    mosquitto: Mosquitto, links: MakeLink
) -> None:
    node = Node(links, mosquitto.endpoint)
    node.presence.pin(SensorCard(name="n", epoch=0))
    node.start()
    for round_number in range(3):
        for number in range(200):
            node.presence.state(Kind.SENSOR, "n", State(v=number, t=1.0))
            if number == 100:
                mosquitto.kill(forget=True)
        last = node.presence.state(Kind.SENSOR, "n", State(v=1000 + round_number, t=1.0))
        mosquitto.start()
        last.result(30)
        node.link.wait_connected(30)
        reader = links(f"reader-{round_number}", mosquitto.endpoint)
        got: Collector[Message] = Collector()
        reader.subscribe("callboard/alpha/state/sensor/n", got)
        node.link.round_trip(5).result()
        assert parse(State, got.wait_for(1)[-1].payload).v == 1000 + round_number


@pytest.mark.parametrize("forget", [False, True], ids=["store kept", "store lost"])
@pytest.mark.parametrize("order", ["broker first", "node first", "directory first"])
def test_everything_converges_whatever_dies_and_in_whatever_order_it_comes_back(
    durable: Mosquitto, links: MakeLink, forget: bool, order: str
) -> None:
    node = Node(links, durable.endpoint, epoch=1)
    node.presence.pin(SensorCard(name="temp", epoch=0))
    node.start()
    watcher = links("watcher", durable.endpoint)
    directory = Directory(watcher)
    directory.start()
    directory.wait_complete(10)
    wait_until(lambda: len(directory.find()) == 2)
    for epoch in range(2, 4):
        durable.kill(forget=forget)
        node.link.stop(timeout=0.1)  # without a farewell, as if it had been killed
        node = Node(links, durable.endpoint, epoch=epoch)
        node.presence.pin(SensorCard(name=f"temp-{epoch}", epoch=0))
        steps = [durable.start, node.link.start]
        if order == "node first":
            steps.reverse()
        if order == "directory first":
            directory = Directory(links(f"watcher-{epoch}", durable.endpoint, start=False))
            directory.start()
            directory._link.start()
        for step in steps:
            step()
        names = {"alpha", f"temp-{epoch}"}
        wait_until(partial(shows_only, directory, names))
        found = directory.node("alpha")
        assert found is not None
        assert found.card is not None
        assert found.card.epoch == epoch


def test_a_node_that_is_killed_is_lost_within_a_second(mosquitto: Mosquitto, links: MakeLink) -> None:
    node = Node(links, mosquitto.endpoint)
    node.start()
    directory = Directory(links("watcher", mosquitto.endpoint))
    directory.start()
    wait_until(lambda: len(directory.find()) == 1)
    session = node.link._connector._session
    assert session is not None
    node.link._connector._stopping.set()
    session._client.socket().shutdown(2)  # what a kill does to its socket
    killed = Stopwatch()
    # The broker says so when the socket closes: long before 1.5 keep-alives (15 s) are over.
    wait_until(lambda: not directory.find())
    assert killed.within(1), killed
    assert directory.node("alpha").status.status is StatusName.LOST


def test_a_second_node_of_one_id_is_told_and_the_first_is_not_disturbed(
    mosquitto: Mosquitto, links: MakeLink
) -> None:
    first = Node(links, mosquitto.endpoint)
    first.start()
    session = first.link.session
    second = Node(links, mosquitto.endpoint)
    second.link.start()
    with pytest.raises(Conflict, match="'alpha' already runs on host"):
        second.link.wait_connected(30)
    assert first.link.connected
    assert first.link.session == session


def test_a_second_node_takes_over_by_itself_when_the_first_is_gone(
    mosquitto: Mosquitto, links: MakeLink
) -> None:
    first = Node(links, mosquitto.endpoint)
    first.start()
    second = Node(links, mosquitto.endpoint)
    second.link.start()
    with pytest.raises(Conflict):
        second.link.wait_connected(30)
    first.stop()
    wait_until(lambda: second.link.connected)


def test_a_leftover_ready_of_a_dead_node_does_not_keep_its_successor_out(
    mosquitto: Mosquitto, links: MakeLink
) -> None:
    leftover = Status(status="ready", epoch=1, t=1.0, instance="dead")
    links("x", mosquitto.endpoint).publish(topics.status(SITE, "alpha"), leftover, qos=1, retain=True).result(
        5
    )
    begun = Stopwatch()
    Node(links, mosquitto.endpoint, epoch=2).start()
    assert begun.within(3), begun


@pytest.mark.parametrize("swap", [False, True])
def test_of_two_nodes_that_slip_past_the_probe_exactly_one_survives(
    mosquitto: Mosquitto, links: MakeLink, swap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Presence, "_probe", lambda *_: None)
    conflicts: Collector[Conflict] = Collector()
    backoff = Backoff(first=0.05, cap=0.3, steady=5.0)
    nodes = [Node(links, mosquitto.endpoint, epoch=n, reconnect=backoff) for n in (1, 2)]
    for node in nodes:
        node.presence.on_conflict(conflicts)
    first, second = reversed(nodes) if swap else nodes
    first.start()
    second.link.start()
    conflicts.wait_for(1, timeout=30)
    # The one that was there first goes on.
    wait_until(lambda: first.link.connected)
    first.link.wait_connected(30)
    session = first.link.session
    time.sleep(1.0)
    assert first.link.session == session
    assert len(conflicts.items) == 1
    assert not second.link.connected


def test_of_two_nodes_that_start_at_one_moment_exactly_one_survives(
    mosquitto: Mosquitto, links: MakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Presence, "_probe", lambda *_: None)
    for _ in range(3):
        conflicts: Collector[Conflict] = Collector()
        backoff = Backoff(first=0.05, cap=0.3, steady=5.0)
        nodes = [Node(links, mosquitto.endpoint, reconnect=backoff) for _ in range(2)]
        for node in nodes:
            node.presence.on_conflict(conflicts)
        starts = [threading.Thread(target=node.link.start) for node in nodes]
        for start in starts:
            start.start()
        conflicts.wait_for(1, timeout=30)
        wait_until(lambda nodes=nodes: sum(node.link.connected for node in nodes) == 1)
        survivor = next(node for node in nodes if node.link.connected)
        survivor.link.wait_connected(30)
        session = survivor.link.session
        time.sleep(0.6)
        assert survivor.link.session == session
        assert len(conflicts.items) == 1
        for node in nodes:
            node.stop()
