"""A node without hardware: it pins cards, sends states and answers calls, for tests of who watches nodes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from callboard_core.callee import Callee, Request
from callboard_core.cards import ActionCard, AnyCard, NodeCard, SensorCard
from callboard_core.link import Credential, Endpoint, Link
from callboard_core.messages import Batch, State
from callboard_core.presence import Presence, new_instance
from callboard_core.topics import Kind, series


class FakeNode:
    """One node with a sensor `temperature` and an action `open-vent`."""

    def __init__(
        self,
        port: int,
        node: str = "greenhouse",
        *,
        epoch: int = 1,
        credential: Credential | None = None,
        shift: float = 0.0,
    ) -> None:
        self.id = node
        self.shift = shift
        self.link = Link(client_id=node, endpoint=Endpoint("127.0.0.1", port), credential=credential)
        card = NodeCard(name=node, epoch=epoch, label=node.title(), tags=["test"], version="1")
        self.presence = Presence(self.link, card=card, epoch=epoch, instance=new_instance())
        self.callee = Callee(self.link, self.presence)
        self.pin(SensorCard(name="temperature", epoch=epoch, unit="°C", tags=["warm"]))
        self.pin(ActionCard(name="open-vent", epoch=epoch))
        self.callee.handle(Kind.ACTION, "open-vent", self.open_vent)

    def pin(self, card: AnyCard) -> None:
        self.presence.pin(card)

    @staticmethod
    def open_vent(request: Request) -> Any:
        if request.args.get("break"):
            raise ValueError("the vent is stuck")
        return {"opened": request.args.get("by", 100)}

    def start(self) -> None:
        self.link.start()
        self.link.wait_connected(10)

    def say(self, value: Any, *, t: float | None = None, name: str = "temperature") -> None:
        """Publish a state and wait until the broker has it."""
        state = State(v=value, t=(time.time() if t is None else t) + self.shift)
        self.presence.state(Kind.SENSOR, name, state).result(10)

    def send(self, readings: list[tuple[float, Any]], name: str = "temperature") -> None:
        """Publish a batch and wait until the broker has it."""
        batch = Batch(t=[t + self.shift for t, _ in readings], v=[v for _, v in readings])
        self.link.publish(series(self.link.site, self.id, Kind.SENSOR, name), batch, qos=1).result(10)

    def stop(self) -> None:
        self.callee.close()
        self.link.stop(farewell=self.presence.farewell())


@contextmanager
def fake_node(port: int, node: str = "greenhouse", **options: Any) -> Iterator[FakeNode]:
    found = FakeNode(port, node, **options)
    found.start()
    try:
        yield found
    finally:
        found.stop()
