"""Results that are larger than a message, from workers to callers over a real board."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from callboard_core.calls.artifacts import LIMIT, ArtifactRef
from callboard_core.errors import NotFound, TimedOut, TooLarge, Unavailable
from callboard_core.link import Endpoint
from callboard_core.topics import Address, Kind, Leaf
from callboard_nodes.client import Client
from callboard_nodes.node import Node
from support.boards import PASSWORDS, BoardProcess, board_process
from support.engines import Engine, Options, running
from support.nodes import node_settings
from support.timing import Stopwatch

np = pytest.importorskip("numpy")

#: More than the limit of a message several times over.
LARGE = 6_000_000
#: The largest result there is: a gibibyte with ``CALLBOARD_LONG=1`` (``make soak``).
LARGEST = LIMIT if os.environ.get("CALLBOARD_LONG") == "1" else 32 * 1024 * 1024


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with running("embedded", options=Options(access=True)) as started:
        yield started


@pytest.fixture(scope="module")
def board(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BoardProcess]:
    folder = tmp_path_factory.mktemp("board")
    with board_process(folder, engine.port, credential=("board", PASSWORDS["board"])) as started:
        yield started


def offer(node: Node) -> None:
    @node.worker(service="large")
    def large(size: int) -> str:
        return "x" * size

    @node.worker(service="picture")
    def picture(size: int) -> np.ndarray:
        return np.arange(size, dtype="<u4")

    @node.worker(service="measure")
    def measure(scene: ArtifactRef) -> list[int]:
        return [scene.size, len(node.artifacts.get(scene))]

    @node.worker(service="raw", timeout=300)
    async def raw(size: int) -> bytes:
        return bytes(size)  # zeros cost no time in which nothing else of the process could run


@pytest.fixture(scope="module")
def nodes(
    engine: Engine, board: BoardProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Node]]:
    made = []
    for name in ("one", "two"):
        folder = tmp_path_factory.mktemp(name)
        settings = node_settings(
            folder, Endpoint("127.0.0.1", engine.port), id=name, username="node", password=PASSWORDS["node"]
        )
        node = Node(name, settings=settings)

        offer(node)
        made.append(node.start())
    yield made
    for node in made:
        node.stop()


@pytest.fixture
def client(engine: Engine, nodes: list[Node], monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.delenv("CALLBOARD_LONG", raising=False)  # which is no setting
    with Client(f"127.0.0.1:{engine.port}", username="operator", password=PASSWORDS["operator"]) as found:
        for service in ("large", "picture", "raw"):
            found.pool(service).wait_ready(5, members=2)
        yield found


def test_a_large_result_comes_as_any_other(client: Client) -> None:
    assert client.pool("large").call(size=LARGE) == "x" * LARGE
    assert client.proxy("raw")(size=LARGE) == bytes(LARGE)
    assert client.pool("picture").call(size=LARGE // 4).tolist() == list(range(LARGE // 4))


@pytest.mark.timeout(600)
def test_the_largest_result_comes_and_one_byte_more_is_refused(client: Client, board: BoardProcess) -> None:
    found = client.pool("raw").call(size=LARGEST, timeout=300)
    assert len(found) == LARGEST
    assert hashlib.sha256(found).digest() == hashlib.sha256(bytes(LARGEST)).digest()
    del found
    with (
        board.client() as http,
        http.stream("GET", f"/api/v1/services/raw?size={LARGEST}&timeout=300") as answer,
    ):
        assert answer.headers["content-type"] == "application/octet-stream"
        assert sum(len(part) for part in answer.iter_bytes()) == LARGEST
    if LARGEST == LIMIT:
        with pytest.raises(TooLarge, match="over the limit"):
            client.pool("raw").call(size=LARGEST + 1, timeout=300)


def test_a_large_result_comes_to_who_awaits_it(client: Client) -> None:
    async def ask() -> list[str]:
        pool = client.pool("large")
        return await asyncio.gather(*(pool.acall(size=LARGE + one) for one in range(4)))

    assert [len(found) for found in asyncio.run(ask())] == [LARGE, LARGE + 1, LARGE + 2, LARGE + 3]


def test_a_large_result_comes_to_who_calls_all_or_without_a_pool(client: Client) -> None:
    answers = client.pool("large").scatter(size=LARGE)
    assert [(one.node, len(one.result), one.error) for one in answers] == [
        ("one", LARGE, None),
        ("two", LARGE, None),
    ]
    address = Address("callboard", "one", Leaf.COMMAND, Kind.WORKER, "large")
    assert client.link.call(address, {"size": LARGE}, timeout=10).result() == "x" * LARGE
    reference = client.link.call(address, {"size": LARGE}, timeout=10, fetch=False).result()
    assert reference["$artifact"]["size"] > LARGE


def test_a_large_result_comes_over_http(client: Client, board: BoardProcess) -> None:
    with board.client() as http:
        answer = http.post("/api/v1/nodes/one/worker/large/call", json={"args": {"size": LARGE}})
    assert answer.json() == {"result": "x" * LARGE}


def test_one_node_calls_another(nodes: list[Node], client: Client) -> None:
    pool = nodes[0].pool("raw")
    pool.wait_ready(5)
    assert pool.call(size=LARGE) == bytes(LARGE)


def test_large_arguments_are_given_as_artifacts(client: Client) -> None:
    ref = client.artifacts.put(b"scene" * 400_000, type="application/x-blender")
    pool = client.pool("measure")
    pool.wait_ready(5)
    assert pool.call(scene=ref.model_dump()) == [2_000_000, 2_000_000]


def test_a_result_that_is_not_fetched_in_time_is_too_late(client: Client) -> None:
    arrived = threading.Event()
    client.link.artifacts = SimpleNamespace(get=lambda _: arrived.wait(30))
    try:
        begun = Stopwatch()
        with pytest.raises(TimedOut):
            client.pool("large").call(size=LARGE, timeout=1)
        with pytest.raises(TimedOut):
            address = Address("callboard", "one", Leaf.COMMAND, Kind.WORKER, "large")
            client.link.call(address, {"size": LARGE}, timeout=1).result(5)
        answers = client.pool("large").scatter(size=LARGE, timeout=1)
        assert {type(one.error) for one in answers} == {TimedOut}
        assert begun.within(10), begun
    finally:
        arrived.set()


def test_a_result_that_has_gone_is_an_error(client: Client, board: BoardProcess) -> None:
    address = Address("callboard", "one", Leaf.COMMAND, Kind.WORKER, "large")
    sent = client.link.call(address, {"size": LARGE + 9}, timeout=10, fetch=False).result()
    digest = sent["$artifact"]["sha256"]
    keep = client.link.artifacts

    def forget(ref: ArtifactRef) -> bytes:
        with board.client() as http:
            http.delete(f"/api/v1/artifacts/{ref.sha256}")
        return keep.get(ref)

    client.link.artifacts = SimpleNamespace(get=forget)
    for ask in (
        lambda: client.pool("large").call(size=LARGE + 9),
        lambda: client.link.call(address, {"size": LARGE + 9}, timeout=10).result(),
    ):
        with pytest.raises(NotFound, match=digest):
            ask()
    [first, _] = client.pool("large").scatter(size=LARGE + 9)
    assert isinstance(first.error, NotFound)


def test_without_a_board_a_large_result_is_an_error_and_no_silence(
    board: BoardProcess, client: Client
) -> None:
    board.kill()
    try:
        with pytest.raises((Unavailable, TimedOut)):
            client.pool("large").call(size=LARGE, timeout=3)
    finally:
        board.start()
    assert client.pool("large").call(size=LARGE) == "x" * LARGE
