"""The HTTP API of a real board on a real broker, as a client sees it."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from callboard_broker.access.rules import BOARD_WORKERS
from callboard_broker.http.server import FIRST_REQUEST
from callboard_core.errors import ERRORS
from support.boards import PASSWORDS, BoardProcess, board_process, eventually
from support.engines import running
from support.fakenode import FakeNode, fake_node
from support.timing import Stopwatch


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with running("mosquitto") as engine:
        yield engine.port


@pytest.fixture(scope="module")
def board(port, tmp_path_factory) -> Iterator[BoardProcess]:
    with board_process(tmp_path_factory.mktemp("board"), port) as started:
        yield started


@pytest.fixture(scope="module")
def node(port, board) -> Iterator[FakeNode]:
    with fake_node(port) as started:
        started.say(21.5)
        yield started


@pytest.fixture
def operator(board, node) -> Iterator[httpx.Client]:
    with board.client("operator") as client:
        eventually(lambda: client.get("/api/v1/values", params={"node": "greenhouse"}).json()["items"])
        eventually(lambda: client.get("/api/v1/nodes/greenhouse").is_success)
        yield client


@pytest.fixture
def viewer(board, node) -> Iterator[httpx.Client]:
    with board.client("viewer") as client:
        yield client


@pytest.fixture
def nobody(board) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=board.url, timeout=30) as client:
        yield client


def error(response: httpx.Response) -> tuple[int, str, str]:
    """Status, code and message of an error; checks its shape and that the status is the code's."""
    body = response.json()
    assert set(body) == {"error"}
    assert body["error"].keys() - {"type", "traceback"} == {"code", "message"}  # these where a worker raised
    code, message = body["error"]["code"], body["error"]["message"]
    assert ERRORS[code].http_status == response.status_code
    assert message
    return response.status_code, code, message


class TestSession:
    """Logging in and out."""

    def test_a_password_becomes_a_token_that_works_until_it_is_ended(self, nobody):
        body = nobody.post(
            "/api/v1/session", json={"username": "viewer", "password": PASSWORDS["viewer"]}
        ).json()
        assert (body["username"], body["role"]) == ("viewer", "viewer")
        assert body["expires"] > time.time() + 3600
        headers = {"Authorization": f"Bearer {body['token']}"}
        me = {"username": "viewer", "role": "viewer", "rights": ["read"]}
        assert nobody.get("/api/v1/me", headers=headers).json() == me
        assert nobody.delete("/api/v1/session", headers=headers).status_code == 204
        assert error(nobody.get("/api/v1/me", headers=headers))[:2] == (401, "unauthorized")

    @pytest.mark.parametrize(
        "header",
        ["", "Bearer", "Bearer x", "Basic", "Basic !!!", "Basic dXNlcg==", "Basic /w==", "Digest abc"],
    )
    def test_without_a_valid_credential_nothing_is_told(self, nobody, header):
        response = nobody.get("/api/v1/nodes", headers={"Authorization": header})
        assert error(response)[:2] == (401, "unauthorized")
        assert "Basic" in response.headers["www-authenticate"]

    def test_a_node_credential_cannot_read_over_http(self, board):
        with board.client("node") as client:
            assert client.get("/api/v1/me").json()["role"] == "node"
            assert error(client.get("/api/v1/nodes"))[:2] == (403, "forbidden")
            assert error(client.get("/metrics"))[:2] == (403, "forbidden")

    def test_logging_out_needs_a_token(self, viewer):
        assert error(viewer.delete("/api/v1/session"))[:2] == (400, "bad_request")

    def test_guessing_is_slowed_down(self, nobody):
        codes = [
            nobody.post("/api/v1/session", json={"username": "guessed", "password": str(n)}).status_code
            for n in range(7)
        ]
        assert codes[:5] == [401] * 5
        assert 503 in codes[5:]

    def test_guessing_from_one_address_does_not_lock_others_out(self, nobody):
        def log_in(address: str, password: str) -> int:
            body = {"username": "locked", "password": password}
            headers = {"X-Forwarded-For": address}
            return nobody.post("/api/v1/session", json=body, headers=headers).status_code

        while log_in("192.0.2.66", "guess") != 503:
            pass
        assert log_in("192.0.2.7", "guess") == 401

    def test_a_header_that_is_not_ascii_is_no_login(self, nobody):
        response = nobody.get("/api/v1/nodes", headers={"Authorization": b"Basic \xff\xfe"})
        assert error(response)[:2] == (401, "unauthorized")

    def test_the_site_tells_where_mqtt_is(self, viewer, port):
        body = viewer.get("/api/v1/site").json()
        assert body["site"] == "callboard"
        assert re.fullmatch(r"\d+\.\d+\.\d+.*", body["version"])
        assert body["mqtt"] == {"host": "127.0.0.1", "port": port}


class TestReading:
    """What a viewer sees."""

    def test_nodes_with_their_cards(self, viewer, operator):
        found = {item["id"]: item for item in viewer.get("/api/v1/nodes").json()["items"]}
        assert set(found) >= {"board", "greenhouse"}
        node = found["greenhouse"]
        assert (node["status"], node["label"], node["tags"], node["things"]) == (
            "ready",
            "Greenhouse",
            ["test"],
            2,
        )
        assert node["card"]["version"] == "1"
        assert abs(node["last_seen"] - time.time()) < 60
        assert abs(node["skew"]) < 5
        assert not node["skewed"]
        assert not node["forgettable"]
        assert viewer.get("/api/v1/nodes/greenhouse").json()["id"] == "greenhouse"

    def test_the_board_is_a_node_and_offers_its_workers(self, operator):
        cards = operator.get("/api/v1/cards", params={"node": "board"}).json()["items"]
        workers = {card["name"]: card["card"] for card in cards if card["kind"] == "worker"}
        assert {"call", "forget", "history", "job", "submit"} <= workers.keys()
        assert workers.keys() <= set(BOARD_WORKERS), "Mosquitto is told by name what is not for nodes"
        assert all(card["parameters"]["properties"] for card in workers.values())

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ({"node": "greenhouse"}, ["open-vent", "temperature"]),
            ({"kind": "sensor"}, ["temperature"]),
            ({"name": "temp*"}, ["temperature"]),
            ({"tag": "warm"}, ["temperature"]),
            ({"tag": ["warm", "cold"]}, []),
            ({"kind": "slot"}, []),
        ],
    )
    def test_cards_are_found_by_what_is_asked(self, operator, query, names):
        assert [item["name"] for item in operator.get("/api/v1/cards", params=query).json()["items"]] == names

    def test_the_latest_values(self, operator):
        (item,) = operator.get("/api/v1/values", params={"node": "greenhouse", "kind": "sensor"}).json()[
            "items"
        ]
        assert (item["node"], item["kind"], item["name"], item["v"]) == (
            "greenhouse",
            "sensor",
            "temperature",
            21.5,
        )
        assert item["level"] == "normal"
        assert item["error"] is None
        assert abs(item["received"] - item["t"]) < 10

    def test_history_in_json_and_csv(self, operator, node):
        start = time.time() - 3000
        node.send([(start + n, n / 10) for n in range(2000)])
        url = "/api/v1/history/greenhouse/sensor/temperature"
        query = {"start": start, "end": start + 2000, "points": 100}
        body = eventually(lambda: complete(operator.get(url, params=query).json(), 2000))
        assert (body["node"], body["kind"], body["name"], body["unit"]) == (
            "greenhouse",
            "sensor",
            "temperature",
            "°C",
        )
        assert body["resolution"] == "raw"
        assert len(body["t"]) <= 100
        assert {len(body[column]) for column in ("mean", "min", "max", "count")} == {len(body["t"])}
        assert (body["min"][0], max(body["max"])) == (0.0, 199.9)
        response = operator.get(url, params={**query, "format": "csv"})
        assert response.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(response.text)))
        assert [float(row["mean"]) for row in rows] == pytest.approx(body["mean"])
        assert sum(int(row["count"]) for row in rows) == 2000

    def test_history_of_texts(self, operator, node):
        start = time.time() - 100
        node.send([(start, "idle"), (start + 1, "running, fast")], name="mode")
        url = "/api/v1/history/greenhouse/sensor/mode"
        body = eventually(lambda: (found := operator.get(url).json()).get("texts") and found)
        assert [text for _, text, _ in body["texts"]] == ["idle", "running, fast"]
        rows = list(csv.reader(io.StringIO(operator.get(url, params={"format": "csv"}).text)))
        assert [row[1] for row in rows] == ["text", "idle", "running, fast"]

    def test_when_a_node_came(self, operator):
        items = operator.get("/api/v1/nodes/greenhouse/statuses").json()["items"]
        assert items[-1]["status"] == "ready"
        assert operator.get("/api/v1/nodes/greenhouse/statuses", params={"end": 5}).json()["items"] == []

    def test_refused_messages(self, operator, node):
        before = operator.get("/api/v1/refused").json()["count"]
        node.link.publish("callboard/greenhouse/state/sensor/temperature", b"{broken", qos=1).result(30)
        node.link.publish("callboard/greenhouse/announce/sensor/Bad", b"{}", qos=1).result(30)
        node.link.publish("callboard/greenhouse/command/action/open-vent", b"no call", qos=1).result(30)
        body = eventually(
            lambda: (found := operator.get("/api/v1/refused").json())["count"] == before + 3 and found
        )
        last = body["items"][:3]
        assert {item["node"] for item in last} == {"greenhouse"}
        assert {item["topic"].split("/")[2] for item in last} == {"state", "announce", "command"}
        assert all(item["reason"] and item["size"] for item in last)

    def test_healthz_needs_no_login(self, nobody, operator):
        response = nobody.get("/healthz")
        assert (response.status_code, response.json()) == (200, {"status": "ok", "reasons": []})

    def test_metrics_count_and_pass_the_brokers_figures_on(self, viewer, operator):
        def text() -> str:
            return viewer.get("/metrics").text

        eventually(
            lambda: 'callboard_broker_sys{topic="$SYS/broker/clients/connected"}' in text(), timeout=30
        )
        found = text()
        assert re.search(r'callboard_nodes\{status="ready"\} [2-9]', found)
        assert re.search(r"callboard_history_readings_written_total [1-9]", found)
        assert "callboard_healthy 1.0" in found

    def test_the_documentation_needs_no_internet(self, nobody):
        for page in ("/docs", "/redoc"):
            text = nobody.get(page).text
            links = re.findall(r'(?:src|href)="([^"]+)"', text)
            assert links
            for link in links:
                assert link.startswith("/")
                assert nobody.get(link).is_success

    def test_every_operation_is_described_and_typed(self, nobody):
        schema = nobody.get("/openapi.json").json()
        assert set(schema["paths"]) >= {
            "/api/v1/nodes",
            "/api/v1/nodes/{node}",
            "/api/v1/cards",
            "/api/v1/values",
            "/api/v1/history/{node}/{kind}/{name}",
            "/api/v1/refused",
            "/api/v1/events",
            "/api/v1/nodes/{node}/{kind}/{name}/call",
            "/metrics",
            "/healthz",
        }
        for path in schema["paths"].values():
            for operation in path.values():
                assert operation["summary"]
                assert operation["description"]
                assert "422" not in operation["responses"]
                assert operation["responses"]["default"]


def complete(body: dict, readings: int) -> dict | None:  # type: ignore[type-arg]
    return body if sum(body.get("count", ())) == readings else None


class TestCalling:
    """What an operator does."""

    URL = "/api/v1/nodes/greenhouse/action/open-vent/call"

    def test_a_call_brings_the_result(self, operator):
        assert operator.post(self.URL, json={"args": {"by": 40}}).json() == {"result": {"opened": 40}}
        assert operator.post(self.URL).json() == {"result": {"opened": 100}}

    def test_a_viewer_cannot_call_or_forget(self, viewer, operator):
        assert error(viewer.post(self.URL))[:2] == (403, "forbidden")
        assert error(viewer.delete("/api/v1/nodes/greenhouse"))[:2] == (403, "forbidden")

    def test_the_things_own_exception_is_told(self, operator):
        status, code, message = error(operator.post(self.URL, json={"args": {"break": True}}))
        assert (status, code) == (500, "failed")
        assert "ValueError: the vent is stuck" in message

    def test_what_is_not_there_is_not_found(self, operator):
        for path in (
            "greenhouse/action/close-vent",
            "nobody/action/open-vent",
            "greenhouse/sensor/open-vent",
        ):
            assert error(operator.post(f"/api/v1/nodes/{path}/call"))[:2] == (404, "not_found")

    def test_a_node_that_is_online_is_not_forgotten(self, operator):
        status, code, message = error(operator.delete("/api/v1/nodes/greenhouse"))
        assert (status, code) == (409, "conflict")
        assert "stop it first" in message

    def test_a_call_that_takes_too_long_times_out(self, operator, node):
        from callboard_core.cards import ActionCard
        from callboard_core.topics import Kind

        release = threading.Event()
        node.pin(ActionCard(name="slow", epoch=1))
        node.callee.handle(Kind.ACTION, "slow", lambda _: release.wait(20))
        url = "/api/v1/nodes/greenhouse/action/slow/call"
        eventually(lambda: operator.get("/api/v1/cards", params={"name": "slow"}).json()["items"])
        begun = Stopwatch()
        assert error(operator.post(url, json={"timeout": 0.3}))[:2] == (504, "timeout")
        assert begun.within(5), begun
        release.set()


BAD = [
    ("GET", "/nope", None, 404, "not_found", "Not Found"),
    ("GET", "/api/v1/nodes/UPPER", None, 400, "bad_request", "node"),
    ("GET", "/api/v1/nodes/a%23b", None, 400, "bad_request", "node"),
    ("GET", "/api/v1/nodes/a%2Fb", None, 404, "not_found", ""),
    ("GET", f"/api/v1/nodes/{'a' * 64}", None, 400, "bad_request", "node"),
    ("GET", "/api/v1/nodes/nobody", None, 404, "not_found", "nobody"),
    ("GET", "/api/v1/nodes/%00", None, 400, "bad_request", "node"),
    ("DELETE", "/api/v1/nodes/nobody", None, 404, "not_found", "nobody"),
    ("GET", "/api/v1/cards?kind=toaster", None, 400, "bad_request", "kind"),
    ("GET", "/api/v1/cards?node=A", None, 400, "bad_request", "node"),
    ("GET", "/api/v1/cards?name=" + "x" * 200, None, 400, "bad_request", "name"),
    ("GET", "/api/v1/values?kind=toaster", None, 400, "bad_request", "kind"),
    ("GET", "/api/v1/history/a/sensor/b", None, 404, "not_found", "a/sensor/b has no history"),
    ("GET", "/api/v1/history/a/toaster/b", None, 400, "bad_request", "kind"),
    ("GET", "/api/v1/history/a/sensor/b?points=0", None, 400, "bad_request", "points"),
    ("GET", "/api/v1/history/a/sensor/b?points=100000", None, 400, "bad_request", "points"),
    ("GET", "/api/v1/history/a/sensor/b?points=many", None, 400, "bad_request", "points"),
    ("GET", "/api/v1/history/a/sensor/b?start=yesterday", None, 400, "bad_request", "start"),
    ("GET", "/api/v1/history/a/sensor/b?start=nan", None, 400, "bad_request", "start"),
    ("GET", "/api/v1/history/a/sensor/b?end=inf", None, 400, "bad_request", "end"),
    ("GET", "/api/v1/history/a/sensor/b?start=5&end=5", None, 400, "bad_request", "start"),
    ("GET", "/api/v1/history/a/sensor/b?start=-1e300", None, 400, "bad_request", "start"),
    ("GET", "/api/v1/history/a/sensor/b?format=xml", None, 400, "bad_request", "format"),
    ("GET", "/api/v1/nodes/a/statuses?start=x", None, 400, "bad_request", "start"),
    ("GET", "/api/v1/events?types=nonsense", None, 400, "bad_request", "types"),
    ("POST", "/api/v1/session", b"", 400, "bad_request", ""),
    ("POST", "/api/v1/session", b"{", 400, "bad_request", "JSON"),
    ("POST", "/api/v1/session", b"[]", 400, "bad_request", ""),
    ("POST", "/api/v1/session", b'{"username": "a"}', 400, "bad_request", "password"),
    ("POST", "/api/v1/session", b'{"username": 5, "password": "x"}', 400, "bad_request", "username"),
    ("POST", "/api/v1/session", b'{"username": "", "password": "x"}', 400, "bad_request", "username"),
    ("POST", "/api/v1/session", b'{"username": "\\ud800", "password": "x"}', 400, "bad_request", ""),
    ("POST", "/api/v1/session", b"\xff\xfe", 400, "bad_request", ""),
    ("POST", "/api/v1/session", b"x" * (2 << 20), 413, "too_large", ""),
    ("POST", TestCalling.URL, b'{"timeout": 0}', 400, "bad_request", "timeout"),
    ("POST", TestCalling.URL, b'{"timeout": 1e9}', 400, "bad_request", "timeout"),
    ("POST", TestCalling.URL, b'{"args": []}', 400, "bad_request", "args"),
    ("POST", TestCalling.URL, b'{"args": {"x": NaN}}', 400, "bad_request", ""),
    ("POST", TestCalling.URL, b"null and void", 400, "bad_request", "JSON"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "code", "said"), BAD)
def test_bad_input_is_answered_with_a_code_and_the_field(operator, method, path, body, status, code, said):
    response = operator.request(method, path, content=body, headers={"Content-Type": "application/json"})
    found = error(response)
    assert found[:2] == (status, code)
    assert said in found[2]


def test_a_method_that_a_path_does_not_have_keeps_its_status(operator):
    response = operator.patch("/api/v1/nodes")
    assert response.status_code == 405
    assert response.json()["error"]["code"] == "bad_request"


def test_a_body_in_endless_chunks_is_cut_off(operator):
    def chunks():
        for _ in range(100):
            yield b"x" * 65_536

    try:
        response = operator.post("/api/v1/session", content=chunks())
    except httpx.TransportError:
        return  # closed before all was sent, which is as good
    assert error(response)[:2] == (413, "too_large")


def test_a_connection_that_asks_nothing_is_closed(board):
    host, _, port = board.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=3 * FIRST_REQUEST) as idle:
        idle.sendall(b"GET / HTTP/1.1\r\n")
        assert idle.recv(1) == b""


@pytest.mark.parametrize("head", [b"X-Long: " + b"x" * 100_000, b"X: y\r\n" * 20_000, b"\0\0"])
def test_a_head_that_is_none_or_too_long_ends_the_connection(board, head: bytes):
    host, _, port = board.url.removeprefix("http://").partition(":")
    begun = Stopwatch()
    with socket.create_connection((host, int(port)), timeout=3 * FIRST_REQUEST) as rude:
        with contextlib.suppress(ConnectionError):
            rude.sendall(b"GET /healthz HTTP/1.1\r\nHost: board\r\n" + head)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while data := rude.recv(4096):
                answer += data
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
        assert begun.within(FIRST_REQUEST / 2), begun


class TestEvents:
    """Server-sent events."""

    def test_what_happens_is_streamed(self, operator, node, port):
        seen: list[tuple[str, dict]] = []  # type: ignore[type-arg]
        ready = threading.Event()

        def listen() -> None:
            with operator.stream("GET", "/api/v1/events") as response:
                assert response.headers["content-type"].startswith("text/event-stream")
                name = ""
                for line in response.iter_lines():
                    if line.startswith(":"):
                        ready.set()
                    elif line.startswith("event: "):
                        name = line[7:]
                    elif line.startswith("data: "):
                        seen.append((name, json.loads(line[6:])))
                        if {"status", "card", "state", "event"} <= {one for one, _ in seen}:
                            return

        thread = threading.Thread(target=listen)
        thread.start()
        assert ready.wait(30)
        node.say(22.5)
        with fake_node(port, "visitor") as visitor:
            visitor.link.publish(
                "callboard/visitor/event/alarm", b'{"t": 1, "message": "help"}', qos=1
            ).result(30)
            thread.join(20)
        assert not thread.is_alive()
        said = dict(reversed(seen))
        assert (said["state"]["node"], said["state"]["v"]) == ("greenhouse", 22.5)
        assert (said["status"]["node"], said["status"]["status"]) == ("visitor", "ready")
        assert (said["card"]["node"], said["card"]["change"]) == ("visitor", "available")
        assert (said["event"]["name"], said["event"]["message"]) == ("alarm", "help")

    def test_a_listener_that_does_not_read_is_let_go_and_nobody_else_notices(self, operator, board, node):
        with operator.stream("GET", "/api/v1/events", params={"types": "state"}) as stuck:
            lines = stuck.iter_lines()
            next(lines)  # and no more
            before = board.metrics()["event_listeners_let_go_total"]
            big = "x" * 20_000

            def let_go() -> bool:
                for number in range(300):
                    node.link.publish(
                        "callboard/greenhouse/state/sensor/big",
                        json.dumps({"v": f"{number}{big}", "t": time.time()}).encode(),
                    )
                node.say(1.0)
                return board.metrics()["event_listeners_let_go_total"] > before

            eventually(let_go, timeout=60)
            assert operator.get("/api/v1/me").is_success
        assert board.metrics()["history_readings_dropped_total"] == 0


def test_what_is_no_request_is_refused_in_the_form_of_every_other_error(board):
    host, port = board.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as rude:
        rude.sendall(b"no request of HTTP's\r\n\r\n")
        head, _, body = b"".join(iter(lambda: rude.recv(65_536), b"")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert json.loads(body)["error"]["code"] == "bad_request"
