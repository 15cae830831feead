"""Services called by name from a shell and from plain MQTT clients, on a whole board."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import callboard
from support.up import CALLBOARD, OwnNode, Up, eventually, running_board

NODE = '''
import threading, time
from callboard import Node

node = Node("studio")

@node.worker(idempotent=True)
def texture(x: int, y: int, name: str = ""):
    """A table."""
    return [[row * column for column in range(x)] for row in range(y)]

@node.worker(service="who:one")
def one():
    return "one"

@node.worker(service="who:two")
def two(fail: bool = False):
    if fail:
        raise LookupError("two is lost")
    return "two"

@node.worker(traceback=True)
def fall():
    raise LookupError("down")

@node.worker
def picture():
    return bytes(range(256))

@node.worker
def large():
    return "x" * 3_000_000

cancelled = 0

@node.worker(timeout=60, concurrency=4)
def slow(request):
    global cancelled
    request.progress(0.1)
    if request.cancelled.wait(30):
        cancelled += 1

@node.worker
def nap(request):
    request.progress(0.5)
    time.sleep(1.2)
    return "rested"

@node.worker(run="process")
def square(n: int):
    return n * n

@node.worker
def how_many_cancelled():
    return cancelled

node.run()
'''


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running_board(tmp_path_factory.mktemp("board"), node=False) as up, OwnNode(up, "studio", NODE):
        eventually(lambda: "ready" in up.nodes().get("studio", ""), "the node is there")
        yield up


def test_a_function_of_the_nodes_own_program_runs_in_a_process(board: Up) -> None:
    assert board.cli("call", "square", "n=12").stdout == "144\n"


def test_a_service_is_called_by_its_name(board: Up) -> None:
    assert board.json("call", "texture", "x=2", "y=2", "name=7") == [[0, 0], [0, 1]]
    assert board.cli("call", "who:one").stdout == "one\n"
    assert board.cli("call", "who:*").stdout in {"one\n", "two\n"}
    assert len(board.json("call", "large")) == 3_000_000


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["texture", "x=2"], "y: missing", 2),
        (["texture", "x=2", "y=two"], "y: expected a whole number, got 'two'", 2),
        (["texture", "x=2", "y=2", "z=1"], "z: unknown; known are x, y, name", 2),
        (["textur", "x=2", "y=2"], "did you mean texture?", 1),
        (["who:two", "fail=yes"], "LookupError: two is lost", 1),
        (["slow", "--timeout", "0.3"], "0.3 s", 1),
        (["studio/texture", "x=a", "y=1"], "x: expected a whole number", 2),
        (["studio/texture", "--all"], "--all", 2),
    ],
)
def test_what_cannot_be_called_is_one_line_that_says_why(
    board: Up, arguments: list[str], said: str, code: int
) -> None:
    done = board.cli("call", *arguments, check=False)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.returncode == code


def test_where_a_function_raised_is_shown_if_the_worker_allows_it(board: Up) -> None:
    done = board.cli("call", "fall", check=False)
    assert done.returncode == 1
    *trace, last = done.stderr.splitlines()
    assert last == "callboard: LookupError: down"
    assert trace[0].startswith("Traceback")
    assert any("in fall" in line for line in trace)


def test_everybody_is_called_with_all(board: Up) -> None:
    found = board.json("call", "who:*", "--all")
    assert [(one["node"], one["service"], one["result"]) for one in found] == [
        ("studio", "who:one", "one"),
        ("studio", "who:two", "two"),
    ]
    done = board.cli("call", "who:two", "--all", "fail=true", check=False)
    assert "LookupError" in done.stdout
    assert done.returncode == 1


def test_ctrl_c_cancels_the_call(board: Up) -> None:
    before = board.json("call", "how-many-cancelled")
    command = [*CALLBOARD, "call", "--state", str(board.state), "slow"]
    listen = ["mosquitto_sub", *login(board, "viewer"), "-t", "callboard/+/reply"]
    with (
        subprocess.Popen(listen, stdout=subprocess.PIPE, text=True) as replies,
        subprocess.Popen(command, env=board.env, stderr=subprocess.PIPE, text=True) as process,
    ):
        try:
            assert replies.stdout is not None
            assert any("progress" in line for line in replies.stdout)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
        finally:
            process.kill()
            replies.kill()
    assert "Traceback" not in err
    assert process.returncode == 1
    eventually(lambda: board.json("call", "how-many-cancelled") == before + 1, "it was cancelled")


# --- plain MQTT clients


RESPONSE = "callboard/me/reply"
WORKER = "callboard/studio/command/worker/texture"


def test_an_mqtt_5_client_asks_with_a_response_topic(board: Up) -> None:
    ask = ["mosquitto_rr", *login(board, "operator"), "-V", "mqttv5", "-W", "10", "-e", RESPONSE]
    correlated = ["-D", "publish", "correlation-data", "a ä", "-F", "%D %p"]
    done = subprocess.run(
        [*ask, "-t", WORKER, "-m", '{"args": {"x": 2, "y": 2}}', *correlated],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    correlation, _, answer = done.stdout.rpartition(" {")
    assert correlation == "a ä"
    assert json.loads("{" + answer)["result"] == [[0, 0], [0, 1]]
    refused = run(*ask, "-t", WORKER, "-m", '{"args": {"x": "two"}}')
    assert (refused["ok"], refused["error"]["code"]) == (False, "bad_request")
    board_worker = "callboard/board/command/worker/call"
    through = run(*ask, "-t", board_worker, "-m", '{"args": {"service": "who:one"}}')
    assert through["result"] == "one"
    slow = run(*ask, "-t", "callboard/studio/command/worker/nap", "-m", "{}")
    assert slow["result"] == "rested", "the one answer, and not that it is worked on"


def test_an_mqtt_3_client_asks_with_its_reply_topic_in_the_payload(board: Up) -> None:
    call = {"id": "one", "reply_to": RESPONSE, "args": {"x": 2, "y": 2}}
    ask = ["mosquitto_rr", *login(board, "operator"), "-V", "mqttv311", "-W", "10", "-e", RESPONSE]
    answer = run(*ask, "-t", WORKER, "-m", json.dumps(call))
    assert answer == {"id": "one", "ok": True, "result": [[0, 0], [0, 1]]}


def test_publishing_and_subscribing_apart_does_as_well(board: Up) -> None:
    listen = [
        "stdbuf",
        "-oL",
        "mosquitto_sub",
        *login(board, "operator"),
        "-d",
        "-C",
        "1",
        "-W",
        "10",
        "-t",
        RESPONSE,
    ]
    with subprocess.Popen(listen, stdout=subprocess.PIPE, text=True) as listening:
        assert listening.stdout is not None
        assert any("SUBACK" in line for line in listening.stdout)
        call = {"id": "two", "reply_to": RESPONSE, "args": {"x": 1, "y": 1}}
        publish = ["mosquitto_pub", *login(board, "operator"), "-q", "1", "-t", WORKER]
        subprocess.run([*publish, "-m", json.dumps(call)], check=True, timeout=20)
        answers = [line for line in listening.stdout if line.startswith("{")]
    assert json.loads(answers[0])["result"] == [[0]]


def login(board: Up, user: str) -> list[str]:
    mqtt = board.runtime.mqtt
    return ["-h", mqtt.host, "-p", str(mqtt.port), "-u", user, "-P", board.password(user)]


def run(*command: str) -> Any:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    return json.loads(done.stdout)


def test_it_is_told_who_offers_what_how_busy_it_is_and_who_calls_whom(board: Up) -> None:
    url = f"127.0.0.1:{board.runtime.mqtt.port}"
    done = threading.Event()
    with callboard.connect(
        url, username="operator", password=board.password("operator"), client_id="caller"
    ) as client:
        pool = client.pool("texture")
        pool.wait_ready(10)

        def keep_calling() -> None:
            while not done.wait(0.1):
                pool.call(x=2, y=2)

        calling = threading.Thread(target=keep_calling)
        calling.start()
        try:
            seen = eventually(lambda: with_texture_called(board), "the next heartbeat tells who calls")
            rows = board.json("ls", "workers", "--node", "studio")
        finally:
            done.set()
            calling.join()
    [studio] = [
        node
        for host in seen["hosts"]
        for process in host["processes"]
        for node in process["nodes"]
        if node["node"] == "studio" and process["pid"]
    ]
    assert {one["service"] for one in studio["services"]} >= {"texture", "who:one", "who:two"}
    # Whoever called in the last seconds is there too.
    calling = {(one["caller"], one["node"]) for one in seen["sessions"] if one["service"] == "texture"}
    assert ("caller", "studio") in calling
    [texture] = [row for row in rows if row["service"] == "texture"]
    assert (texture["state"], texture["node"]) == ("ready", "studio")
    assert texture["done"] > 0
    assert texture["p50"] > 0


def with_texture_called(board: Up) -> Any:
    """The network with its sessions, once somebody calls textures."""
    seen = board.json("network", "--sessions")
    return seen if any(one["service"] == "texture" for one in seen["sessions"]) else None


def test_a_worker_is_drained_and_enabled_from_the_shell(board: Up) -> None:
    def state() -> str:
        return next(row["state"] for row in board.json("ls", "workers") if row["service"] == "who:one")

    assert board.json("call", "studio/drain-worker", "worker=who-one") == {
        "worker": "who-one",
        "draining": True,
    }
    assert state() == "draining"
    board.json("call", "studio/drain-worker", "worker=who-one", "on=false")
    assert state() == "ready"
    done = board.cli("call", "studio/drain-worker", "worker=nobody", check=False)
    assert "no worker 'nobody'" in done.stderr
