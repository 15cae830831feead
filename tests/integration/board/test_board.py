"""The board as a process: starting, being killed, starting again, and everything that can be in its way."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.boards import BoardProcess, board_process, eventually
from support.engines import Engine, Options, running
from support.fakenode import fake_node
from support.users import password

#: Kills of the board in the test that kills it again and again.
KILLS = 50 if os.environ.get("CALLBOARD_LONG") == "1" else 5


@pytest.fixture(scope="module")
def mosquitto() -> Iterator[Engine]:
    with running("mosquitto") as started:
        yield started


@pytest.fixture
def board(mosquitto, tmp_path) -> Iterator[BoardProcess]:
    with board_process(tmp_path / "state", mosquitto.port) as started:
        yield started


def stored(board: BoardProcess) -> list[float]:
    with sqlite3.connect(f"file:{board.state}/board.db?mode=ro", uri=True) as database:
        rows = database.execute("SELECT t / 1e6 FROM readings ORDER BY t").fetchall()
    database.close()
    return [row[0] for row in rows]


def healthy(board: BoardProcess) -> bool:
    with board.client() as client:
        return client.get("/healthz").status_code == 200


@pytest.mark.timeout(1800)
def test_what_was_written_survives_kill_and_the_next_start_is_clean(mosquitto, board):
    """Again and again: readings flow, the board is killed at a random moment, nothing that was written is missing."""
    sent = 0
    start = time.time() - 3600
    with fake_node(mosquitto.port) as node:
        for round_number in range(KILLS):
            for _ in range(20):
                node.send([(start + number / 100, float(number)) for number in range(sent, sent + 50)])
                sent += 50
            if round_number % 2:
                newest = start + (sent - 1) / 100
                eventually(lambda: max(stored(board), default=0) > newest - 0.001)  # noqa: B023 - used at once
            before = stored(board)
            board.kill()
            board.start()
            assert healthy(board)
            assert set(before) <= set(stored(board))
            assert "Traceback" not in board.log
        node.send(
            [(start + number / 100, float(number)) for number in range(sent)]
        )  # what an outbox would do
        eventually(lambda: len(stored(board)) == sent)
    with board.client() as client:
        assert client.get("/api/v1/nodes/board").json()["epoch"] == KILLS + 1


def test_retained_values_are_not_stored_twice(mosquitto, board):
    with fake_node(mosquitto.port, "quiet") as node:
        node.say(5.0)
        eventually(lambda: len(stored(board)) == 1)
        for _ in range(2):
            board.kill()
            board.start()
        node.say(6.0)
        eventually(lambda: len(stored(board)) == 2)
        metrics = board.metrics()
        assert metrics["history_readings_duplicate_total"] == 1
        assert metrics["history_readings_written_total"] == 1


def test_the_broker_can_be_killed_and_everything_comes_back(tmp_path):
    with (
        running("mosquitto") as engine,
        board_process(tmp_path / "state", engine.port) as board,
        fake_node(engine.port) as node,
    ):
        node.say(1.0)
        eventually(lambda: len(stored(board)) == 1)
        engine.kill()
        eventually(lambda: not healthy(board))
        engine.start()
        eventually(lambda: healthy(board))
        node.link.wait_connected(20)
        node.say(2.0)
        eventually(lambda: len(stored(board)) == 2)
        with board.client() as client:
            eventually(lambda: client.get("/api/v1/nodes/greenhouse").json().get("status") == "ready")
            assert client.get("/api/v1/nodes/board").json()["status"] == "ready"


def test_a_port_that_is_taken_says_by_whom(mosquitto, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        board = BoardProcess(tmp_path / "state", mosquitto.port, http={"port": port})
        with pytest.raises(RuntimeError, match=rf"port {port} \(http\) is taken by .+ \(pid \d+\)"):
            board.start()
        assert "--http-port" in board.log


def test_an_address_that_is_not_ours_says_so(mosquitto, tmp_path):
    board = BoardProcess(tmp_path / "state", mosquitto.port, http={"bind": "192.0.2.1", "port": 0})
    with pytest.raises(RuntimeError, match=r"192\.0\.2\.1 is no address of this machine"):
        board.start()


def test_a_database_that_cannot_be_opened_says_so(mosquitto, tmp_path):
    (tmp_path / "file").write_text("")
    board = BoardProcess(tmp_path / "state", mosquitto.port, database=f"sqlite:///{tmp_path}/file/board.db")
    with pytest.raises(RuntimeError, match="cannot open the database"):
        board.start()


def test_a_state_folder_that_cannot_be_written_says_so(mosquitto, tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    (state / "board").write_text("in the way")
    board = BoardProcess(state, mosquitto.port)
    with pytest.raises(RuntimeError, match=r"cannot write .+/board/epoch"):
        board.start()


def test_a_second_board_is_told_and_the_first_is_not_disturbed(mosquitto, board, tmp_path):
    second = BoardProcess(tmp_path / "second", mosquitto.port)
    with pytest.raises(RuntimeError, match="Conflict"):
        second.start()
    assert healthy(board)
    assert "already runs on host" in second.log
    assert "connection lost" not in board.log


def test_a_wrong_credential_is_told(tmp_path):
    with running("mosquitto", options=Options(access=True)) as engine:
        board = BoardProcess(tmp_path / "state", engine.port, credential=("board", "wrong"))
        with pytest.raises(RuntimeError, match="Unauthorized"):
            board.start()


@pytest.mark.parametrize("name", ["mosquitto", "embedded"])
def test_the_boards_own_role_is_all_it_needs(tmp_path, name):
    with running(name, options=Options(access=True)) as engine:
        credential = ("board", password("board"))
        with board_process(tmp_path / "state", engine.port, credential=credential) as board:
            assert healthy(board)
            with board.client() as client:
                assert client.post("/api/v1/nodes/board/action/ping/call").json()["result"]["epoch"] == 1
                assert client.get("/api/v1/refused").json()["count"] == 0


def test_it_stops_at_once_although_somebody_listens_and_the_database_is_locked(mosquitto, board):
    with board.client() as client, client.stream("GET", "/api/v1/events") as stream:
        lines = stream.iter_lines()
        next(lines)
        other = sqlite3.connect(board.state / "board.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with fake_node(mosquitto.port, "late") as node:
            node.say(1.0)
        took = board.stop()
        assert took.within(5), took
        other.close()
    assert "readings are lost" in board.log
    board.start()


def test_it_works_on_postgresql_and_goes_on_while_that_is_frozen(mosquitto, postgres, tmp_path):
    with (
        board_process(tmp_path / "state", mosquitto.port, database=postgres.new_database()) as board,
        fake_node(mosquitto.port, "pg") as node,
    ):
        node.say(1.0)
        eventually(lambda: board.metrics()["history_readings_written_total"] >= 1)
        postgres.freeze()
        try:
            node.say(2.0)
            with board.client() as client:
                reasons = eventually(lambda: client.get("/healthz").json()["reasons"])
                assert "the database has taken nothing for" in reasons[0]
                values = client.get("/api/v1/values", params={"node": "pg"}).json()["items"]
                assert values[0]["v"] == 2.0
                refusal = client.get("/api/v1/history/pg/sensor/temperature")
                assert refusal.json()["error"]["code"] == "unavailable"
        finally:
            postgres.thaw()
        eventually(lambda: healthy(board))
        with board.client() as client:
            url = "/api/v1/history/pg/sensor/temperature"
            assert eventually(lambda: client.get(url).json().get("mean")) == [1.0, 2.0]


def test_the_state_folder_keeps_nothing_for_others_to_read(board):
    assert (board.state / "board.db").stat().st_mode & 0o077 == 0
    with sqlite3.connect(f"file:{board.state}/board.db?mode=ro", uri=True) as database:
        for name, sql in database.execute("SELECT name, sql FROM sqlite_master"):
            assert "password" not in f"{name} {sql}"
    database.close()


def test_a_stopped_board_says_goodbye(mosquitto, tmp_path):
    with board_process(tmp_path / "first", mosquitto.port) as board:
        board.signal(signal.SIGTERM)
        assert board.wait(30) == 0
    assert Path(board.state / "board" / "epoch").read_text() == "1\n"
    with board_process(tmp_path / "first", mosquitto.port) as board, board.client() as client:
        wanted = [("ready", 1), ("disconnected", 1), ("ready", 2)]

        def last_three() -> list[tuple[str, int]]:
            items = client.get("/api/v1/nodes/board/statuses").json()["items"]
            return [(item["status"], item["epoch"]) for item in items[-3:]]

        eventually(lambda: last_three() == wanted)
