"""The console as a process: starts, refuses strangers, follows the broker, stops."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from callboard_console.web.feed import Feed
from callboard_console.web.server import serve
from callboard_core import topics
from callboard_core.cards import NodeCard
from callboard_core.errors import BadRequest, Conflict
from callboard_core.link import Credential, Endpoint, Link
from callboard_core.messages import Status
from support.console import PASSWORDS, ConsoleProcess, FakeBoard
from support.mosquitto import Mosquitto, free_port
from support.up import eventually


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    running = Mosquitto(tmp_path)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def board() -> Iterator[FakeBoard]:
    with FakeBoard() as running:
        yield running


@pytest.fixture
def console(broker: Mosquitto, board: FakeBoard) -> Iterator[ConsoleProcess]:
    made = ConsoleProcess(broker.port, board.url).wait()
    yield made
    if made.process.poll() is None:
        made.stop()


def test_it_answers_when_it_says_ready_and_stops_within_two_seconds(console):
    with httpx.Client(base_url=f"http://127.0.0.1:{console.port}", trust_env=False) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/", headers={"accept": "text/html"}).status_code == 303
    code, took, errors = console.stop()
    assert (code, errors) == (0, "")
    assert took.within(2), took


def test_a_taken_port_is_a_conflict_that_says_what_to_do():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=rf"port {port} \(console\) is taken by .*pid.*--console-port"):
            _serve("127.0.0.1", port)


def test_an_address_of_another_machine_is_a_wrong_setting():
    with pytest.raises(BadRequest, match=r"192\.0\.2\.1"):
        _serve("192.0.2.1", free_port())


def _serve(bind: str, port: int) -> None:
    serve(
        bind=bind,
        port=port,
        site="callboard",
        mqtt=Endpoint("127.0.0.1", 9),
        http_url="http://127.0.0.1:9",
        credential=Credential("viewer", "x"),
        state=Path(),
        ready=lambda: None,
    )


def test_a_stranger_sees_no_data_and_opens_no_websocket(console):
    base = f"http://127.0.0.1:{console.port}"
    with httpx.Client(base_url=base, trust_env=False) as client:
        for path in (
            "/",
            "/_stcore/health",
            "/_stcore/host-config",
            "/static/js/x.js",
            "/_stcore/agent/openapi.json",
        ):
            assert client.get(path).status_code == 401, path
        answer = client.get("/_stcore/stream", headers=_upgrade(base))
        assert answer.status_code == 403


def test_a_session_opens_the_page_and_its_websocket(console):
    base = f"http://127.0.0.1:{console.port}"
    with httpx.Client(base_url=base, trust_env=False) as client:
        form = {"username": "viewer", "password": PASSWORDS["viewer"]}
        assert client.post("/login", data=form).status_code == 303
        assert "<title>" in client.get("/").text
        assert client.get("/_stcore/stream", headers=_upgrade(base)).status_code == 101
        assert client.get("/_stcore/stream", headers=_upgrade("http://evil.example")).status_code == 403


def _upgrade(origin: str) -> dict[str, str]:
    return {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-protocol": "streamlit",
        "origin": origin,
    }


def test_the_console_starts_without_broker_and_board_and_stops_all_the_same():
    console = ConsoleProcess(free_port(), f"http://127.0.0.1:{free_port()}").wait()
    code, took, _ = console.stop()
    assert code == 0
    assert took.within(2), took


# -- the feed ------------------------------------------------------------------------------------------------------


@pytest.fixture
def feed(broker: Mosquitto, board: FakeBoard) -> Iterator[Feed]:
    made = Feed(
        site="callboard",
        endpoint=broker.endpoint,
        credential=Credential("viewer", PASSWORDS["viewer"]),
        http_url=board.url,
    )
    made.start()
    yield made
    made.stop()


@pytest.fixture
def publisher(broker: Mosquitto) -> Iterator[Link]:
    link = Link(client_id="publisher", endpoint=broker.endpoint)
    link.start()
    link.wait_connected(10)
    yield link
    link.stop()


def announce(link: Link, node: str, status: str = "ready") -> None:
    card = NodeCard(name=node, epoch=1, version="1")
    link.publish(topics.announce("callboard", node), card, qos=1, retain=True).result(10)
    said = Status(status=status, epoch=1, t=time.time())
    link.publish(topics.status("callboard", node), said, qos=1, retain=True).result(10)


def test_the_feed_is_complete_and_does_not_wait_with_what_is_urgent(feed, publisher, monkeypatch):
    eventually(lambda: feed.snapshot().complete, "complete")
    monkeypatch.setattr("callboard_console.web.feed.SNAPSHOT_EVERY", 3600)
    announce(publisher, "attic")
    eventually(lambda: "attic" in feed.snapshot().nodes, "attic", every=0.01)
    announce(publisher, "attic", "lost")
    eventually(lambda: not feed.snapshot().nodes["attic"].live, "lost", every=0.01)


def test_the_feed_says_when_the_broker_is_gone_and_comes_back_with_the_truth(feed, publisher, broker):
    announce(publisher, "attic")
    announce(publisher, "cellar")
    eventually(lambda: feed.snapshot().complete and len(feed.snapshot().nodes) == 2, "both nodes")
    publisher.stop()
    broker.kill()
    eventually(lambda: not feed.snapshot().connected, "disconnected")
    assert set(feed.snapshot().nodes) == {"attic", "cellar"}
    broker.store.unlink(missing_ok=True)
    broker.start()
    fresh = Link(client_id="fresh", endpoint=broker.endpoint)
    fresh.start()
    fresh.wait_connected(10)
    announce(fresh, "cellar")
    eventually(lambda: feed.snapshot().complete and set(feed.snapshot().nodes) == {"cellar"}, "the truth")
    fresh.stop()


def test_a_sweep_finds_what_hangs_outside_the_tree(feed, publisher):
    publisher.publish("callboard/odd/place/x", b"stray", qos=1, retain=True).result(10)
    eventually(lambda: feed.snapshot().complete, "complete")
    feed.sweep()
    eventually(lambda: "callboard/odd/place/x" in feed.topics().names, "the stray topic")
