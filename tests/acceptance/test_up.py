"""``callboard up`` for real: from nothing to ready, read and steered by other programs, killed in every way, stopped."""

import contextlib
import itertools
import json
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

import pytest

from callboard_core.link import Credential, Endpoint, Link
from callboard_core.messages import Status, parse
from callboard_core.settings import BrokerLimits
from support import packets
from support.timing import Stopwatch
from support.up import CALLBOARD, READY, OwnNode, Up, eventually, prepare_board, processes_of, running_board
from support.wire import Wire, connect

ENGINES = ("embedded", "mosquitto")

#: The directory of a board that runs with this machine's node.
WHOLE = {"board": "ready", "here": "ready"}

#: A node of a user's own, with one of each.
GREENHOUSE = """
import time
from callboard import Node

node = Node("greenhouse", keepalive=2)

@node.sensor(unit="°C", every=0.2)
def temperature():
    return 20 + time.time() % 1

@node.control(minimum=0, maximum=100, unit="%")
def fan(value):
    pass

@node.action(confirm="Really open the vent?")
def open_vent(degrees: int = 90):
    return {"opened": degrees}

@node.action(timeout=20, interruptible=True)
def water(request):
    for step in range(100):
        if request.cancelled.wait(0.1):
            return "interrupted"
        request.progress(step / 100)
    return "watered"

@node.action
def break_down():
    raise RuntimeError("the pump is dry")

node.run()
"""


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module", params=ENGINES)
def board(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One board with a node of the user's own beside this machine's, for tests that do not break it; its path has a space."""
    with running_board(tmp_path_factory.mktemp("a board"), engine=request.param) as up, own_node(up):
        yield up


def own_node(up: Up) -> OwnNode:
    return OwnNode(up, "greenhouse", GREENHOUSE)


class Statuses:
    """Follows the statuses of all nodes on a connection of its own, through any outage."""

    def __init__(self, up: Up) -> None:
        self.seen: dict[str, str] = {}
        mqtt = up.runtime.mqtt
        self._link = Link(
            client_id=f"test-{os.urandom(4).hex()}",
            endpoint=Endpoint(mqtt.host, mqtt.port),
            credential=Credential("viewer", up.password("viewer")),
        )
        self._link.subscribe("callboard/+/status", self._take)

    def _take(self, message) -> None:
        self.seen[message.topic.split("/")[1]] = parse(Status, message.payload).status.value

    def __enter__(self) -> Self:
        self._link.start()
        self._link.wait_connected(READY)
        return self

    def __exit__(self, *_: object) -> None:
        self._link.stop()

    def until(self, **expected: str) -> None:
        def same() -> bool:
            return all(self.seen.get(node) == status for node, status in expected.items())

        try:
            eventually(same, f"{expected}", 30)
        except AssertionError:
            raise AssertionError(f"expected {expected}, got {self.seen}") from None


# --- the story of the first minutes


def test_the_ready_line_says_where_everything_is_and_the_state_is_private(board: Up):
    first, *rest = board.output.splitlines()
    assert first.startswith("ready in ")
    assert str(board.runtime.mqtt.port) in first
    assert str(board.state / "credentials" / "operator.password") in "\n".join(rest)
    assert board.state.stat().st_mode & 0o777 == 0o700
    told = json.loads((board.state / "runtime.json").read_text())
    assert set(told["pids"]) == {"broker", "board", "node"}
    assert set(told["credentials"]) == {"viewer", "operator"}
    assert (board.state / "runtime.json").stat().st_mode & 0o777 == 0o600
    for secret in [board.state / "users.json", *(board.state / "credentials").iterdir()]:
        assert secret.stat().st_mode & 0o077 == 0


def test_status_knows_that_all_roles_are_ready(board: Up):
    told = board.json("status", "--wait", "10")
    assert told["ready"]
    assert all(answer == "ok" for answer in told["answers"].values())
    assert {role["state"] for role in told["roles"].values()} == {"ready"}


def test_the_printed_line_lets_mosquitto_sub_read_the_cards(board: Up):
    """As it stands, though the state folder has a space in its path."""
    line = next(line for line in board.output.splitlines() if "mosquitto_sub" in line).partition("watch it")[
        2
    ]
    assert shlex.split(line)
    done = subprocess.run(["sh", "-c", f"{line.strip()} -W 3"], capture_output=True, text=True, check=False)
    topics = {entry.split(" ")[0] for entry in done.stdout.splitlines()}
    assert "callboard/board/announce" in topics
    assert "callboard/here/announce/sensor/cpu" in topics
    assert "callboard/greenhouse/announce/control/fan" in topics
    assert "callboard/greenhouse/state/sensor/temperature" in topics


def test_nobody_reads_without_a_password_and_a_viewer_does_not_command(board: Up):
    mqtt = board.runtime.mqtt
    anonymous = subprocess.run(
        ["mosquitto_sub", "-h", mqtt.host, "-p", str(mqtt.port), "-t", "callboard/#", "-W", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert anonymous.stdout == ""
    assert anonymous.returncode != 0
    done = board.cli(
        "set", "greenhouse/fan", "11", "--username", "viewer",
        "--password-file", str(board.state / "credentials" / "viewer.password"), "--timeout", "1",
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "or user 'viewer' may not command" in done.stderr
    assert board.value("greenhouse", "fan") != 11


def test_ls_shows_nodes_and_things_with_their_values(board: Up):
    listed = {row["node"]: row["status"] for row in board.json("ls", "nodes")}
    assert listed == {"board": "ready", "here": "ready", "greenhouse": "ready"}
    eventually(
        lambda: [
            row
            for row in board.json("ls", "sensors", "--node", "here", "--name", "cpu")
            if row["value"] is not None
        ],
        "a value of the CPU",
    )
    (temperature,) = board.json("ls", "sensors", "--name", "temp*")
    assert (temperature["node"], temperature["unit"]) == ("greenhouse", "°C")
    assert 20 <= temperature["value"] < 21
    table = board.cli("ls", "all", "--node", "greenhouse").stdout
    assert "open-vent" in table
    assert "fan" in table


def test_watch_prints_values_as_they_come(board: Up):
    lines = board.cli(
        "watch", "greenhouse/temperature", "--new", "--count", "2", "--json"
    ).stdout.splitlines()
    first, second = (json.loads(line) for line in lines)
    assert first["t"] < second["t"]
    assert (first["node"], first["name"]) == ("greenhouse", "temperature")


def test_set_changes_a_control_and_says_what_is_in_force(board: Up):
    assert board.cli("set", "greenhouse/fan", "40").stdout == "greenhouse/fan is 40 %\n"
    assert board.value("greenhouse", "fan") == 40


@pytest.mark.parametrize("board", ["embedded"], indirect=True)  # it is the command that speaks
@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["set", "greenhouse/fan", "101"], "outside", 2),
        (["set", "greenhouse/fan", "fast"], "expected a number", 2),
        (["set", "greenhouse/pump", "1"], "it has fan", 1),
        (["set", "nowhere/fan", "1"], "known are board, greenhouse, here", 1),
        (["set", "fan", "1"], "NODE/NAME", 2),
        (["call", "greenhouse/break-down"], "the pump is dry", 1),
        (["call", "greenhouse/open-vent", "--yes", "degrees=wide"], "degrees", 2),
        (["call", "greenhouse/open-vent", "--yes", "wide"], "KEY=VALUE", 2),
        (["forget", "greenhouse", "--yes"], "alive", 1),
        (["forget", "nowhere", "--yes"], "known are", 1),
    ],
)
def test_what_cannot_be_done_is_one_line_that_says_why(board: Up, arguments: list[str], said: str, code: int):
    done = board.cli(*arguments, check=False)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.returncode == code


def test_call_runs_an_action_and_prints_its_result(board: Up):
    assert board.json("call", "greenhouse/open-vent", "degrees=30", "--yes") == {"opened": 30}


def test_call_asks_first_when_the_card_says_so(board: Up):
    done = board.cli("call", "greenhouse/open-vent", check=False)
    assert done.returncode == 1
    assert "Really open the vent?" in done.stderr


def test_interrupting_a_call_interrupts_the_action(board: Up):
    command = [*CALLBOARD, "call", "--state", str(board.state), "greenhouse/water"]
    with subprocess.Popen(
        command, env=board.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            eventually(lambda: board.value("greenhouse", "water") == "running", "the action runs")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert "Traceback" not in err
    assert "cancelled" in out + err
    eventually(lambda: board.value("greenhouse", "water") != "running", "the action has ended")


def test_doctor_finds_nothing_wrong(board: Up):
    told = board.json("doctor")
    assert all(check["ok"] for check in told["checks"]), told["checks"]
    sources = {row["key"]: row["source"] for row in told["settings"]}
    assert sources["state"].startswith("flag")
    assert sources["discovery.port"].startswith("environment")


def test_the_brokers_figures_and_bounds_are_in_the_metrics(board: Up):
    def told(name: str) -> bool:
        return f'callboard_broker_sys{{topic="$SYS/broker/{name}"}}' in board.read("/metrics")

    eventually(lambda: told("clients/connected"), "the broker's figures", timeout=60)
    if board.runtime.engine == "embedded":
        missing = [name for name in BrokerLimits.model_fields if not told(f"callboard/limits/{name}")]
        assert missing == []


def test_a_second_up_on_the_same_state_is_told_of_the_first(board: Up):
    second = board.cli("up", "--mqtt-port", "0", check=False)
    assert second.returncode == 1
    assert f"pid {board.pid}" in second.stderr
    assert len(second.stderr.splitlines()) == 1
    assert board.json("status")["ready"]


def test_doctor_names_clients_that_fight_for_an_id_read_slowly_or_talk_most(tmp_path: Path):
    with running_board(tmp_path, node=False, env={"CALLBOARD_MQTT_SYS_INTERVAL": "1"}) as up:
        with trouble(up):
            eventually(
                lambda: all(word in clients(up) for word in ("twin taken over ", "deaf (", "loud ")),
                lambda: f"all three; it says: {clients(up)}",
                timeout=60,
            )
            assert up.cli("doctor", check=False).returncode == 1
        eventually(lambda: clients(up).startswith("no id used twice; no slow readers"), lambda: clients(up))


def clients(up: Up) -> str:
    """What doctor says about the broker's clients."""
    told = json.loads(up.cli("doctor", "--json", check=False).stdout)
    return next(check["found"] for check in told["checks"] if check["what"] == "clients")


@contextlib.contextmanager
def trouble(up: Up) -> Iterator[None]:
    """Two clients of one id, one that never reads, and one that publishes without end."""
    ended = threading.Event()
    with log_in(up, "deaf", "viewer") as deaf, log_in(up, "loud", "admin") as loud:
        deaf.subscribe("callboard/#")
        threads = [
            threading.Thread(target=fight, args=(up, ended)),
            threading.Thread(target=talk, args=(loud, ended)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join()


def log_in(up: Up, client_id: str, user: str) -> Wire:
    mqtt = up.runtime.mqtt
    return connect(
        (mqtt.host, mqtt.port), client_id, username=user, password=up.password(user).encode(), keepalive=0
    )


def fight(up: Up, ended: threading.Event) -> None:
    old = log_in(up, "twin", "viewer")
    while not ended.wait(0.05):
        new = log_in(up, "twin", "viewer")
        old.close()
        old = new
    old.close()


def talk(wire: Wire, ended: threading.Event) -> None:
    while not ended.wait(0.02):
        wire.send(packets.publish("callboard/loud/stream/camera/c", b"x" * 100_000))


# --- ends, restarts and kills


@pytest.mark.parametrize(
    ("engine", "number"),
    [
        ("embedded", signal.SIGTERM),
        ("embedded", signal.SIGINT),
        ("embedded", signal.SIGHUP),
        ("mosquitto", signal.SIGTERM),  # what is stopped differs; to which signals, does not
    ],
)
def test_a_signal_stops_all_in_order_within_five_seconds(tmp_path: Path, engine: str, number: signal.Signals):
    with running_board(tmp_path, engine=engine) as up, Statuses(up) as statuses:
        statuses.until(here="ready", board="ready")
        began = Stopwatch()
        assert up.stop(number) == 0
        assert began.within(5), began
        assert not processes_of(up.state)
        assert statuses.seen["here"] == "disconnected", "said goodbye while the broker was still there"
        assert not (up.state / "runtime.json").exists()


def test_kill_9_of_up_leaves_nothing_and_the_next_up_starts(tmp_path: Path, engine: str):
    with running_board(tmp_path, engine=engine) as up:
        roles = processes_of(up.state)
        assert len(roles) >= 3
        assert up.process is not None
        up.process.kill()
        up.process.wait()
        up.assert_nothing_left()
        assert up.cli("status", check=False).returncode == 1
        up.start().wait_ready()
        assert up.nodes()["here"] == "ready"


def test_the_same_passwords_and_values_are_there_after_a_restart(tmp_path: Path, engine: str):
    up = prepare_board(tmp_path, engine=engine)
    try:
        up.start().wait_ready()
        with own_node(up):
            up.cli("set", "greenhouse/fan", "33")
        before = up.password("operator")
        up.stop()
        up.start().wait_ready()
        assert up.password("operator") == before
        assert up.nodes()["greenhouse"] == "disconnected"
        assert up.value("greenhouse", "fan") == 33
        assert up.cli("forget", "greenhouse", "--yes").stdout == "greenhouse is forgotten\n"
        assert set(up.nodes()) == {"board", "here"}
    finally:
        up.stop()
        up.assert_nothing_left()


@pytest.mark.timeout(300)
def test_kill_9_of_any_role_alone_heals_by_itself(tmp_path: Path, engine: str):
    with running_board(tmp_path, engine=engine) as up, own_node(up), Statuses(up) as statuses:
        for role in ("node", "board", "broker", "broker", "node", "board"):
            pid = up.kill_role(role)
            eventually(lambda role=role, pid=pid: up.runtime.pids.get(role, pid) != pid, f"a new {role}")
            up.wait_whole()
            eventually(
                lambda: up.nodes() == {"board": "ready", "here": "ready", "greenhouse": "ready"},
                lambda role=role: f"the directory after {role} was killed; it is {up.nodes()}\n{up.logs()}",
            )
            statuses.until(board="ready", here="ready", greenhouse="ready")
        assert up.process is not None
        assert up.process.poll() is None


@pytest.mark.timeout(300)
def test_kill_9_of_all_roles_together_heals_and_a_node_that_died_meanwhile_is_lost(
    tmp_path: Path, engine: str
):
    with running_board(tmp_path, engine=engine) as up, own_node(up) as greenhouse:
        for pid in up.runtime.pids.values():
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not up.runtime.ready, "the kill is noticed")
        up.wait_whole()
        eventually(
            lambda: up.nodes() == {"board": "ready", "here": "ready", "greenhouse": "ready"},
            "everybody back on the board",
        )
        # The broker that could have published its last will dies with the node.
        for pid in up.runtime.pids.values():
            os.kill(pid, signal.SIGKILL)
        greenhouse.kill()
        eventually(lambda: not up.runtime.ready, "the kill is noticed")
        up.wait_whole()
        eventually(
            lambda: up.nodes() == {"board": "ready", "here": "ready", "greenhouse": "lost"},
            "the dead node is lost",
            timeout=40,
        )


ORDERS = tuple(itertools.permutations(("broker", "board", "node")))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("engine", "orders"),
    [
        ("embedded", ORDERS),
        # The broker first, last and between: which of the others comes first has nothing to do with it.
        ("mosquitto", [order for order in ORDERS if order.index("board") == (order.index("broker") + 1) % 3]),
    ],
    ids=["embedded", "mosquitto"],
)
def test_roles_may_come_back_in_any_order(tmp_path: Path, engine: str, orders: Iterable[tuple[str, ...]]):
    """All are killed; each one that comes up is frozen (SIGSTOP), and let go when its turn has come."""
    with running_board(tmp_path, engine=engine) as up:
        for order in orders:
            old = up.runtime.pids
            for pid in old.values():
                os.kill(pid, signal.SIGKILL)
            new = {
                role: eventually(lambda r=role, o=old: new_pid(up, r, o[r]), f"a new {role}")
                for role in order
            }
            for pid in new.values():
                os.kill(pid, signal.SIGSTOP)
            for role in order:
                os.kill(new[role], signal.SIGCONT)
                time.sleep(0.7)  # long enough to start and, before the broker, to fail to connect
            up.wait_whole()
            eventually(lambda: up.nodes() == WHOLE, lambda o=order: f"the truth in the directory after {o}")


def new_pid(up: Up, role: str, old: int) -> int | None:
    pid = up.runtime.pids.get(role)
    return pid if pid != old else None


def test_a_node_that_starts_before_its_board_waits_for_it(tmp_path: Path):
    with running_board(tmp_path, node=False) as up:
        port = up.runtime.mqtt.port
        up.stop()
        node = own_node(up)
        node.start()
        try:
            up.flags = ("--mqtt-port", str(port), *up.flags[2:])
            up.start().wait_ready()
            eventually(lambda: up.nodes().get("greenhouse") == "ready", "the node on the board")
        finally:
            node.stop()


def test_a_node_that_is_killed_is_lost_long_before_its_keep_alive_is_over(tmp_path: Path, engine: str):
    with running_board(tmp_path, engine=engine) as up, own_node(up) as greenhouse, Statuses(up) as statuses:
        statuses.until(greenhouse="ready")
        began = Stopwatch()
        greenhouse.kill()
        statuses.until(greenhouse="lost")
        assert began.within(5), began
