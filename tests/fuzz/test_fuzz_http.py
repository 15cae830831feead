"""Fuzz of the whole HTTP API from its own OpenAPI document: whatever is sent, no 5xx of its own making, and every error has the one form."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode

from support.boards import BoardProcess, board_process
from support.engines import Options, running
from support.fuzzing import SECONDS

pytestmark = [
    pytest.mark.timeout(SECONDS + 600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
]

#: Requests for each operation and way of making them; with SECONDS as many as fit.
EXAMPLES = int(os.environ.get("CALLBOARD_FUZZ_EXAMPLES", "8")) if not SECONDS else 10_000
#: Never ends.
STREAMS = {"/api/v1/events"}
#: What another part of the system answers in the words of HTTP: it is not there, or takes too long.
PASSED_ON = {503, 504, 507}


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BoardProcess]:
    folder = tmp_path_factory.mktemp("fuzz")
    with (
        running("embedded", folder / "broker", Options(access=True)) as broker,
        board_process(folder / "board", broker.port, credential=("board", "board-password")) as board,
    ):
        yield board


def token(board: BoardProcess) -> str:
    login = {"username": "admin", "password": "admin-password"}
    with board.client("admin") as client:
        return str(client.post("/api/v1/session", json=login).raise_for_status().json()["token"])


def operations(board: BoardProcess) -> list[Any]:
    schema = schemathesis.openapi.from_url(f"{board.url}/openapi.json")
    found = [one.ok() for one in schema.get_all_operations()]
    return [one for one in found if one.path not in STREAMS]


def assert_sound(status: int, content_type: str, body: bytes, what: str) -> None:
    """An answer is a success, or an error in the one form."""
    if status < 400:
        return
    said = f"{what}: {status} {body[:300]!r}"
    assert status < 500 or status in PASSED_ON, said
    if body:
        assert content_type.startswith("application/json"), said
        error = json.loads(body)["error"]
        assert error.keys() - {"type"} == {"code", "message"}, said  # which is that of what a worker raised
        assert error["code"], said
        assert error["message"], said


def assert_nothing_raised(board: BoardProcess) -> None:
    """Nothing in the board was surprised."""
    log = board.log
    place = log.find("Traceback")
    assert place < 0, log[max(0, place - 300) :][:6000]


@pytest.mark.parametrize(
    "mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value
)
def test_whatever_is_asked_of_any_route_is_answered_soundly(board: BoardProcess, mode: GenerationMode):
    known = operations(board)
    assert len(known) > 40
    bearer = {"Authorization": f"Bearer {token(board)}"}
    failed: list[str] = []
    tried: set[str] = set()
    for number, operation in enumerate(known):
        ends = time.monotonic() + SECONDS / len(known) if SECONDS else None
        try:
            with contextlib.suppress(Unsatisfiable):  # nothing wrong can be sent where nothing is taken
                look(operation, mode, bearer, ends)
        except Exception as error:  # every route is looked at before the first failure is told
            failed.append(f"{operation.method} {operation.path}: {type(error).__name__}: {str(error)[:1500]}")
        tried.add(f"{operation.method} {operation.path}")
        if number % 20 == 0:
            bearer = {"Authorization": f"Bearer {token(board)}"}  # one of the routes ends the session
    assert len(tried) == len(known)
    assert not failed, "\n\n".join(failed)
    with board.client("admin") as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/api/v1/me").status_code in {200, 404}
    assert_nothing_raised(board)


def look(operation: Any, mode: GenerationMode, headers: dict[str, str], ends: float | None) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=not SECONDS,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        if ends is not None and time.monotonic() > ends:
            return
        case.headers = {
            **{k: v for k, v in (case.headers or {}).items() if k.lower() != "authorization"},
            **headers,
        }
        response = case.call(timeout=60)
        body = response.content
        assert_sound(
            response.status_code,
            response.headers.get("content-type", [""])[0],
            body,
            f"{case.as_curl_command()[:600]}",
        )
        if response.status_code < 400:
            case.validate_response(response, checks=[schemathesis.checks.response_schema_conformance])

    ask()


# --- what no document describes


def raw(board: BoardProcess, head: bytes, body: bytes = b"") -> tuple[int, str, bytes]:
    """Send bytes as they are; status 0 when the connection was just closed."""
    import socket

    host, port = board.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head + body)
        answer = http.client.HTTPResponse(connection)
        try:
            answer.begin()
            return answer.status, answer.getheader("content-type", ""), answer.read()
        except (http.client.BadStatusLine, ConnectionError):
            return 0, "", b""


DEEP = b"[" * 100_000 + b"]" * 100_000
BODIES = {
    "deep": DEEP,
    "deep-object": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "number": b'{"username": 1e999999, "password": 1}',
    "digits": b'{"x": ' + b"9" * 100_000 + b"}",
    "nan": b'{"expires": NaN, "name": Infinity}',
    "surrogate": b'{"name": "\\ud800", "role": "\\udfff", "username": "\\ud800", "password": "\\ud800"}',
    "nul": b'{"name": "a\\u0000b", "role": "viewer\\u0000", "password": "a\\u0000b"}',
    "bytes": b"\xff\xfe{}",
    "empty": b"",
    "text": b'"text"',
    "null": b"null",
    "array": b"[1, 2, 3]",
    "cut": b'{"a": ',
    "twice": b'{"a": 1, "a": {"b": [null]}}' * 2,
    "long": b'{"name": "' + b"x" * 500_000 + b'"}',
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_odd_json_is_answered_soundly_on_every_route(board: BoardProcess, name: str):
    bearer = token(board)
    for operation in operations(board):
        if operation.method.upper() not in {"POST", "PUT", "PATCH"}:
            continue
        path = operation.path.replace("{", "").replace("}", "")
        if path == "/api/v1/artifacts/verify":
            continue
        body = BODIES[name]
        head = (
            f"{operation.method.upper()} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        ).encode()
        status, kind, answer = raw(board, head, body)
        assert status, f"{operation.method} {path} closed without an answer"
        assert_sound(status, kind, answer, f"{operation.method} {path} {name}")
    assert_nothing_raised(board)


LINES = {
    "nul in the path": b"GET /api/v1/nodes/%00 HTTP/1.1\r\nHost: x\r\n",
    "bytes in the path": b"GET /api/v1/nodes/\xff\xfe HTTP/1.1\r\nHost: x\r\n",
    "quoted bytes in the path": b"GET /api/v1/nodes/%ff%fe HTTP/1.1\r\nHost: x\r\n",
    "bytes in the query": b"GET /api/v1/nodes?x=%ff&start=%ff HTTP/1.1\r\nHost: x\r\n",
    "long path": b"GET /api/v1/nodes/" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: x\r\n",
    "long query": b"GET /api/v1/nodes?" + b"a=1&" * 15_000 + b" HTTP/1.1\r\nHost: x\r\n",
    "long header": b"GET /api/v1/nodes HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 1_000_000 + b"\r\n",
    "many headers": b"GET /api/v1/nodes HTTP/1.1\r\nHost: x\r\n" + b"X-Many: a\r\n" * 20_000,
    "no method": b" /api/v1/nodes HTTP/1.1\r\nHost: x\r\n",
    "odd method": b"BREW /api/v1/nodes HTTP/1.1\r\nHost: x\r\n",
    "odd version": b"GET /api/v1/nodes HTTP/9.9\r\nHost: x\r\n",
    "no host": b"GET /api/v1/nodes HTTP/1.1\r\n",
    "whole address": b"GET http://elsewhere/api/v1/nodes HTTP/1.1\r\nHost: x\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n",
    "both lengths": b"POST /api/v1/session HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n",
    "two lengths": b"POST /api/v1/session HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n",
    "negative length": b"POST /api/v1/session HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n",
    "odd length": b"POST /api/v1/session HTTP/1.1\r\nHost: x\r\nContent-Length: \xb2\r\n",
    "basic that is none": b"GET /api/v1/nodes HTTP/1.1\r\nHost: x\r\nAuthorization: Basic \xff\xff\r\n",
    "basic with bytes": b"GET /api/v1/nodes HTTP/1.1\r\nHost: x\r\nAuthorization: Basic //79\r\n",
    "bearer with bytes": b"GET /api/v1/nodes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\r\n",
    "odd forwarded": b"GET /api/v1/nodes HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: \xff, ;drop\r\n",
    "odd accept": b"GET /api/v1/nodes HTTP/1.1\r\nHost: x\r\nAccept: \xff;q=x\r\nAccept-Encoding: zip\xff\r\n",
    "events": b"GET /api/v1/events?types=%00%ff&x=%u1234 HTTP/1.1\r\nHost: x\r\n",
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
}


@pytest.mark.parametrize("name", LINES)
def test_a_request_that_is_odd_http_harms_nobody(board: BoardProcess, name: str):
    status, kind, answer = raw(board, LINES[name] + b"Connection: close\r\n\r\n")
    if kind.startswith("application/json"):
        assert_sound(status, kind, answer, name)
    assert status < 500
    assert_nothing_raised(board)
    with board.client("viewer") as client:
        assert client.get("/api/v1/nodes").status_code == 200


def test_the_log_of_all_this_is_short(board: BoardProcess):
    assert Path(board.state / "board.log").stat().st_size < 1 << 20
