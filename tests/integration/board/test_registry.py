"""The list of nodes, kept true: liveness, clocks, what was refused, forgetting, and what a new start remembers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from callboard_core.link import Endpoint, Link, Message
from support.boards import BoardProcess, board_process, eventually
from support.engines import ENGINES, Engine, running
from support.fakenode import fake_node

DAY = 86_400.0


#: For the tests whose truth depends on the broker.
both = pytest.mark.parametrize("engine", ENGINES, indirect=True)


@pytest.fixture
def engine(request) -> Iterator[Engine]:
    with running(getattr(request, "param", "mosquitto")) as started:
        yield started


@pytest.fixture
def board(engine, tmp_path) -> Iterator[BoardProcess]:
    with board_process(tmp_path / "state", engine.port) as started:
        yield started


def node_of(board: BoardProcess, name: str = "greenhouse") -> dict:  # type: ignore[type-arg]
    with board.client() as client:
        response = client.get(f"/api/v1/nodes/{name}")
        return response.json() if response.is_success else {}


def ask(board: BoardProcess, path: str, **query) -> dict:  # type: ignore[type-arg]
    with board.client() as client:
        return client.get(f"/api/v1/{path}", params=query).raise_for_status().json()


def retained(engine: Engine, topic_filter: str) -> set[str]:
    """Topics with something retained."""
    found: set[str] = set()
    link = Link(client_id="looker", endpoint=Endpoint("127.0.0.1", engine.port))
    link.start()
    link.wait_connected(30)

    def note(message: Message) -> None:
        found.add(message.topic)

    link.subscribe(topic_filter, note).ready.result(30)
    link.round_trip(10).result()
    link.stop()
    return found


@both
def test_a_node_that_comes_dies_and_leaves_is_seen_and_remembered(engine, board):
    with fake_node(engine.port):
        eventually(lambda: node_of(board).get("status") == "ready")
    eventually(lambda: node_of(board)["status"] == "disconnected")
    with fake_node(engine.port, epoch=2):
        eventually(lambda: node_of(board)["epoch"] == 2 and node_of(board)["status"] == "ready")
    eventually(lambda: node_of(board)["status"] == "disconnected")
    items = eventually(lambda: len(found := ask(board, "nodes/greenhouse/statuses")["items"]) == 4 and found)
    assert [(item["status"], item["epoch"]) for item in items] == [
        ("ready", 1),
        ("disconnected", 1),
        ("ready", 2),
        ("disconnected", 2),
    ]
    assert items == sorted(items, key=lambda item: item["t"])


def test_an_old_sessions_will_does_not_bury_a_live_node(engine, board):
    with fake_node(engine.port, epoch=5):
        eventually(lambda: node_of(board).get("status") == "ready")
        will = {"status": "lost", "epoch": 4, "t": 1.0, "instance": "old"}
        before = eventually(lambda: ask(board, "nodes/greenhouse/statuses")["items"])
        intruder = Link(client_id="intruder", endpoint=Endpoint("127.0.0.1", engine.port))
        intruder.start()
        intruder.publish("callboard/greenhouse/status", json.dumps(will).encode(), qos=1, retain=True).result(
            5
        )
        intruder.round_trip(5).result()
        intruder.stop()
        assert node_of(board)["status"] == "ready"
        assert ask(board, "nodes/greenhouse/statuses")["items"] == before


@pytest.mark.parametrize("shift", [DAY, -DAY])
def test_a_node_whose_clock_is_a_day_off_is_marked_and_its_readings_are_kept_at_the_right_time(
    engine, board, shift
):
    with fake_node(engine.port, shift=shift) as node:
        # A presence stamps its status with this machine's clock; say what a wrong one would.
        status = {"status": "ready", "epoch": 1, "t": time.time() + shift, "instance": node.presence.instance}
        node.link.publish(
            "callboard/greenhouse/status", json.dumps(status).encode(), qos=1, retain=True
        ).result(30)
        eventually(lambda: node_of(board).get("skewed"))
        assert node_of(board)["skew"] == pytest.approx(shift, abs=5)
        begun = time.time()
        node.say(1.0)
        node.send([(begun - 10, 2.0), (begun - 5, 3.0)])
        past = eventually(lambda: len((found := history(board)).get("t", [])) == 3 and found)
        assert past["mean"] == [2.0, 3.0, 1.0]
        assert past["t"] == pytest.approx([begun - 10, begun - 5, begun], abs=3)


def history(board: BoardProcess, thing: str = "greenhouse/sensor/temperature") -> dict:  # type: ignore[type-arg]
    with board.client() as client:
        return client.get(f"/api/v1/history/{thing}", params={"end": time.time() + 60}).json()


@both
def test_forgetting_clears_everything_retained_and_the_history_stays(engine, board):
    with fake_node(engine.port) as node, fake_node(engine.port, "attic"):
        node.say(21.0)
        node.link.publish("callboard/greenhouse/stream/camera/door", b"x", qos=1, retain=True).result(30)
        eventually(lambda: ask(board, "values", node="greenhouse")["items"])
        eventually(lambda: history(board).get("t"))
    eventually(lambda: node_of(board).get("status") == "disconnected")
    topics = retained(engine, "callboard/greenhouse/#")
    assert len(topics) == 6
    with board.client() as client:
        assert client.delete("/api/v1/nodes/greenhouse").json() == {"node": "greenhouse", "cleared": 6}
        assert retained(engine, "callboard/greenhouse/#") == set()
        eventually(lambda: client.get("/api/v1/nodes/greenhouse").status_code == 404)
        assert client.get("/api/v1/cards", params={"node": "greenhouse"}).json()["items"] == []
        eventually(lambda: not client.get("/api/v1/values", params={"node": "greenhouse"}).json()["items"])
        assert client.delete("/api/v1/nodes/greenhouse").status_code == 404
        assert client.get("/api/v1/nodes/attic").is_success
    assert history(board)["mean"] == [21.0]
    board.kill()
    board.start()
    assert node_of(board) == {}


def test_any_client_can_have_a_node_forgotten_over_mqtt(engine, board):
    with fake_node(engine.port):
        eventually(lambda: node_of(board))
    eventually(lambda: node_of(board)["status"] == "disconnected")
    with board.client() as client:
        url = "/api/v1/nodes/board/worker/forget/call"
        assert client.post(url, json={"args": {"node": "greenhouse"}}).json()["result"]["cleared"] == 4
        answer = client.post(url, json={"args": {"nod": "greenhouse"}}).json()
        assert answer["error"]["code"] == "bad_request"
        assert "nod" in answer["error"]["message"]
        answer = client.post(url, json={"args": {"node": "board"}}).json()
        assert answer["error"]["code"] == "conflict"


def test_the_history_worker_answers_like_http(engine, board):
    with fake_node(engine.port) as node:
        node.say(3.5)
        eventually(lambda: history(board).get("t"))
        with board.client() as client:
            args = {"node": "greenhouse", "kind": "sensor", "name": "temperature", "points": 10}
            answer = client.post("/api/v1/nodes/board/worker/history/call", json={"args": args}).json()
    assert answer["result"]["mean"] == [3.5]
    assert answer["result"]["unit"] == "°C"


def test_a_node_that_has_been_gone_for_long_is_offered_to_be_forgotten(engine, tmp_path):
    options = {"registry": {"forget_after_days": 1 / DAY}}
    with board_process(tmp_path / "state", engine.port, **options) as board:
        with fake_node(engine.port):
            eventually(lambda: node_of(board).get("status") == "ready")
            since = node_of(board)["since"]
            # Longer than the setting: a live node is never offered.
            eventually(lambda: time.time() > since + 1.2)
            assert not node_of(board)["forgettable"]
        eventually(lambda: node_of(board)["forgettable"])


def test_a_node_that_the_broker_lost_is_gone_after_a_new_start(engine, board):
    with fake_node(engine.port):
        eventually(lambda: node_of(board).get("status") == "ready")
    eventually(lambda: node_of(board)["status"] == "disconnected")
    board.stop()
    with fake_node(engine.port, "cleaner") as cleaner:
        for topic in retained(engine, "callboard/greenhouse/#"):
            cleaner.link.publish(topic, b"", qos=1, retain=True).result(30)
    board.start()
    eventually(lambda: not node_of(board))


@both
def test_without_a_broker_the_last_known_nodes_are_shown(engine, board):
    with fake_node(engine.port):
        eventually(lambda: node_of(board).get("things") == 2)
        assert ask(board, "refused")["count"] == 0
    eventually(lambda: node_of(board)["status"] == "disconnected")
    board.stop()
    engine.stop()
    board.start()
    found = node_of(board)
    assert (found["status"], found["label"]) == ("disconnected", "Greenhouse")
    with board.client() as client:
        health = client.get("/healthz")
        assert health.status_code == 503
        assert "not connected to the broker" in health.json()["reasons"][0]
        assert client.delete("/api/v1/nodes/greenhouse").json()["error"]["code"] == "unavailable"
    engine.start()
    eventually(lambda: board_is_well(board))


def board_is_well(board: BoardProcess) -> bool:
    with board.client() as client:
        return client.get("/healthz").status_code == 200


def test_what_was_refused_is_remembered(engine, board):
    with fake_node(engine.port) as node:
        for number in range(120):
            node.link.publish(f"callboard/greenhouse/state/sensor/s{number}", b"{", qos=1)
        # States and cards come over two connections; only the last hundred of both are kept.
        eventually(lambda: ask(board, "refused")["count"] == 120)
        node.link.publish(
            "callboard/greenhouse/announce/sensor/big", b'{"x": "' + b"y" * 900_000 + b'"}', qos=1
        )
        node.link.publish("callboard/greenhouse/event/alarm", b"no json", qos=1)
        eventually(lambda: ask(board, "refused")["count"] == 122)
    board.stop()
    board.start()
    body = ask(board, "refused")
    assert body["count"] == 122
    assert len(body["items"]) == 100
    assert any("over the limit" in item["reason"] and item["size"] > 900_000 for item in body["items"])


@both
def test_a_retained_command_is_refused_counted_and_cleared(engine, board):
    with fake_node(engine.port) as node:
        eventually(lambda: node_of(board))
        call = b'{"id": "1", "args": {}}'
        other = Link(client_id="careless", endpoint=Endpoint("127.0.0.1", engine.port))
        other.start()
        # Retained only for who subscribes later: the node has to come again to see it.
        other.publish("callboard/greenhouse/command/action/open-vent", call, qos=1, retain=True).result(30)
        other.stop()
        assert node.id
    with fake_node(engine.port, epoch=2):
        items = eventually(lambda: ask(board, "refused")["items"])
    assert items[0]["topic"] == "callboard/greenhouse/command/action/open-vent"
    assert "retained" in items[0]["reason"]
    assert retained(engine, "callboard/greenhouse/command/#") == set()


@both
def test_ten_thousand_cards_are_there_soon_after_the_start(engine, tmp_path):
    """In the directory and, a little later, in the database."""
    link = Link(client_id="planter", endpoint=Endpoint("127.0.0.1", engine.port), outbox_limit=20_000)
    link.start()
    link.wait_connected(30)
    waits = []
    for number in range(10_000):
        node, name = f"node-{number // 100}", f"s{number % 100}"
        card = {"kind": "sensor", "name": name, "epoch": 1, "unit": "°C"}
        topic = f"callboard/{node}/announce/sensor/{name}"
        waits.append(link.publish(topic, json.dumps(card).encode(), qos=1, retain=True))
    for wait in waits:
        wait.result(30)
    link.stop()
    with board_process(tmp_path / "state", engine.port) as board:
        eventually(lambda: len(ask(board, "cards", kind="sensor")["items"]) == 10_000)
        assert len(ask(board, "nodes")["items"]) == 101
        eventually(lambda: board.metrics()["database_jobs_waiting"] == 0)
        board.kill()
        board.start()
        eventually(lambda: len(ask(board, "cards", kind="sensor")["items"]) == 10_000)
        assert board.metrics()["refused_messages_total"] == 0
