"""What goes wrong in a real house, tried on a real board: it says what is wrong, and everything else keeps working."""

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.error
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path

import pytest

from callboard_core.cards import SensorCard
from callboard_core.directory import Directory
from callboard_core.messages import Status, StatusName
from callboard_core.topics import Kind, announce
from support.root import needs_root
from support.timing import Stopwatch
from support.up import OwnNode, Up, eventually, prepare_board, running_board
from support.wire import connect

ENGINES = ("embedded", "mosquitto")

PUMP = """
from callboard import Node

node = Node("pump", keepalive=2)

@node.control(minimum=0, maximum=100)
def speed(value):
    pass

node.run()
"""

YESTERDAY = """
import time

real = time.time
time.time = lambda: real() - 86_400

from callboard import Node

node = Node("old-clock")

@node.sensor(every=0.5)
def level():
    return 5

node.run()
"""


@pytest.fixture(scope="module", params=ENGINES)
def board(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running_board(tmp_path_factory.mktemp("board"), engine=request.param) as up:
        yield up


#: For what the broker has no part in: the board reads cards and readings as it reads everything.
any_engine = pytest.mark.parametrize("board", ["embedded"], indirect=True)


@pytest.fixture
def pump(board: Up) -> Iterator[OwnNode]:
    with OwnNode(board, "pump", PUMP) as node:
        yield node
    board.cli("forget", "pump", "--yes")


def refused(up: Up, topic: str) -> dict | None:
    return next((item for item in up.get("/api/v1/refused")["items"] if item["topic"] == topic), None)


def works(up: Up) -> bool:
    """The board still answers, and its directory is whole."""
    return up.json("status")["ready"] and up.nodes()["here"] == "ready"


def assert_one_line(done: subprocess.CompletedProcess[str], code: int, *said: str) -> None:
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.returncode == code, done.stderr
    for words in said:
        assert words in done.stderr


# --- starting where one cannot start


@pytest.mark.parametrize(
    ("flag", "role"), [("--mqtt-port", "mqtt"), ("--http-port", "http"), ("--console-port", "console")]
)
def test_a_taken_port_is_told_with_its_holder_and_the_remedy(tmp_path: Path, flag: str, role: str):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        done = prepare_board(tmp_path, console=True).cli("up", "--no-node", flag, port, check=False)
    assert_one_line(done, 1, f"port {port} ({role}) is taken by", f"(pid {os.getpid()})", flag)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--mqtt-port", "4711", "--http-port", "4711"), "cannot both use port 4711"),
        (("--bind", "192.0.2.7"), "192.0.2.7 is no address of this machine"),
        (("--engine", "rabbit"), "mqtt.engine"),
        (("--database", "nonsense"), "database"),
        (("--site", "My/Site"), "site"),
        (("--node-id", "a#b"), "a-b"),
        (("--node-id", "board"), "board"),
    ],
)
def test_settings_that_make_no_sense_are_wrong_usage(tmp_path: Path, flags: tuple[str, ...], said: str):
    up = prepare_board(tmp_path)
    ports = [] if "4711" in flags else ["--mqtt-port", "0", "--http-port", "0"]
    done = up.cli("up", "--no-console", *ports, *flags, check=False)
    assert_one_line(done, 2, said)
    up.assert_nothing_left()


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ("mqtt://127.0.0.1:{free}", "is a broker running there?"),
        ("mqtt://no-such-host.invalid", "is not known"),
        ("mqtt://127.0.0.1:{dumb}", "no MQTT session"),
    ],
)
def test_a_broker_that_cannot_be_used_is_told_at_once(tmp_path: Path, engine: str, said: str):
    with socket.create_server(("127.0.0.1", 0)) as dumb, socket.create_server(("127.0.0.1", 0)) as gone:
        free = gone.getsockname()[1]
        gone.close()
        url = engine.format(free=free, dumb=dumb.getsockname()[1])
        up = prepare_board(tmp_path, engine=url)
        done = up.cli("up", *up.flags, check=False)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("callboard: broker: ")
        assert said in done.stderr.splitlines()[-1]
        up.assert_nothing_left()


def test_a_state_folder_that_is_a_file_says_what_to_do(tmp_path: Path):
    (tmp_path / "state").write_text("")
    assert_one_line(prepare_board(tmp_path).cli("up", check=False), 1, "--state")


@pytest.mark.parametrize("content", ["{", '{"viewer": {"role": "boss"}}'])
def test_a_damaged_users_file_is_told_and_left_alone(tmp_path: Path, content: str):
    up = prepare_board(tmp_path)
    up.state.mkdir()
    (up.state / "users.json").write_text(content)
    done = up.cli("up", *up.flags, check=False)
    assert_one_line(done, 1, "users.json", "backup")
    assert (up.state / "users.json").read_text() == content


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@needs_root
def test_a_state_folder_that_is_read_only_says_what_to_do(tmp_path: Path):
    with mounted(tmp_path / "disk", "ro,size=1m") as disk:
        up = prepare_board(disk)
        up.env |= {"XDG_CONFIG_HOME": str(tmp_path)}
        assert_one_line(up.cli("up", check=False), 1, "read-only", "--state")


@needs_root
def test_a_full_disk_at_the_start_is_told_and_leaves_nothing_running(tmp_path: Path):
    with mounted(tmp_path / "disk", "size=4m") as disk:
        fill(disk)
        up = prepare_board(disk)
        done = up.cli("up", *up.flags, check=False)
        assert_one_line(done, 1, "space", "--state")
        up.assert_nothing_left()


def fill(disk: Path) -> None:
    with contextlib.suppress(OSError), (disk / "ballast").open("ab", buffering=0) as ballast:
        while True:
            ballast.write(b"x" * 4096)


@needs_root
@pytest.mark.parametrize("engine", ENGINES)
def test_a_disk_that_fills_up_costs_history_and_nothing_else(tmp_path: Path, engine: str):
    env = {"CALLBOARD_HISTORY_MIN_FREE_MB": "1"}
    with mounted(tmp_path / "disk", "size=40m") as disk, running_board(disk, engine=engine, env=env) as up:
        with OwnNode(up, "pump", PUMP):
            before = up.runtime.pids
            fill(disk)
            time.sleep(3)  # long enough for everybody to run into it
            assert up.runtime.pids == before, "no process has died of it"
            if engine == "mosquitto":  # the embedded broker acknowledges only what it could write down
                up.cli("set", "pump/speed", "20")
            (disk / "ballast").unlink()
            eventually(
                lambda: up.cli("set", "pump/speed", "30", check=False).returncode == 0, "a control is set"
            )
            assert up.value("pump", "speed") == 30
            assert up.runtime.pids == before
        eventually(lambda: up.cli("status", check=False).returncode == 0, up.logs, timeout=30)


# --- bad neighbours on the broker


def test_a_card_of_a_megabyte_is_refused_and_shown(board: Up):
    topic = announce("callboard", "giant", Kind.SENSOR, "size")
    card = json.dumps({"kind": "sensor", "name": "size", "epoch": 1, "description": "x" * 1_000_000}).encode()
    with board.link() as link:
        link.publish(topic, card, qos=1, retain=True).result(20)
        found = eventually(lambda: refused(board, topic), "the refusal")
        assert found["size"] == len(card)
        assert "limit" in found["reason"]
        assert works(board)
        link.publish(topic, b"", qos=1, retain=True).result(20)


@any_engine
@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("callboard/odd/announce/sensor/a", b"not json", ""),
        ("callboard/odd/announce/sensor/b", b'{"kind": "sensor", "name": "b"}', "epoch"),
        ("callboard/odd/announce/sensor/c", b'{"kind": "sensor", "name": "other", "epoch": 1}', "other"),
        ("callboard/odd/announce/sensor/d", b"\xff\xfe", ""),
        ("callboard/odd/status", b'{"status": "asleep", "epoch": 1, "t": 1}', "status"),
        (
            "callboard/Odd Node/announce",
            b'{"kind": "node", "name": "x", "epoch": 1, "version": "1"}',
            "odd-node",
        ),
    ],
)
def test_a_card_or_status_that_makes_no_sense_is_refused_and_shown(
    board: Up, topic: str, payload: bytes, reason: str
):
    with board.link() as link:
        link.publish(topic, payload, qos=1, retain=True).result(20)
        found = eventually(lambda: refused(board, topic), "the refusal")
        assert reason in found["reason"]
        assert works(board)
        link.publish(topic, b"", qos=1, retain=True).result(20)


@pytest.mark.parametrize("node", ["a#b", "a/b", "+", "Board", "-a", "a" * 64, ""])
def test_a_node_id_that_is_none_is_wrong_usage_with_a_better_one(tmp_path: Path, node: str):
    done = prepare_board(tmp_path).cli("node", "--id", node, check=False)
    assert_one_line(done, 2, "node.id")


def test_of_two_nodes_with_one_id_the_second_is_told_and_the_first_keeps_working(
    board: Up, pump: OwnNode, tmp_path: Path
):
    twin = OwnNode(board, "pump", PUMP, state=tmp_path / "elsewhere")
    (twin.state / "credentials").mkdir(parents=True)
    (twin.state / "credentials" / "node.password").write_text(board.password("node"))
    process = twin.start("--board", board.runtime.mqtt.url)
    assert process.wait(30) == 1
    said = twin.log.read_text()
    # Asked in time, the first one answers; on a slow machine both meet on the board, and the newer gives way.
    assert "a node 'pump' already runs on host" in said or "this one gives way" in said
    assert "Traceback" not in said
    assert pump.process is not None
    assert pump.process.poll() is None
    eventually(lambda: board.nodes().get("pump") == "ready", "the first one on the board")
    assert board.cli("set", "pump/speed", "12").stdout == "pump/speed is 12\n"


def test_a_retained_command_is_never_replayed_and_counted(board: Up, pump: OwnNode):
    board.cli("set", "pump/speed", "10")
    pump.stop()
    eventually(lambda: board.nodes()["pump"] == "disconnected", "the pump is off")
    topic = "callboard/pump/command/control/speed"
    call = {
        "id": "stale",
        "reply_to": "callboard/x/reply",
        "args": {"value": 99},
        "expires": time.time() + 60,
    }
    with board.link() as link:
        link.publish(topic, json.dumps(call).encode(), qos=1, retain=True).result(20)
        pump.join()
        # Our own broker refuses it at the door and counts it; Mosquitto keeps it, and the node refuses it.
        eventually(
            lambda: refused_publishes(board) or refused(board, topic), "the refusal is counted", timeout=60
        )
        assert board.value("pump", "speed") == 10
        link.publish(topic, b"", qos=1, retain=True).result(20)


def refused_publishes(up: Up) -> int:
    found: list[bytes] = []
    with up.link("viewer") as link:
        link.subscribe(
            "$SYS/broker/callboard/refused", lambda message: found.append(message.payload)
        ).ready.result(30)
        link.round_trip(5).result()
    return json.loads(found[-1]).get("publish", 0) if found else 0


def stored(up: Up, thing: str, query: str) -> list[float]:
    try:
        return up.get(f"/api/v1/history/{thing}?{query}")["t"]
    except urllib.error.HTTPError as error:
        if error.code != 404:  # the first reading is not stored yet
            raise
        return []


@any_engine
def test_a_clock_a_day_off_is_marked_and_its_readings_are_kept_at_the_right_time(board: Up):
    with OwnNode(board, "old-clock", YESTERDAY):
        node = eventually(
            lambda: next(
                (
                    one
                    for one in board.get("/api/v1/nodes")["items"]
                    if one["id"] == "old-clock" and one["skewed"]
                ),
                None,
            ),
            "the board sees that the clock is wrong",
        )
        assert node["skew"] == pytest.approx(-86_400, abs=30)
        assert node["status"] == "ready"
        now = time.time()
        query = f"start={now - 120}&end={now + 60}"
        eventually(lambda: len(stored(board, "old-clock/sensor/level", query)) >= 2, "readings of today")
        assert board.nodes()["old-clock"] == "ready"
    board.cli("forget", "old-clock", "--yes")


def test_ten_thousand_cards_are_a_directory_within_two_seconds(board: Up):
    cards = {
        announce("callboard", f"n{number // 100}", Kind.SENSOR, f"s{number % 100}"): SensorCard(
            name=f"s{number % 100}", epoch=1, label="A sensor of many", unit="°C"
        )
        for number in range(10_000)
    }
    statuses = {
        f"callboard/n{number}/status": Status(status=StatusName.READY, epoch=1, t=1.0)
        for number in range(100)
    }
    with board.link("board") as link:
        try:
            publish_all(link, {**cards, **statuses})
            # The best of three: in the first, board and node are still busy with the 10,000 themselves.
            assert any(read(board, 10_000).within(2) for _ in range(3))
            assert works(board)
        finally:
            publish_all(link, dict.fromkeys([*cards, *statuses], b""))


def read(up: Up, cards: int) -> Stopwatch:
    with up.link("viewer") as reader:
        directory = Directory(reader)
        took = Stopwatch()
        directory.start()
        directory.wait_complete(40)
        took.stop()
    assert len([entry for entry in directory.find(kind="sensor", live=None) if entry.node[0] == "n"]) == cards
    return took


def publish_all(link, messages) -> None:
    pending = set()
    for topic, payload in messages.items():
        pending.add(link.publish(topic, payload, qos=1, retain=True))
        if len(pending) >= 2_000:
            wait(pending, timeout=60)
            pending.clear()
    wait(pending, timeout=60)


def test_a_subscriber_that_never_reads_costs_a_bounded_amount_and_nobody_else_anything(
    board: Up, pump: OwnNode
):
    mqtt = board.runtime.mqtt
    broker = broker_pid(board)
    before = rss(broker)
    credential = {"username": "viewer", "password": board.password("viewer").encode()}
    with connect((mqtt.host, mqtt.port), "deaf", **credential) as deaf, board.link("board") as link:
        deaf.subscribe("callboard/#")
        payload = b"x" * 4096
        for round_ in range(25):  # 100 MB in all
            wait(
                [
                    link.publish(f"callboard/noise/stream/camera/c{n}", payload, qos=n % 2)
                    for n in range(1000)
                ],
                60,
            )
            if round_ % 8 == 0:
                assert board.cli("set", "pump/speed", str(round_)).stdout == f"pump/speed is {round_}\n"
        assert rss(broker) - before < 200 << 20
    assert works(board)


def broker_pid(up: Up) -> int:
    """The process that holds the messages: Mosquitto is a child of the broker's role."""
    role = up.runtime.pids["broker"]
    children = Path(f"/proc/{role}/task/{role}/children").read_text().split()
    return int(children[0]) if up.runtime.engine == "mosquitto" else role


def rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
