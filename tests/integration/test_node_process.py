"""A node as a process: how it ends, how it is lost, and what it says when it cannot run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from callboard import Node
from callboard_core.errors import Conflict, Unauthorized, Unavailable
from callboard_core.runtime import Http, Mqtt, Runtime, hold_state, write_runtime
from callboard_core.settings import Settings
from support.mosquitto import Mosquitto, mosquitto
from support.nodes import Observer, node_settings, observer
from support.timing import Stopwatch

__all__ = ["mosquitto", "observer"]

SCRIPT = """
from callboard import Node
node = Node("shed")

@node.sensor(every=0.1)
def level() -> float:
    return 1.0

node.run()
"""


@pytest.fixture
def start(tmp_path):
    """Start a script of a node, with the board in the environment; kill what is left of it."""
    children = []

    def run(script=SCRIPT, state="state", **environment):
        file = tmp_path / f"node-{len(children)}.py"
        file.write_text(script)
        variables = {
            "CALLBOARD_STATE": str(tmp_path / state),
            "XDG_CONFIG_HOME": str(tmp_path),
            **environment,
        }
        clean = {key: value for key, value in os.environ.items() if not key.startswith("CALLBOARD")}
        child = subprocess.Popen(
            [sys.executable, str(file)], stderr=subprocess.PIPE, text=True, env={**clean, **variables}
        )
        children.append(child)
        return child

    yield run
    for child in children:
        child.kill()
        child.wait()
        child.stderr.close()


def board(mosquitto):
    return {"CALLBOARD_NODE_BOARD": str(mosquitto.endpoint)}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_node_cleanly_and_at_once(start, mosquitto, observer, number):
    child = start(**board(mosquitto))
    observer.wait("state/sensor/level")
    began = Stopwatch()
    child.send_signal(number)
    assert child.wait(30) == 0
    assert began.within(2), began
    assert observer.of("shed/status")[-1]["status"] == "disconnected"


def test_a_signal_ends_a_node_that_has_found_no_board(start, mosquitto):
    mosquitto.kill()
    child = start(**board(mosquitto))
    for line in child.stderr:
        if "still trying" in line:
            break
    child.send_signal(signal.SIGTERM)
    assert child.wait(30) == 0


def test_a_killed_node_is_lost_and_comes_back_with_a_higher_epoch(start, mosquitto, observer):
    child = start(**board(mosquitto))
    first = observer.wait("shed/status", lambda status: status["status"] == "ready")
    child.kill()
    # The broker says so when the socket closes: long before 1.5 keep-alives (15 s) are over.
    observer.wait("shed/status", lambda status: status["status"] == "lost", 5)
    start(**board(mosquitto))
    later = observer.wait("shed/status", lambda status: status["epoch"] > first["epoch"])
    assert later["status"] == "ready"


def test_a_second_node_of_the_same_id_is_told_and_the_first_is_not_disturbed(start, mosquitto, observer):
    start(**board(mosquitto))
    observer.wait("shed/status", lambda status: status["status"] == "ready")
    observer.forget()
    second = start(state="elsewhere", **board(mosquitto))
    assert second.wait(30) == 1
    (line,) = [line for line in second.stderr.read().splitlines() if line.startswith("shed: ")]
    assert "already runs on host" in line
    assert "Traceback" not in line
    observer.wait("state/sensor/level")
    assert observer.of("shed/status") == []


def test_a_second_node_on_the_same_state_folder_is_told_which_process_holds_it(start, mosquitto, observer):
    first = start(**board(mosquitto))
    observer.wait("state/sensor/level")
    second = start(**board(mosquitto))
    assert second.wait(30) == 1
    assert f"already runs on this machine (pid {first.pid}" in second.stderr.read()


def test_a_wrong_password_ends_the_node_with_one_line(start, tmp_path):
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(passwords), "node", "right"], check=True)
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = Mosquitto(folder, extra=f"password_file {passwords}\n", anonymous=False)
    broker.start()
    try:
        child = start(CALLBOARD_NODE_PASSWORD="wrong", **board(broker))
        assert child.wait(30) == 1
        last = child.stderr.read().splitlines()[-1]
        assert last.startswith("shed: ")
        assert "password" in last
        settings = node_settings(tmp_path / "other", broker.endpoint, password="wrong")
        with pytest.raises(Unauthorized):
            Node("other", settings=settings).start()
        right = Node(
            "other", board=str(broker.endpoint), username="node", password="right", state_dir=tmp_path / "r"
        )
        with right:
            assert right.connected
    finally:
        broker.kill()


@pytest.mark.parametrize("wrong", ["Green House", "shed/1", "shed#", "", "board", "x" * 64])
def test_a_bad_id_is_named_at_once(wrong):
    with pytest.raises(Exception, match="node id"):
        Node(wrong)


def test_a_state_folder_that_cannot_be_used_is_named(tmp_path, mosquitto):
    (tmp_path / "file").write_text("")
    node = Node("shed", board=str(mosquitto.endpoint), state_dir=tmp_path / "file" / "state")
    with pytest.raises(Exception, match=r"state folder .*/file/state of node 'shed' cannot be used"):
        node.start()


def test_a_board_on_this_machine_is_found_by_its_state_folder(tmp_path, mosquitto):
    state = tmp_path / "state"
    state.mkdir()
    node = Node("shed", settings=node_settings(tmp_path, None, allow=[]))
    with hold_state(state):
        where = Mqtt(host="127.0.0.1", port=mosquitto.port, url=str(mosquitto.endpoint))
        told = Runtime(
            site="callboard",
            version="1",
            pid=os.getpid(),
            started=time.time(),
            ready=True,
            engine="mosquitto",
            mqtt=where,
            http=Http(url="http://127.0.0.1:1"),
            pids={},
            roles={},
            credentials={},
        )
        write_runtime(state, told)
        with node:
            assert node.connected


def test_a_node_that_finds_no_board_says_what_to_do(tmp_path):
    settings = Settings(state=tmp_path / "state", discovery={"enabled": False})
    with pytest.raises(Unavailable, match=r"discovery is off; give its address \(--board mqtt://host:1883\)"):
        Node("shed", settings=settings).start(timeout=2)


def test_the_first_of_two_nodes_in_one_process_keeps_the_id(tmp_path, mosquitto):
    observer = Observer(mosquitto.endpoint)
    first = Node("shed", board=str(mosquitto.endpoint), state_dir=tmp_path / "1")
    second = Node("shed", board=str(mosquitto.endpoint), state_dir=tmp_path / "2")
    with first:
        with pytest.raises(Conflict, match="already runs on host"):
            second.start()
        assert first.connected
    observer.close()


def test_importing_the_public_api_loads_nothing(tmp_path):
    code = "import callboard, sys; print(sum(name.startswith(('callboard_', 'pydantic', 'paho')) for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
    names = subprocess.run(
        [sys.executable, "-c", "import callboard; [getattr(callboard, name) for name in dir(callboard)]"],
        check=True,
        cwd=Path(__file__).parent,
    )
    assert names.returncode == 0


FULL = """
import resource, time
from callboard import Node
node = Node("shed")
count = iter(range(10_000))

@node.sensor(every=0.1)
def level():
    value = next(count)
    if value == WHEN:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # from now on every write to a file fails
    return value

@node.control
def dial(value):
    pass

if WHEN < 0:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
node.run()
"""


def test_a_disk_that_fills_up_does_not_stop_a_node(start, mosquitto, observer):
    child = start(FULL.replace("WHEN", "5"), **board(mosquitto))
    observer.wait("state/sensor/level", lambda state: state["v"] > 20)
    assert observer.call("shed", "control", "dial", value=3) == {"value": 3}
    child.send_signal(signal.SIGTERM)
    assert child.wait(30) == 0
    found = sorted(observer.readings("shed", "level").values())
    assert found == list(range(len(found)))
    assert "free some space" in child.stderr.read()


def test_a_node_that_cannot_write_at_its_start_says_so(start, mosquitto):
    child = start(FULL.replace("WHEN", "-1"), **board(mosquitto))
    assert child.wait(30) == 1
    last = child.stderr.read().splitlines()[-1]
    assert last.startswith("shed: the state folder ")
    assert "cannot be used" in last


def test_the_environment_says_where_the_state_is(start, mosquitto, observer, tmp_path):
    start(CALLBOARD_NODE_STATE=str(tmp_path / "chosen"), **board(mosquitto))
    observer.wait("shed/status", lambda status: status["status"] == "ready")
    assert (tmp_path / "chosen" / "epoch").exists()
