"""Services over HTTP and over the board's worker ``call``, with real nodes that offer them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import msgpack
import pytest

from callboard import Node, Request
from callboard_core.link import Credential, Endpoint, Link
from callboard_core.topics import Address, Kind, Leaf
from support.boards import PASSWORDS, BoardProcess, board_process, eventually
from support.engines import running
from support.nodes import node_settings
from support.waiting import wait_until


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with running("mosquitto") as engine:
        yield engine.port


@pytest.fixture(scope="module")
def board(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BoardProcess]:
    with board_process(tmp_path_factory.mktemp("board"), port) as started:
        yield started


@pytest.fixture(scope="module")
def endpoint(port: int) -> Endpoint:
    return Endpoint("127.0.0.1", port)


@pytest.fixture(scope="module")
def node(board: BoardProcess, endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("alpha")
    (folder / "password").write_text(PASSWORDS["node"])
    known = {"username": "node", "password_file": folder / "password"}
    node = Node("alpha", settings=node_settings(folder, endpoint, **known))
    ended = threading.Semaphore(0)
    node.ended = ended  # type: ignore[attr-defined]

    @node.worker(service="test-multihosting:texture", idempotent=True)
    def texture(x: int, y: int, scale: float = 1.0) -> list[list[float]]:
        """A table of so many rows and columns."""
        return [[row * column * scale for column in range(x)] for row in range(y)]

    @node.worker
    def whole(n: int = 3) -> bytes:
        return bytes(range(n))

    @node.worker
    def large() -> str:
        return "x" * 3_000_000

    @node.worker
    def stumble(text: str) -> None:
        raise LookupError(text)

    @node.worker(traceback=True)
    def fall() -> None:
        raise LookupError("down")

    @node.worker(concurrency=4)
    def late(timeout: int, request: Request) -> bool:
        request.progress(0.5)
        cancelled = request.cancelled.wait(timeout)
        ended.release()
        return cancelled

    for name in ("one", "two"):
        node.worker(lambda name=name: name, service=f"who:{name}")  # type: ignore[misc]
    node.start()
    yield node
    node.stop()


@pytest.fixture(scope="module")
def client(board: BoardProcess, node: Node) -> Iterator[httpx.Client]:
    with board.client("operator") as found:
        token = found.post(
            "/api/v1/session", json={"username": "operator", "password": PASSWORDS["operator"]}
        ).json()["token"]
    with httpx.Client(
        base_url=f"{board.url}/api/v1", headers={"Authorization": f"Bearer {token}"}, timeout=30
    ) as found:
        eventually(lambda: len([one for one in listed(found) if one.startswith("who:")]) == 2)
        yield found


def listed(client: httpx.Client) -> dict[str, Any]:
    return {one["service"]: one for one in client.get("/services").json()["items"]}


TEXTURE = "/services/test-multihosting:texture"
TABLE = [[0.0, 0.0], [0.0, 0.5]]


def test_arguments_come_from_the_query_or_the_body(client: httpx.Client) -> None:
    query = {"x": 2, "y": 2, "scale": 0.5, "timeout": 5}
    assert client.get(TEXTURE, params=query).json() == {"result": TABLE}
    body = {"x": 2, "y": 2, "scale": 0.5}
    assert client.post(TEXTURE, json=body, params={"timeout": 5}).json() == {"result": TABLE}
    packed = client.post(
        TEXTURE,
        content=msgpack.packb(body),
        headers={"Content-Type": "application/msgpack", "Accept": "application/msgpack"},
    )
    assert msgpack.unpackb(packed.content) == {"result": TABLE}
    assert client.get("/services/who:*").json()["result"] in {"one", "two"}


def test_what_a_function_raised_is_told_and_where_if_the_worker_allows_it(client: httpx.Client) -> None:
    told = client.get("/services/stumble", params={"text": "oops"}).json()["error"]
    assert told == {"code": "failed", "message": "LookupError: oops", "type": "LookupError"}
    told = client.get("/services/fall").json()["error"]
    assert (told["type"], told["message"]) == ("LookupError", "LookupError: down")
    assert told["traceback"].startswith("Traceback")
    assert "in fall" in told["traceback"]


@pytest.mark.parametrize(
    ("path", "query", "status", "code", "message"),
    [
        (TEXTURE, {"x": 2}, 400, "bad_request", "y: missing"),
        (TEXTURE, {"x": 2, "y": "two"}, 400, "bad_request", "y: expected a whole number, got 'two'"),
        (TEXTURE, {"x": 2, "y": 2, "z": 1}, 400, "bad_request", "z: unknown; known are x, y, scale"),
        (TEXTURE, {"x": 2, "y": 2, "timeout": "soon"}, 400, "bad_request", "timeout"),
        (TEXTURE, {"x": 2, "y": 2, "all": "some"}, 400, "bad_request", "all"),
        ("/services/nobody", {}, 404, "not_found", "nobody"),
        ("/services/No Body", {}, 400, "bad_request", "service"),
        ("/services/call", {}, 404, "not_found", "call"),
        ("/services/stumble", {"text": "oops"}, 500, "failed", "LookupError: oops"),
        ("/services/late", {"timeout": 20, "_timeout": 0.2}, 504, "timeout", "did not answer"),
    ],
)
def test_errors_say_what_is_wrong(
    client: httpx.Client, path: str, query: dict[str, Any], status: int, code: str, message: str
) -> None:
    answer = client.get(path, params=query)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert message in answer.json()["error"]["message"]


def test_bodies_that_are_no_arguments_are_refused(client: httpx.Client) -> None:
    assert client.post(TEXTURE, content=b"[1]").json()["error"]["message"] == (
        "the body: expected a JSON object of arguments"
    )
    assert client.post(TEXTURE, content=b"{").status_code == 400
    assert "body" in client.post(TEXTURE, params={"x": 1}).json()["error"]["message"]


def test_a_body_over_the_limit_is_refused_however_it_comes(client: httpx.Client) -> None:
    large = b'{"x": "' + b"x" * 1_100_000 + b'"}'
    pieces = (large[start : start + 50_000] for start in range(0, len(large), 50_000))
    for content in (large, pieces):
        answer = client.post(TEXTURE, content=content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_only_who_may_command_may_call(board: BoardProcess, client: httpx.Client) -> None:
    with board.client("viewer") as viewer:
        assert viewer.get(f"/api/v1{TEXTURE}?x=1&y=1").status_code == 403
        assert viewer.get("/api/v1/services").is_success
    with httpx.Client(base_url=board.url) as nobody:
        assert nobody.get(f"/api/v1{TEXTURE}?x=1&y=1").status_code == 401
    with board.client("operator") as basic:
        assert basic.get(f"/api/v1{TEXTURE}?x=1&y=1").json() == {"result": [[0.0]]}


def test_bytes_and_large_results_come_as_what_they_are(client: httpx.Client) -> None:
    whole = client.get("/services/whole", params={"n": 5})
    assert (whole.content, whole.headers["content-type"]) == (bytes(range(5)), "application/octet-stream")
    assert whole.headers["cache-control"] == "no-store"


def test_everybody_can_be_called_at_once(client: httpx.Client) -> None:
    answers = client.get("/services/who:*", params={"all": "true"}).json()["results"]
    assert [(one["node"], one["service"], one["ok"], one["result"]) for one in answers] == [
        ("alpha", "who:one", True, "one"),
        ("alpha", "who:two", True, "two"),
    ]


def test_a_service_is_described_while_it_is_offered(
    board: BoardProcess, client: httpx.Client, endpoint: Endpoint, tmp_path: Any
) -> None:
    def document() -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{board.url}/openapi.json", timeout=30).json()
        return found

    before = document()
    entry = before["paths"]["/api/v1/services/test-multihosting:texture"]
    assert {
        one["name"]: (one["required"], one["schema"].get("type")) for one in entry["get"]["parameters"]
    } == {
        "x": (True, "integer"),
        "y": (True, "integer"),
        "scale": (False, "number"),
        "timeout": (False, "number"),
        "all": (False, "boolean"),
    }
    assert (
        listed(client)["test-multihosting:texture"]["description"] == "A table of so many rows and columns."
    )
    names = [one["name"] for one in before["paths"]["/api/v1/services/late"]["get"]["parameters"]]
    assert names == ["timeout", "_timeout", "all"]
    references = set(find_references(before))
    assert references <= {f"#/components/schemas/{name}" for name in before["components"]["schemas"]}
    for schema in before["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    ids = [one["operationId"] for path in before["paths"].values() for one in path.values()]
    assert len(set(ids)) == len(ids)
    fleeting = Node("beta", settings=node_settings(tmp_path, endpoint))
    fleeting.worker(lambda: 1, service="fleeting")
    fleeting.start()
    eventually(lambda: "/api/v1/services/fleeting" in document()["paths"])
    assert client.get("/services/fleeting").json() == {"result": 1}
    fleeting.stop()
    eventually(lambda: client.get("/services/fleeting").status_code == 503)
    eventually(lambda: listed(client)["fleeting"]["ready"] == 0)
    eventually(lambda: "/api/v1/services/fleeting" not in document()["paths"])


def find_references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from find_references(one)


def test_the_boards_own_services_are_called_like_any_other(client: httpx.Client) -> None:
    answer = client.post("/services/forget", json={"node": "nobody"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert (
        client.get("/services/history", params={"node": "a", "kind": "slow", "name": "x"}).status_code == 400
    )


def test_a_method_that_is_none_is_refused(client: httpx.Client) -> None:
    answer = client.delete(TEXTURE)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")


def test_a_call_whose_client_has_gone_is_cancelled(client: httpx.Client, node: Node) -> None:
    ended: threading.Semaphore = node.ended  # type: ignore[attr-defined]
    while ended.acquire(blocking=False):
        pass
    with pytest.raises(httpx.ReadTimeout):
        client.get("/services/late", params={"timeout": 20}, timeout=1.3)
    assert ended.acquire(timeout=5)


def test_a_thousand_clients_at_once_are_served(client: httpx.Client, board: BoardProcess) -> None:
    head = client.headers["Authorization"]

    async def ask(number: int) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(board.url).port)
        request = f"GET /api/v1{TEXTURE}?x=1&y={number % 5} HTTP/1.1"
        writer.write(
            f"{request}\r\nHost: board\r\nAuthorization: {head}\r\nConnection: close\r\n\r\n".encode()
        )
        answer = await reader.read()
        writer.close()
        return answer.startswith(b"HTTP/1.1 200") and b'"result"' in answer

    async def everybody() -> list[bool]:
        return await asyncio.gather(*(ask(number) for number in range(1000)))

    assert all(asyncio.run(everybody()))


@pytest.fixture
def plain(endpoint: Endpoint) -> Iterator[Link]:
    link = Link(client_id="plain", endpoint=endpoint, credential=Credential("operator", "x"))
    link.start()
    link.wait_connected(10)
    yield link
    link.stop()


def test_any_mqtt_client_calls_through_the_boards_worker(plain: Link, client: httpx.Client) -> None:
    board = Address("callboard", "board", Leaf.COMMAND, Kind.WORKER, "call")

    def call(timeout: float = 10, **args: Any) -> Any:
        return plain.call(board, args, timeout=timeout).result(15)

    arguments = {"x": 2, "y": 2, "scale": 0.5}
    assert call(service="test-multihosting:texture", args=arguments) == TABLE
    assert [one["result"] for one in call(service="who:*", all=True)] == ["one", "two"]
    for args, message in (
        ({"service": "test-multihosting:texture", "args": {"x": 1}}, "y: missing"),
        ({"service": "nobody"}, "nobody offers 'nobody'"),
        ({}, "service: missing"),
        ({"service": "stumble", "args": {"text": "oops"}}, "LookupError: oops"),
    ):
        error = plain.call(board, args, timeout=10).exception(15)
        assert error is not None
        assert message in str(error)
    progress: list[float] = []
    late = {"service": "late", "args": {"timeout": 20}, "timeout": 10}
    running = plain.call(board, late, timeout=10, call_id="stop-me", on_progress=progress.append)
    wait_until(lambda: progress)
    plain.cancel(board, "stop-me")
    with pytest.raises((concurrent.futures.CancelledError, Exception), match="cancelled"):
        running.result(10)


def test_the_board_tells_who_calls_what_through_it(plain: Link, client: httpx.Client) -> None:
    heard: list[bytes] = []
    told = threading.Event()

    def hear(message: Any) -> None:
        heard.append(message.payload)
        if b'"http:operator"' in message.payload:
            told.set()

    plain.subscribe("callboard/board/event/heartbeat", hear, qos=0).ready.result(5)
    client.get("/services/who:one")
    assert told.wait(5), heard


def test_large_results_are_kept_and_streamed(client: httpx.Client) -> None:
    answer = client.get("/services/large")
    assert answer.is_success, answer.text[:200]
    assert len(answer.json()["result"]) == 3_000_000
    assert answer.headers["cache-control"] == "no-store"
