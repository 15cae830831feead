"""With access rules on: nodes call each other's workers and hear events, and nothing beyond."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import callboard
from callboard import Client, Credential, Link, Node
from callboard_core.errors import TimedOut
from callboard_core.link import Endpoint
from callboard_core.settings import Settings
from callboard_core.topics import Address, Kind, Leaf
from support import crew, engines
from support.links import Collector
from support.waiting import wait_until


@pytest.fixture(params=engines.ENGINES)
def endpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Endpoint]:
    with engines.running(request.param, tmp_path / "broker", engines.Options(access=True)) as engine:
        yield Endpoint("127.0.0.1", engine.port)


def make_node(name: str, endpoint: Endpoint, folder: Path) -> Node:
    credential = {"username": "node", "password": engines.password("node")}
    return Node(name, settings=Settings(state=folder / name, node={"board": str(endpoint), **credential}))


@pytest.fixture
def operator(endpoint: Endpoint) -> Iterator[Client]:
    with callboard.connect(
        str(endpoint), username="operator", password=engines.password("operator")
    ) as client:
        yield client


@pytest.fixture
def board(endpoint: Endpoint) -> Iterator[Link]:
    link = Link(
        client_id="board", endpoint=endpoint, credential=Credential("board", engines.password("board"))
    )
    link.start()
    link.wait_connected(10)
    yield link
    link.stop()


def test_nodes_call_workers_and_hear_events_and_begin_no_actions(
    endpoint: Endpoint, operator: Client, board: Link, tmp_path: Path
) -> None:
    acted: list[str] = []
    first, second = (make_node(name, endpoint, tmp_path) for name in ("first", "second"))
    second.worker(crew.square)
    second.action(name="act")(lambda: acted.append("act"))

    @first.worker
    async def twice(n: int) -> int:
        return 2 * await first.pool("square").call(n=n)

    asked: Collector[str] = Collector()
    board.subscribe("callboard/board/command/#", lambda message: asked(message.topic)).ready.result(5)
    with second, first:
        operator.pool("twice").wait_ready(10)
        assert operator.pool("twice").call(n=3) == 18
        heard: Collector[str] = Collector()
        subscription = first.listen("news", lambda event: heard(event.node))
        subscription.ready.result(5)
        second.emit("news")
        assert heard.wait_for(1) == ["second"]
        link = first.directory._link
        act = Address("callboard", "second", Leaf.COMMAND, Kind.ACTION, "act")
        with pytest.raises(TimedOut):
            link.call(act, {}, timeout=0.5).result(5)
        forget = Address("callboard", "board", Leaf.COMMAND, Kind.WORKER, "forget")
        with pytest.raises(TimedOut):
            link.call(forget, {}, timeout=0.5).result(5)
        assert acted == asked.items == []
        operator.link.tell(forget, {}, timeout=5).result(5)
        wait_until(lambda: asked.items)
