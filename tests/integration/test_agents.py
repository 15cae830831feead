"""Agents on real nodes: methods, attributes, timers, events, and names that only one may have."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import callboard
from callboard import Agent, Client, Heard, Link, Node, Severity, after, attribute, every, method, on
from callboard_core import topics
from callboard_core.cards import WorkerCard
from callboard_core.errors import BadPayload, BadRequest, Conflict, Failed, NotFound, TimedOut, Unavailable
from callboard_core.messages import Status, StatusName
from callboard_core.topics import Kind
from support.links import Collector
from support.mosquitto import Mosquitto, mosquitto
from support.nodes import node_settings
from support.waiting import wait_until

__all__ = ["mosquitto"]

MakeNode = Callable[..., Node]


@pytest.fixture
def make_node(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[MakeNode]:
    made: list[Node] = []

    def make(name: str, *agents: Agent, start: bool = True) -> Node:
        node = Node(name, settings=node_settings(tmp_path / name, mosquitto.endpoint))
        made.append(node)
        node.add(*agents)
        return node.start() if start else node

    yield make
    for node in made:
        node.stop()


@pytest.fixture
def board(mosquitto: Mosquitto) -> Iterator[Client]:
    with callboard.connect(str(mosquitto.endpoint)) as client:
        yield client


class Camera(Agent):
    """Takes pictures."""

    exposure: float = attribute(0.1, settable=True, description="seconds")
    taken: int = attribute(0)

    def __init__(self, name: str, **settings: bool) -> None:
        super().__init__(name, **settings)
        self.conflicts: Collector[Conflict] = Collector()
        self.life: list[str] = []

    def on_start(self) -> None:
        self.life.append("start")

    def on_stop(self) -> None:
        self.life.append("stop")

    def on_conflict(self, conflict: Conflict) -> None:
        self.conflicts(conflict)

    @method(idempotent=True)
    def take_picture(self, exposure: float | None = None) -> str:
        """Takes a picture."""
        self.taken += 1
        return f"{self.name}: {exposure or self.exposure} s"

    @method
    async def wait(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return threading.current_thread().name

    @method
    def where(self) -> str:
        return threading.current_thread().name

    @method
    def fail(self) -> None:
        raise LookupError("no film")


class Clock(Agent):
    """Ticks, and tells it."""

    ticks: int = attribute(0)

    @every(0.02)
    def tick(self) -> None:
        self.ticks += 1
        self.emit("tick", number=self.ticks)

    @every(0.02)
    def broken(self) -> None:
        raise ValueError("it is meant to")

    @after(0.05)
    async def ring(self) -> None:
        self.emit("ring", message="time is up")


class Ear(Agent):
    """Hears a clock."""

    numbers: list[int] = attribute([])
    rings: list[str] = attribute([])

    @on("tick", node="clockwork", where=lambda heard: heard.data["number"] % 2 == 0)
    def hear(self, heard: Heard) -> None:
        self.numbers = [*self.numbers, heard.data["number"]]

    @on("ring")
    async def listen(self, heard: Heard) -> None:
        self.rings = [*self.rings, f"{heard.node}: {heard.message}"]


def test_methods_are_called_and_attributes_read_and_set_through_a_proxy(
    make_node: MakeNode, board: Client
) -> None:
    make_node("alpha", Camera("camera-1"))
    camera = board.proxy("camera-1")
    camera.wait_ready(5)
    wait_until(lambda: len(camera.fields()) == 7)
    assert camera.fields() == ["exposure", "fail", "take-picture", "taken", "timers", "wait", "where"]
    assert {"take_picture", "exposure"} <= set(dir(camera))
    assert camera.take_picture() == "camera-1: 0.1 s"
    camera.exposure = 0.5
    assert camera.exposure == 0.5
    assert camera.take_picture() == "camera-1: 0.5 s"
    assert camera.take_picture(exposure=2) == "camera-1: 2.0 s"
    assert camera.taken == 3
    camera.method("take_picture").cast().result(5)
    wait_until(lambda: camera.taken == 4)
    assert camera.wait(seconds=0) != camera.where()
    assert camera.method("wait").submit(seconds=0).result(5)
    assert camera.method("take_picture").schema.description == "Takes a picture."
    assert str(inspect.signature(camera.wait)) == "(*, seconds: float) -> str"
    assert str(inspect.signature(camera.take_picture)) == "(*, exposure: Any = None) -> str"
    assert "args" in str(inspect.signature(camera.swim)), "nobody offers it"
    with pytest.raises(Failed, match="LookupError: no film"):
        camera.fail()
    with pytest.raises(BadPayload, match="value: expected a number"):
        camera.exposure = "long"
    with pytest.raises(BadPayload, match=r"^taken: .* can only be read"):
        camera.taken = 0
    with pytest.raises(BadPayload, match=r"^wait: .* is a method"):
        camera.wait = 0
    with pytest.raises(BadPayload, match="exposure: "):
        camera.take_picture(exposure="long")
    with pytest.raises(Unavailable):
        camera.swim()


async def test_on_an_event_loop_a_proxys_methods_are_awaited(
    make_node: MakeNode, mosquitto: Mosquitto
) -> None:
    await asyncio.to_thread(make_node, "alpha", Camera("camera-1"))
    async with callboard.connect(str(mosquitto.endpoint)) as board:
        camera = await board.proxy("camera-1")
        await camera.wait_ready(5)
        await board.pool("camera-1:*").wait_ready(5, members=7)
        assert await camera.take_picture(exposure=1.5) == "camera-1: 1.5 s"
        assert await camera.set(exposure=3.0) == 3.0
        assert await camera.exposure == 3.0
        assert await camera.get("taken") == 1


def test_an_agents_methods_run_one_at_a_time_on_its_own_thread(make_node: MakeNode, board: Client) -> None:
    make_node("alpha", Camera("camera-1"), Camera("camera-2"))
    first, second = board.proxy("camera-1"), board.proxy("camera-2")
    for camera in (first, second):
        camera.method("where")._pool().wait_ready(5)
    threads = {first.method("where").submit().result(5) for _ in range(20)}
    assert threads == {"agent-camera-1"}
    assert second.where() == "agent-camera-2"


def test_timers_run_are_listed_and_stopped_and_events_are_heard(make_node: MakeNode, board: Client) -> None:
    make_node("listener", Ear("ear"))
    make_node("clockwork", Clock("clock"))
    clock, ear = board.proxy("clock"), board.proxy("ear")
    board.pool("clock:*").wait_ready(5, members=2)
    board.pool("ear:*").wait_ready(5, members=3)
    wait_until(lambda: clock.ticks > 20)
    wait_until(lambda: len(ear.numbers) > 3)
    assert all(number % 2 == 0 for number in ear.numbers)
    wait_until(lambda: ear.rings == ["clockwork: time is up"])
    timers = {one["name"]: one for one in clock.timers()}
    assert set(timers) == {"tick", "broken"}, "what runs once is gone"
    assert timers["broken"]["failed"] > 5
    assert timers["tick"]["every"] == 0.02
    clock.timers(stop="tick")
    stopped = clock.ticks
    assert [one["name"] for one in clock.timers()] == ["broken"]
    assert clock.ticks <= stopped + 1
    with pytest.raises(BadRequest, match="no timer 'tick'"):
        clock.timers(stop="tick")


def test_an_agent_starts_and_stops_with_its_node_and_may_join_a_running_one(
    make_node: MakeNode, board: Client
) -> None:
    camera, late = Camera("camera-1"), Camera("camera-2")
    with pytest.raises(Unavailable, match="was not added"):
        camera.emit("x")
    with pytest.raises(Unavailable, match="does not run"):
        camera.every(1, print)
    node = make_node("alpha", camera)
    node.add(late)
    proxy = board.proxy("camera-2")
    proxy.method("take_picture")._pool().wait_ready(5)
    assert proxy.take_picture() == "camera-2: 0.1 s"
    with pytest.raises(BadRequest, match="belongs to node 'alpha'"):
        node.add(late)
    with pytest.raises(BadRequest, match="exclusive"):
        node.add(Camera("camera-1"))
    ticks: Collector[int] = Collector()
    name = late.every(0.01, lambda: ticks(1), name="own")
    ticks.wait_for(2)
    assert late.stop_timer(name)
    node.stop()
    assert camera.life == late.life == ["start", "stop"]


def test_the_second_publisher_of_a_name_is_told_and_takes_over_when_the_first_leaves(
    make_node: MakeNode, board: Client
) -> None:
    events: Collector[Heard] = Collector()
    listener = make_node("listener")
    listener.listen("conflict", events)
    first, second = Camera("camera-1"), Camera("camera-1")
    holder = make_node("alpha", first)
    pool = board.pool("camera-1:take-picture")
    pool.wait_ready(5)
    make_node("beta", second)
    [conflict] = second.conflicts.wait_for(1)
    assert "'camera-1:" in conflict.message
    assert "held by node 'alpha'" in conflict.message
    assert events.wait_for(1)[0].node == "beta"
    assert [one.node for one in pool.members()] == ["alpha"]
    holder.stop()
    wait_until(lambda: [one.node for one in pool.members()] == ["beta"])
    assert pool.call() == "camera-1: 0.1 s"
    assert first.conflicts.items == []


def test_of_two_that_start_at_the_same_moment_one_keeps_the_name(make_node: MakeNode, board: Client) -> None:
    cameras = {name: Camera("camera-1") for name in ("alpha", "beta", "gamma")}
    nodes = [make_node(name, camera, start=False) for name, camera in cameras.items()]
    threads = [threading.Thread(target=node.start) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    pool = board.pool("camera-1:take-picture")
    pool.wait_ready(5)

    def settled() -> bool:
        holders = [one.node for one in pool.members()]
        others = [camera for name, camera in cameras.items() if name not in holders]
        return len(holders) == 1 and all(camera.conflicts.items for camera in others)

    wait_until(settled)
    assert pool.call() == "camera-1: 0.1 s"


def test_names_that_are_shared_form_a_pool(make_node: MakeNode, board: Client) -> None:
    for name in ("alpha", "beta"):
        make_node(name, Camera("camera", exclusive=False))
    pool = board.pool("camera:take-picture")
    pool.wait_ready(5, members=2)
    assert {one.node for one in pool.members()} == {"alpha", "beta"}


def test_an_agent_is_offered_more_while_it_runs_and_removed_alone(make_node: MakeNode, board: Client) -> None:
    camera, other = Camera("camera-1"), Camera("camera-2")
    node = make_node("studio", camera, other)
    proxy = board.proxy("camera-1")
    proxy.wait_ready(10)

    def name_of_thread(greeting: str) -> str:
        return f"{greeting} {threading.current_thread().name}"

    camera.offer(name_of_thread, name="greet")
    wait_until(lambda: "greet" in proxy.fields())
    assert proxy.greet(greeting="hello from") == "hello from agent-camera-1"
    node.remove(camera)
    assert camera.life == ["start", "stop"]
    wait_until(lambda: proxy.fields() == [])
    with pytest.raises(Unavailable, match="nobody offers it"):
        proxy.take_picture()
    assert board.proxy("camera-2").take_picture(exposure=1) == "camera-2: 1.0 s"
    with pytest.raises(NotFound, match="no agent 'camera-1'"):
        node.remove(camera)
    node.add(Camera("camera-1"))
    proxy.wait_ready(10)


def test_an_agent_may_end_itself(make_node: MakeNode, board: Client) -> None:
    class Shy(Agent):
        @method
        def leave(self) -> str:
            self.node.remove(self)
            return "gone"

    make_node("studio", Shy("shy"))
    assert board.pool("shy:leave", wait=10).call(timeout=10) == "gone"
    wait_until(lambda: board.proxy("shy").fields() == [])


def test_a_script_hears_events_with_filters(make_node: MakeNode, board: Client) -> None:
    node = make_node("studio")
    heard: Collector[Heard] = Collector()
    board.listen("door", heard, where=lambda event: event.data["open"]).ready.result(5)
    node.emit("door", open=False)
    node.emit("door", open=True, message="who is there?", severity=Severity.WARNING)
    [event] = heard.wait_for(1)
    assert (event.node, event.message, event.severity) == ("studio", "who is there?", "warning")


def test_a_proxy_is_ready_when_all_parts_of_the_agent_are_there(mosquitto: Mosquitto, board: Client) -> None:
    link = Link(client_id="slow", endpoint=mosquitto.endpoint)
    link.start()
    link.wait_connected(10)

    def announce(part: str) -> None:
        card = WorkerCard(name=part, service=f"camera-1:{part}", epoch=1, attribute=True, together=2)
        link.publish(
            topics.announce("callboard", "slow", Kind.WORKER, part), card, qos=1, retain=True
        ).result(5)

    status = Status(status=StatusName.READY, epoch=1, t=0)
    link.publish(topics.status("callboard", "slow"), status, qos=1, retain=True).result(5)
    announce("exposure")
    proxy = board.proxy("camera-1")
    board.pool("camera-1:exposure").wait_ready(5)
    with pytest.raises(TimedOut, match=r"^camera-1.*: not all to call"):
        proxy.wait_ready(0.2)
    announce("pictures")
    proxy.wait_ready(5)
    assert proxy.fields() == ["exposure", "pictures"]
    link.stop()
