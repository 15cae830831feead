"""For tests of nodes: somebody who listens to everything and calls things, and settings for a test's broker."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from callboard_core.callee import Callee
from callboard_core.cards import NodeCard
from callboard_core.link import Endpoint, Link, Message
from callboard_core.presence import Presence, new_instance
from callboard_core.settings import Settings
from callboard_core.topics import BOARD, Address, Kind, Leaf
from support.mosquitto import Mosquitto

__all__ = ["Observer", "node_settings", "observer"]


def node_settings(folder: Path, endpoint: Endpoint | None, **node: Any) -> Settings:
    """Return settings of a node that keeps its state in ``folder`` and knows its board, if it is to know it."""
    board = {} if endpoint is None else {"board": str(endpoint)}
    return Settings(state=folder / "state", node={**board, **node})


class Observer:
    """A client that keeps every message of the site, in order of arrival.

    Called ``board`` it is there as a board is: with a status, and answering pings.
    """

    def __init__(self, endpoint: Endpoint, name: str = "observer", *, epoch: int = 1) -> None:
        self.link = Link(client_id=name, endpoint=endpoint)
        self._changed = threading.Condition()
        self._seen: list[Message] = []
        self._presence: Presence | None = None
        self._callee: Callee | None = None
        self.link.subscribe("callboard/#", self._take)
        if name == BOARD:
            card = NodeCard(name=BOARD, epoch=epoch, version="1")
            self._presence = Presence(self.link, card=card, epoch=epoch, instance=new_instance())
            self._callee = Callee(self.link, self._presence)
        self.link.start()
        self.link.wait_connected(10)
        self.link.round_trip(10).result()

    def _take(self, message: Message) -> None:
        with self._changed:
            self._seen.append(message)
            self._changed.notify_all()

    def messages(self, ending: str = "") -> list[tuple[str, Any]]:
        """Return topic and content of all messages so far whose topic ends so."""
        with self._changed:
            found = [one for one in self._seen if one.topic.endswith(ending)]
        return [(one.topic, json.loads(one.payload) if one.payload else None) for one in found]

    def of(self, ending: str) -> list[Any]:
        """Return the contents of the messages whose topic ends so."""
        return [content for _, content in self.messages(ending)]

    def wait(self, ending: str, fits: Callable[[Any], object] = lambda _: True, timeout: float = 30.0) -> Any:
        """Wait until a message whose topic ends so fits, now or earlier, and return its content."""
        return self.wait_for(
            lambda: next((one for one in self.of(ending) if one and fits(one)), None), timeout
        )

    def wait_for(self, look: Callable[[], Any], timeout: float = 30.0) -> Any:
        """Wait until ``look``, asked after every message, finds something."""
        deadline = time.monotonic() + timeout
        while True:
            with self._changed:
                before = len(self._seen)
            if found := look():
                return found
            with self._changed:
                left = deadline - time.monotonic()
                assert left > 0, f"not seen within {timeout} s; the last were {self._seen[-8:]}"
                self._changed.wait_for(lambda: len(self._seen) > before, min(left, 0.5))  # noqa: B023

    def forget(self) -> None:
        """Drop what was seen so far."""
        with self._changed:
            self._seen.clear()

    def readings(self, node: str, name: str) -> dict[float, Any]:
        """Return what a historian would have of a sensor: every reading of its states and batches, by time."""
        found = {}
        for content in self.of(f"{node}/state/sensor/{name}"):
            if content and "v" in content:
                found[content["t"]] = content["v"]
        for content in self.of(f"{node}/series/sensor/{name}"):
            found.update(zip(content["t"], content["v"], strict=True))
        return found

    def call(self, node: str, kind: Kind | str, name: str, timeout: float = 30.0, **args: Any) -> Any:
        """Call a thing and return the result."""
        return self.begin(node, kind, name, timeout, **args).result()

    def begin(self, node: str, kind: Kind | str, name: str, timeout: float = 30.0, **more: Any) -> Any:
        """Call a thing and return the future; ``call_id`` and ``on_progress`` are no arguments of the thing."""
        special = {key: more.pop(key) for key in ("call_id", "on_progress") if key in more}
        return self.link.call(self.address(node, kind, name), more, timeout=timeout, **special)

    def address(self, node: str, kind: Kind | str, name: str) -> Address:
        """Return where a thing is called."""
        return Address("callboard", node, Leaf.COMMAND, Kind(kind), name)

    def close(self) -> None:
        """Disconnect."""
        if self._callee is not None:
            self._callee.close()
        self.link.stop(farewell=self._presence.farewell() if self._presence is not None else ())


@pytest.fixture
def observer(mosquitto: Mosquitto) -> Iterator[Observer]:
    """An observer on the test's broker."""
    found = Observer(mosquitto.endpoint)
    yield found
    found.close()
