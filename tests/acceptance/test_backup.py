"""A board is lost and made again from its backup: in another folder, while its nodes wait."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from callboard_broker.access import Role, Users, users_file
from callboard_core.processes import free_port
from support.up import OwnNode, Up, eventually, prepare_board, running_board

SLOTS = {"CALLBOARD_NODE_FARM_SLOTS": "simulated=2", "CALLBOARD_FARM_STATE_SECONDS": "0.1"}
LEVEL = """
from callboard import Node

node = Node("tank", keepalive=2)

@node.sensor(every=0.05)
def level():
    return 5

node.run()
"""
LETTERS = "letters/ann"


def submit(up: Up, name: str, *more: str) -> str:
    sets = ("--set", "engine=simulated", "--set", 'args={"seconds": 0.02, "image": true}')
    words = ("submit", "--frames", "1-4", "--name", name, *sets, *more)
    return str(up.json("job", *words)["job"])


def jobs(up: Up) -> list[dict[str, Any]]:
    told = ("job", "name", "state", "frames", "priority")
    return [{key: one[key] for key in told} for one in up.json("job", "ls")["items"]]


def finished(known: list[dict[str, Any]]) -> str:
    return str(next(one["job"] for one in known if one["state"] == "done"))


def history(up: Up, thing: str) -> list[float]:
    try:
        return list(
            up.get(f"/api/v1/history/{thing}?start={time.time() - 300}&end={time.time() + 60}&points=10000")[
                "t"
            ]
        )
    except urllib.error.HTTPError as error:
        if error.code != 404:  # the first reading is not stored yet
            raise
        return []


@contextmanager
def subscriber(up: Up) -> Iterator[queue.Queue[bytes]]:
    """A client whose session outlives its connection."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, "ann", clean_session=False)
    client.username_pw_set("admin", up.password("admin"))
    heard: queue.Queue[bytes] = queue.Queue()
    subscribed: queue.Queue[None] = queue.Queue()
    client.on_message = lambda _client, _data, message: heard.put(message.payload)
    client.on_subscribe = lambda *_: subscribed.put(None)
    client.on_connect = lambda *_: client.subscribe(LETTERS, qos=1)
    client.connect(up.runtime.mqtt.host, up.runtime.mqtt.port)
    client.loop_start()
    try:
        subscribed.get(timeout=20)
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


@contextmanager
def tank(up: Up, folder: Path) -> Iterator[OwnNode]:
    """A node that might be on another machine: with a folder of its own, and the board's address."""
    node = OwnNode(up, "tank", LEVEL, state=folder)
    (folder / "credentials").mkdir(parents=True)
    (folder / "credentials" / "node.password").write_text(up.password("node"))
    node.start("--board", up.runtime.mqtt.url)
    try:
        eventually(lambda: up.nodes().get("tank") == "ready", lambda: f"the node\n{node.log.read_text()}")
        yield node
    finally:
        node.stop()


def destroy(up: Up) -> None:
    """As if the machine had burnt: everything at once."""
    os.killpg(up.pid, signal.SIGKILL)
    assert up.process is not None
    up.process.wait(20)
    up.assert_nothing_left()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ["embedded", "mosquitto"])
def test_a_board_that_is_lost_comes_back_from_its_backup_with_everything_it_had(tmp_path: Path, engine: str):
    file, port = tmp_path / "board.zip", str(free_port("127.0.0.1"))
    (tmp_path / "a").mkdir()
    with running_board(tmp_path / "a", "--mqtt-port", port, engine=engine, env=SLOTS) as old:
        Users(users_file(old.state)).put("ann", Role.OPERATOR, "correct horse")
        with tank(old, tmp_path / "elsewhere") as node:
            with subscriber(old):
                pass
            with old.link() as link:
                link.publish("notes/keep", b"kept", qos=1, retain=True).result(20)
                link.publish(LETTERS, b"while you were away", qos=1).result(20)
            submit(old, "done")
            eventually(lambda: jobs(old)[0]["state"] == "done", "the job is done")
            submit(old, "waiting", "--hold")
            eventually(lambda: len(history(old, "tank/sensor/level")) > 50, "readings")
            if (
                engine == "mosquitto"
            ):  # its directory is saved at once, sessions are when they change enough or it ends
                save_mosquitto(old)
            told = json.loads(old.cli("backup", str(file), "--json").stdout)
            before, known = history(old, "tank/sensor/level"), jobs(old)
            assert told["site"] == "callboard"
            destroy(old)
            new = prepare_board(tmp_path / "b", "--mqtt-port", port, engine=engine, env=SLOTS)
            (tmp_path / "b").mkdir()
            restored = json.loads(new.cli("restore", str(file), "--json").stdout)
            new.flags += ("--config", restored["settings"])
            try:
                new.start().wait_ready()
                check(new, node, before, known)
            finally:
                new.stop()
                new.assert_nothing_left()


def save_mosquitto(up: Up) -> None:
    store = up.state / "mosquitto" / "retained.db"
    pid = up.runtime.pids["broker"]
    [mosquitto] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(int(mosquitto), signal.SIGUSR1)
    eventually(lambda: store.exists() and b"while you were away" in store.read_bytes(), "saved")


def check(new: Up, node: OwnNode, before: list[float], known: list[dict[str, Any]]) -> None:
    assert node.process is not None
    eventually(lambda: new.nodes().get("tank") == "ready", lambda: f"it is back\n{node.log.read_text()}")
    assert node.process.poll() is None, "the same process, which was told nothing"
    assert new.nodes()["here"] == "ready"
    kept = [t for t in before if t in set(history(new, "tank/sensor/level"))]
    # What came after the backup the node sends again, as far as it had not been acknowledged for long.
    assert len(kept) > 50
    eventually(lambda: max(history(new, "tank/sensor/level")) > max(before), "readings go on")
    assert jobs(new) == known
    frame = new.cli("job", "download", finished(known), "--to", str(new.state.parent / "frames"))
    assert frame.returncode == 0
    found = Users(users_file(new.state)).verify("ann", "correct horse")
    assert found is not None
    with new.link() as link:
        heard: queue.Queue[bytes] = queue.Queue()
        link.subscribe("notes/keep", lambda message: heard.put(message.payload))
        assert heard.get(timeout=20) == b"kept"
    with subscriber(new) as letters:
        assert letters.get(timeout=20) == b"while you were away"


def test_a_folder_with_a_board_is_not_restored_over_and_a_running_one_never(tmp_path: Path):
    file = tmp_path / "board.zip"
    with running_board(tmp_path, node=False) as up:
        up.cli("backup", str(file))
        refused = up.cli("restore", str(file), "--yes", check=False)
        assert_one_line(refused, "already runs")
    assert_one_line(up.cli("restore", str(file), check=False), "not empty", "--state", "--yes")
    assert "before-restore-" in up.cli("restore", str(file), "--yes").stderr
    assert_one_line(up.cli("backup", str(file), check=False), "--yes")


def assert_one_line(done: subprocess.CompletedProcess[str], *said: str) -> None:
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    for words in said:
        assert words in done.stderr
