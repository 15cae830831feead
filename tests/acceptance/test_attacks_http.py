"""Attacks on the board over HTTP: paths that lead elsewhere on every route, uploads without end."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import socket
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.up import Up, eventually, running_board

#: What would lead out of a folder, in every way of writing it that a server might undo.
ELSEWHERE = [
    "../../../../../../etc/passwd",
    "..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "%252e%252e%252fetc%252fpasswd",
    "..%5c..%5c..%5cetc%5cpasswd",
    "....//....//....//etc/passwd",
    "%2fetc%2fpasswd",
    "//etc/passwd",
    "file:///etc/passwd",
    "..%00/etc/passwd",
    "..%c0%af..%c0%afetc/passwd",
    "..;/..;/etc/passwd",
    "..%2fusers.json",
    "..%2f..%2fusers.json",
    "..%2fcredentials%2fadmin.password",
]
#: Pages of the console that serve files.
CONSOLE = [
    "/",
    "/static/",
    "/app/static/",
    "/media/",
    "/component/",
    "/_stcore/",
    "/bidi-components/",
    "/node/",
]
GIB = 1 << 30


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    env = {"CALLBOARD_ARTIFACTS_LIMIT_MB": "4"}
    with running_board(tmp_path_factory.mktemp("attacked"), console=True, node=False, env=env) as up:
        yield up


@contextlib.contextmanager
def connection(url: str) -> Iterator[socket.socket]:
    where = urlsplit(url)
    with socket.create_connection((where.hostname, where.port), timeout=30) as made:
        yield made


def authorization(up: Up, user: str = "admin") -> str:
    return "Basic " + b64encode(f"{user}:{up.password(user)}".encode()).decode()


def ask(url: str, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """Send a request whose path nobody tidies up; status 0 if the connection is just closed."""
    lines = [f"{method} {path} HTTP/1.1", "Host: board", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with connection(url) as made:
        made.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        return read(made)


def read(made: socket.socket) -> tuple[int, bytes]:
    answer = http.client.HTTPResponse(made)
    try:
        answer.begin()
        return answer.status, answer.read()
    except (http.client.HTTPException, ConnectionError):
        return 0, b""


def secrets_of(up: Up) -> list[bytes]:
    return [b"root:x:0", b"argon2", up.password("admin").encode(), up.password("board").encode()]


def test_no_route_of_the_api_leads_to_a_file_elsewhere(board: Up):
    document = json.loads(ask(board.runtime.http.url, "GET", "/openapi.json", {})[1])
    headers = {
        "Authorization": authorization(board),
        "Content-Length": "2",
        "Content-Type": "application/json",
    }
    tried = 0
    before = board.get("/api/v1/users", "admin")
    for route, operations in document["paths"].items():
        if "{" not in route:
            continue
        for method in operations:
            for where in ELSEWHERE:
                path = "/".join(where if "{" in part else part for part in route.split("/"))
                lines = (
                    {**headers}
                    if method.upper() not in {"GET", "HEAD"}
                    else {"Authorization": headers["Authorization"]}
                )
                status, answer = probe(board, method.upper(), path, lines)
                assert status < 500 or status in {503, 504}, (method, path, answer[:300])
                assert not [secret for secret in secrets_of(board) if secret in answer], (method, path)
                tried += 1
    assert tried > 300
    assert board.get("/api/v1/users", "admin") == before


def probe(board: Up, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    with connection(board.runtime.http.url) as made:
        lines = [f"{method} {path} HTTP/1.1", "Host: board", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        body = "{}" if "Content-Length" in headers else ""
        made.sendall(("\r\n".join([*lines, "", ""]) + body).encode("latin-1"))
        return read(made)


@pytest.mark.parametrize("base", ["/", "/docs/", "/static-offline-docs/", "/api/v1/artifacts/", "/api/"])
def test_nothing_that_serves_files_beside_the_api_leads_elsewhere(board: Up, base: str):
    for where in ELSEWHERE:
        status, answer = ask(
            board.runtime.http.url, "GET", base + where, {"Authorization": authorization(board)}
        )
        assert status < 500, (base, where)
        assert not [secret for secret in secrets_of(board) if secret in answer], (base, where)


@pytest.mark.parametrize("base", CONSOLE)
def test_no_path_of_the_console_leads_to_a_file_elsewhere(board: Up, base: str):
    assert board.runtime.console is not None
    for where in ELSEWHERE:
        status, answer = ask(board.runtime.console.url, "GET", base + where, {})
        assert status < 500, (base, where)
        assert not [secret for secret in secrets_of(board) if secret in answer], (base, where)


# --- uploads


def parts(up: Up) -> list[Path]:
    folder = up.state / "artifacts"
    return [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("index.db")]


@pytest.mark.parametrize(
    "path", ["/api/v1/artifacts/" + "a" * 64, "/api/v1/session", "/api/v1/jobs", "/api/v1/enrol"]
)
def test_ten_gigabytes_that_are_announced_are_refused_before_they_come(board: Up, path: str):
    method = "PUT" if "artifacts" in path else "POST"
    headers = {
        "Authorization": authorization(board),
        "Content-Type": "application/json",
        "Content-Length": str(10 * GIB),
        "Expect": "100-continue",
    }
    with connection(board.runtime.http.url) as made:
        lines = [
            f"{method} {path} HTTP/1.1",
            "Host: board",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        made.sendall("\r\n".join([*lines, "", ""]).encode())
        sent = pour(made, limit=64 << 20)
        status, answer = read(made)
    assert sent < 64 << 20, "it was cut off long before its end"
    assert status in {0, 413}
    if status:
        assert json.loads(answer)["error"]["code"] == "too_large"
    assert parts(board) == []
    assert board.get("/healthz")


def pour(made: socket.socket, *, limit: int, chunked: bool = False) -> int:
    """Send without end; return how much was taken."""
    block = bytes(1 << 18)
    data = f"{len(block):x}\r\n".encode() + block + b"\r\n" if chunked else block
    sent = 0
    with contextlib.suppress(OSError):
        while sent < limit:
            made.sendall(data)
            sent += len(block)
    return sent


@pytest.mark.parametrize("path", ["/api/v1/artifacts/" + "b" * 64, "/api/v1/session", "/api/v1/jobs"])
def test_a_stream_that_does_not_say_how_long_it_is_is_cut_at_the_limit(board: Up, path: str):
    method = "PUT" if "artifacts" in path else "POST"
    head = [
        f"{method} {path} HTTP/1.1",
        "Host: board",
        f"Authorization: {authorization(board)}",
        "Content-Type: application/json",
        "Transfer-Encoding: chunked",
    ]
    with connection(board.runtime.http.url) as made:
        made.sendall("\r\n".join([*head, "", ""]).encode())
        sent = pour(made, limit=256 << 20, chunked=True)
        status, answer = read(made)
    assert sent < 256 << 20
    assert status in {0, 413}, answer
    eventually(lambda: parts(board) == [], lambda: f"nothing is kept: {parts(board)}")


def test_a_content_that_is_not_what_it_was_said_to_be_is_not_kept(board: Up):
    claimed = hashlib.sha256(b"something else").hexdigest()
    headers = {"Authorization": authorization(board), "Content-Length": "5"}
    with connection(board.runtime.http.url) as made:
        lines = [f"PUT /api/v1/artifacts/{claimed} HTTP/1.1", "Host: board"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        made.sendall(("\r\n".join([*lines, "", ""]) + "bytes").encode())
        status, _ = read(made)
    assert status == 400
    assert parts(board) == []
