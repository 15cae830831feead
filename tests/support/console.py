"""What tests of the console stand on: a fake board's HTTP, a fake feed, snapshots to look at, a real browser."""

from __future__ import annotations

import asyncio
import io
import json
import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import httpx

from callboard_console.web import runtime
from callboard_console.web.client import Api
from callboard_console.web.sessions import Session, Sessions
from callboard_console.web.snapshot import EventLine, NodeView, Refusal, Retained, Snapshot, Thing, Topics
from callboard_console.web.views.overview import Joining
from callboard_core.cards import ActionCard, ControlCard, Host, NodeCard, Range, SensorCard
from callboard_core.errors import error_from_code
from callboard_core.link import Credential
from callboard_core.messages import ErrorBody, Level, Severity, State, StatusName
from callboard_core.topics import Address, Kind
from support.mosquitto import free_port
from support.timing import Stopwatch

NOW = 1_795_327_474.0
PASSWORDS = {"operator": "open-sesame", "viewer": "just-looking"}


# -- snapshots -------------------------------------------------------------------------------------------------


def sensor(
    name: str, v: Any = 21.4, *, level: Level = Level.NORMAL, unit: str | None = "°C", **card: Any
) -> Thing:
    error = card.pop("error", None)
    kind = "boolean" if isinstance(v, bool) else "text" if isinstance(v, str) else "number"
    made = SensorCard(name=name, epoch=1, unit=unit, type=kind, **card)
    failed = ErrorBody(code="failed", message=error, type="OSError") if error else None
    state = State(v=None if error else v, t=NOW, level=level, error=failed)
    trace = tuple(20 + 3 * math.sin(i / 4 + len(name)) for i in range(30)) if kind == "number" else ()
    return Thing(Kind.SENSOR, name, made, state, NOW - 1, trace)


def control(name: str, v: Any = 40, **card: Any) -> Thing:
    made = ControlCard(name=name, epoch=1, **card)
    return Thing(Kind.CONTROL, name, made, State(v=v, t=NOW), NOW - 5)


def action(name: str, **card: Any) -> Thing:
    return Thing(Kind.ACTION, name, ActionCard(name=name, epoch=1, **card), State(v="idle", t=NOW), NOW - 5)


def node(
    id_: str,
    *things: Thing,
    status: StatusName | None = StatusName.READY,
    tags: tuple[str, ...] = (),
    **more: Any,
) -> NodeView:
    host = Host(
        hostname=f"{id_}.local",
        system="Linux",
        machine="aarch64",
        model="Raspberry Pi 5",
        addresses=["10.0.0.7"],
    )
    card = NodeCard(
        name=id_, epoch=3, version="0.1.0", label=more.pop("label", None), tags=list(tags), host=host
    )
    made = {"since": NOW - 300, "last_seen": NOW - 1} | more
    return NodeView(
        id=id_,
        card=card,
        status=status,
        epoch=3,
        things=MappingProxyType({(thing.kind, thing.name): thing for thing in things}),
        **made,
    )


def greenhouse() -> NodeView:
    return node(
        "greenhouse",
        sensor("temperature", 21.4, normal=Range(low=15, high=25)),
        sensor("humidity", 88.0, unit="%", level=Level.WARNING),
        sensor("soil", error="OSError: [Errno 121] Remote I/O error"),
        control("fan", 40, minimum=0, maximum=100, unit="%"),
        control("lamp", True, type="boolean"),
        control("mode", "auto", type="enum", options=["auto", "day", "night"]),
        control("scene", "a", type="enum", options=["a", "b", "c", "d", "e"]),
        control("note", "hello", type="text"),
        control("colour", "#ff8800", type="colour"),
        control("target", 21.5, unit="°C"),
        action("open-vent", label="Open the vent", confirm="Really open the vent?"),
        action("ping"),
        action(
            "water",
            label="Water",
            parameters={
                "type": "object",
                "properties": {
                    "seconds": {"type": "integer", "minimum": 1, "maximum": 60, "default": 5},
                    "zone": {"type": "string"},
                },
                "required": ["seconds"],
            },
        ),
        label="Greenhouse",
        tags=("garden", "pi"),
    )


def snapshot(*nodes: NodeView, **more: Any) -> Snapshot:
    made = {"t": NOW, "site": "callboard", "connected": True, "complete": True, "changed": NOW - 60} | more
    return Snapshot(nodes=MappingProxyType({each.id: each for each in nodes}), **made)


def full() -> Snapshot:
    return snapshot(
        node("board", label="Board"),
        greenhouse(),
        node("attic", sensor("cpu", 12.5, unit="%"), status=StatusName.LOST, since=NOW - 12, tags=("pi",)),
        events=(
            EventLine(NOW - 3, "greenhouse", "alarm", Severity.WARNING, "humidity is high"),
            EventLine(NOW - 9, "attic", "log", Severity.INFO, "started"),
        ),
        refusals=(Refusal(NOW - 4, "callboard/x/state/sensor/y", "x", "t: Field required", 17),),
        rate=12.3,
    )


# -- fakes -----------------------------------------------------------------------------------------------------


@dataclass
class FakeFeed:
    """Gives out what the test puts in."""

    now: Snapshot = field(default_factory=full)
    held: dict[str, bytes] = field(default_factory=dict)
    sweeps: int = 0

    def snapshot(self) -> Snapshot:
        return self.now

    def put(self, *nodes: NodeView) -> None:
        changed = dict(self.now.nodes) | {each.id: each for each in nodes}
        self.now = replace(self.now, nodes=MappingProxyType(changed))

    def topics(self) -> Topics:
        held = {topic: Retained(payload, NOW - 2) for topic, payload in self.held.items()}
        return Topics(tuple(sorted(held)), MappingProxyType(held))

    def sweep(self) -> None:
        self.sweeps += 1


class FakeLink:
    """Takes calls and answers them the way the test says: by default at once with success."""

    def __init__(self) -> None:
        self.calls: list[tuple[Address, dict[str, Any], float]] = []
        self.answer: Callable[[Future[Any]], None] = lambda future: future.set_result(None)
        self.stopped = False

    def call(
        self, address: Address, args: Any, *, timeout: float, on_progress: Any = None, on_ack: Any = None
    ) -> Future[Any]:
        self.calls.append((address, dict(args), timeout))
        self.on_progress, self.on_ack = on_progress, on_ack
        future: Future[Any] = Future()
        self.answer(future)
        return future

    def stop(self, **_: Any) -> None:
        self.stopped = True


class FakeApi(Api):
    """The board's HTTP without HTTP."""

    def __init__(self) -> None:
        super().__init__("http://board.invalid", "operator", "x")
        self.answers: dict[str, Any] = {
            "statuses": {"items": [{"t": NOW - 7200, "status": "ready", "epoch": 3}]},
            "history": series(),
            "refused": {
                "count": 1,
                "items": [{"t": NOW, "topic": "a/b/c", "node": "b", "reason": "no", "size": 3}],
            },
            "nodes": {"items": []},
            "/me": {"username": "operator", "role": "operator"},
        }
        self.asked: list[str] = []
        self.posted: list[tuple[str, str, dict[str, Any]]] = []

    def get(self, path: str, **_query: Any) -> dict[str, Any]:
        self.asked.append(path)
        return self._answer(path)

    def post(
        self, path: str, body: Mapping[str, Any], *, method: str = "POST", **_query: Any
    ) -> dict[str, Any]:
        self.posted.append((method, path, dict(body)))
        return self._answer(path)

    def _answer(self, path: str) -> dict[str, Any]:
        found = next(answer for name, answer in self.answers.items() if name in path)
        if isinstance(found, Exception):
            raise found
        return found

    def open(self, path: str, **_query: Any) -> Any:
        self.asked.append(path)
        return io.BytesIO(self.answers[path])

    def logout(self) -> None:
        self.asked.append("logout")


def series(points: int = 60, resolution: str = "raw") -> dict[str, Any]:
    times = [NOW - 900 + i * 15 for i in range(points)]
    mean = [20 + math.sin(i / 5) for i in range(points)]
    return {
        "unit": "°C",
        "resolution": resolution,
        "t": times,
        "mean": mean,
        "min": [v - 0.5 for v in mean],
        "max": [v + 0.5 for v in mean],
        "count": [1] * points,
    }


def session(role: str = "operator", link: FakeLink | None = None, token: str = "token") -> Session:
    return Session(
        token=token,
        username=role,
        role=role,
        expires=time.time() + 3600,
        credential=Credential(role, PASSWORDS.get(role, "x")),
        api=FakeApi(),
        open_link=lambda _credential: link if link is not None else FakeLink(),  # type: ignore[return-value]
    )


@contextmanager
def installed(feed: FakeFeed, who: Session | None, joining: Joining | None = None) -> Iterator[Sessions]:
    """A console with a fake feed, in which everybody is ``who``."""
    sessions = Sessions(time.time)

    class Everybody(Sessions):
        def get(self, token: str | None) -> Session | None:
            return who if who is not None and who.expires > time.time() else None

    runtime.install(runtime.Console("callboard", feed, Everybody(time.time), joining or Joining()))
    try:
        yield sessions
    finally:
        runtime.install(None)


# -- an ASGI application without a server ----------------------------------------------------------------------


class Asgi:
    """Asks an ASGI application as a browser does: keeps cookies, follows no redirects."""

    def __init__(self, app: Any) -> None:
        self._app = app
        transport = httpx.ASGITransport(app=app)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://testserver")
        self.cookies = self._client.cookies

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        return asyncio.run(self._client.request(method, path, **more))

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.request("GET", path, **more)

    def post(self, path: str, **more: Any) -> httpx.Response:
        return self.request("POST", path, **more)

    def websocket(self, path: str, headers: dict[str, str]) -> list[str]:
        """Return the types of the messages the application answers a websocket's opening with."""
        given = {
            "host": "testserver",
            "cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items()),
        } | headers
        raw = [(key.encode(), value.encode()) for key, value in given.items()]
        scope = {"type": "websocket", "path": path, "headers": raw, "query_string": b"", "subprotocols": []}
        said: list[str] = []

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            said.append(message["type"])

        asyncio.run(self._app(scope, receive, send))
        return said


# -- a fake board's HTTP ---------------------------------------------------------------------------------------


class FakeBoard:
    """The part of the board's HTTP API that the console uses, on a free port."""

    def __init__(self) -> None:
        self.tokens: dict[str, str] = {}
        self.requests: list[str] = []
        board = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(size) or b"{}")
                name = body.get("username")
                if PASSWORDS.get(name) != body.get("password"):
                    return self.fail("unauthorized", "wrong name or password")
                token = f"token-{len(board.tokens)}-{name}"
                board.tokens[token] = name
                return self.send(
                    {"token": token, "username": name, "role": name, "expires": time.time() + 3600}
                )

            def do_DELETE(self) -> None:
                board.tokens.pop(self.headers.get("Authorization", "")[7:], None)
                self.send({})

            def do_GET(self) -> None:
                board.requests.append(self.path)
                if self.headers.get("Authorization", "")[7:] not in board.tokens:
                    return self.fail("unauthorized", "log in first")
                url = urlsplit(self.path)
                query = {key: found[0] for key, found in parse_qs(url.query).items()}
                return self.send(board.answer(url.path, query))

            def send(self, answer: Any, status: int = 200) -> None:
                raw = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def fail(self, code: str, message: str) -> None:
                status = error_from_code(code, "").http_status
                self.send({"error": {"code": code, "message": message}}, status)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def answer(self, path: str, query: dict[str, str]) -> Any:
        if "history" in path:
            end = float(query["end"])
            times = [end - 900 + i * 5 for i in range(180)]
            mean = [18 + 4 * math.sin(i / 17) for i in range(180)]
            low, high = [v - 1 for v in mean], [v + 1 for v in mean]
            return {"unit": "%", "resolution": "minute", "t": times, "mean": mean, "min": low, "max": high}
        if "statuses" in path:
            now = time.time()
            marks = (
                (70_000, "ready"),
                (30_000, "lost"),
                (29_000, "ready"),
                (8_000, "disconnected"),
                (7_200, "ready"),
            )
            return {"items": [{"t": now - ago, "status": status, "epoch": 1} for ago, status in marks]}
        if "refused" in path:
            items = [
                {"t": time.time() - 40, "topic": "callboard/attic/announce/sensor/cpu", "node": "attic",
                 "reason": "type: Input should be 'number', 'text', 'boolean' or 'enum'", "size": 84},
            ]  # fmt: skip
            return {"count": 1, "items": items}
        return {"items": []}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


# -- the console as a process --------------------------------------------------------------------------------------

_SERVE = """
import json, sys
from pathlib import Path
from callboard_console.web import serve
from callboard_core.link import Credential, Endpoint
given = json.loads(sys.argv[1])
serve(bind="127.0.0.1", port=given["port"], site="callboard", mqtt=Endpoint("127.0.0.1", given["mqtt"]),
      http_url=given["http"], credential=Credential("viewer", "just-looking"), state=Path("."),
      ready=lambda: print("ready", flush=True))
"""


class ConsoleProcess:
    """The console alone, on a free port."""

    def __init__(self, mqtt: int, http: str) -> None:
        self.port = free_port()
        given = json.dumps({"port": self.port, "mqtt": mqtt, "http": http})
        self._starting = Stopwatch()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, given], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wait(self) -> ConsoleProcess:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == "ready\n", self.process.communicate()
        assert self._starting.within(10), self._starting
        return self

    def stop(self) -> tuple[int, Stopwatch, str]:
        took = Stopwatch()
        self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, took, errors
