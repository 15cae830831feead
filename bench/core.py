"""Core over Mosquitto: latency of a call and its echo, calls per second, and a directory of 10,000 cards.

Run `.venv/bin/python bench/core.py`; it starts a Mosquitto of its own. The reference is the issue's target.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from callboard_core import topics
from callboard_core.callee import Callee, Request
from callboard_core.cards import ControlCard, NodeCard, SensorCard
from callboard_core.directory import Directory
from callboard_core.link import Endpoint, Link, Message
from callboard_core.messages import State, Status
from callboard_core.presence import Presence, new_instance
from callboard_core.topics import Address, Kind, Leaf
from support.mosquitto import Mosquitto

CALLS = 2_000
NODES = 1_000


def connect(name: str, endpoint: Endpoint) -> Link:
    link = Link(client_id=name, endpoint=endpoint, outbox_limit=50_000)
    link.start()
    link.wait_connected(10)
    return link


class Fan:
    """A node with one control whose handler publishes the state."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.link = Link(client_id="fan", endpoint=endpoint)
        card = NodeCard(name="fan", epoch=0, version="1")
        self.presence = Presence(self.link, card=card, epoch=1, instance=new_instance())
        self.callee = Callee(self.link, self.presence)
        self.callee.handle(Kind.CONTROL, "speed", self.turn)
        self.presence.pin(ControlCard(name="speed", epoch=0))

    def turn(self, request: Request) -> None:
        value = request.args["value"]
        self.presence.state(Kind.CONTROL, "speed", State(v=value, t=time.time(), call=request.id))


def visible(endpoint: Endpoint) -> tuple[Fan, float]:
    """Seconds from a node's start to its control in somebody's directory."""
    watcher = connect("watcher", endpoint)
    directory = Directory(watcher)
    directory.start()
    directory.wait_complete(10)
    follower = directory.follow(name="speed")
    begun = time.perf_counter()
    fan = Fan(endpoint)
    fan.link.start()
    follower.get(10)
    taken = time.perf_counter() - begun
    follower.close()
    watcher.stop()
    return fan, taken


def latencies(endpoint: Endpoint) -> tuple[list[float], list[float]]:
    """Seconds from command to state echo, and to the final answer."""
    caller = connect("caller", endpoint)
    echoed = threading.Event()
    caller.subscribe("callboard/fan/state/#", lambda _: echoed.set()).ready.result(5)
    speed = Address("callboard", "fan", Leaf.COMMAND, Kind.CONTROL, "speed")
    echoes, answers = [], []
    for number in range(CALLS):
        echoed.clear()
        begun = time.perf_counter()
        future = caller.call(speed, {"value": number}, timeout=5)
        echoed.wait(5)
        echoes.append(time.perf_counter() - begun)
        future.result(5)
        answers.append(time.perf_counter() - begun)
    caller.stop()
    return sorted(echoes), sorted(answers)


def calls_per_second(endpoint: Endpoint) -> float:
    caller = connect("caller", endpoint)
    ping = Address("callboard", "fan", Leaf.COMMAND, Kind.ACTION, "ping")
    begun = time.perf_counter()
    futures = [caller.call(ping, {}, timeout=60) for _ in range(CALLS * 2)]
    for future in futures:
        future.result(60)
    rate = len(futures) / (time.perf_counter() - begun)
    caller.stop()
    return rate


def messages_per_second(endpoint: Endpoint) -> float:
    reader, writer = connect("reader", endpoint), connect("writer", endpoint)
    seen, count = threading.Event(), 20_000
    left = [count]

    def handler(_: Message) -> None:
        left[0] -= 1
        if not left[0]:
            seen.set()

    reader.subscribe("callboard/writer/event/x", handler).ready.result(5)
    begun = time.perf_counter()
    for _ in range(count):
        writer.publish("callboard/writer/event/x", b"x" * 60, qos=1)
    seen.wait(60)
    rate = count / (time.perf_counter() - begun)
    reader.stop()
    writer.stop()
    return rate


def complete(endpoint: Endpoint) -> float:
    """Seconds from connect to a complete directory of 10,000 cards and 1,000 statuses."""
    writer = connect("filler", endpoint)
    for number in range(NODES):
        node = f"n{number}"
        card = NodeCard(name=node, epoch=1, version="1")
        writer.publish(topics.announce("callboard", node), card, qos=1, retain=True)
        for sensor in range(9):
            thing = SensorCard(name=f"s{sensor}", epoch=1)
            topic = topics.announce("callboard", node, Kind.SENSOR, thing.name)
            writer.publish(topic, thing, qos=1, retain=True)
        ready = Status(status="ready", epoch=1, t=1.0)
        writer.publish(topics.status("callboard", node), ready, qos=1, retain=True)
    writer.round_trip(60).result()
    link = Link(client_id="directory", endpoint=endpoint)
    directory = Directory(link)
    directory.start()
    begun = time.perf_counter()
    link.start()
    directory.wait_complete(30)
    taken = time.perf_counter() - begun
    link.stop()
    writer.stop()
    return taken


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        broker = Mosquitto(Path(folder))
        broker.start()
        try:
            fan, seen = visible(broker.endpoint)
            echoes, answers = latencies(broker.endpoint)
            rows = [
                ("node start → in a directory", f"{seen * 1e3:.0f} ms", "≤ 500 ms"),
                ("command → state echo, p50", f"{echoes[CALLS // 2] * 1e3:.2f} ms", "≤ 10 ms"),
                ("command → state echo, p99", f"{echoes[CALLS * 99 // 100] * 1e3:.2f} ms", "≤ 50 ms"),
                ("command → final answer, p50", f"{answers[CALLS // 2] * 1e3:.2f} ms", ""),
                ("calls, many at a time", f"{calls_per_second(broker.endpoint):,.0f} /s", ""),
                ("QoS 1 messages, link to link", f"{messages_per_second(broker.endpoint):,.0f} /s", ""),
                ("directory of 10,000 cards complete", f"{complete(broker.endpoint):.2f} s", "< 2 s"),
            ]
            fan.link.stop(farewell=fan.presence.farewell())
            fan.callee.close()
        finally:
            broker.kill()
    table = Table("core over Mosquitto", "measured", "reference")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
