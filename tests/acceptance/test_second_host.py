"""A second machine joins: it finds the board by itself, is cut off, and loses nothing."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.netns import Lan, ip, lan
from support.root import needs_root
from support.timing import Stopwatch
from support.up import CALLBOARD, READY, Up, clean_environment, eventually, free_udp_port, running_board

pytestmark = [needs_root, pytest.mark.timeout(600)]

KEEPALIVE = 2
#: Seconds beyond 1.5 keep-alives in which a silent node is lost; Mosquitto looks for silent clients every 5 s.
NOTICED = {"embedded": 1, "mosquitto": 6}
RATE = 10
#: Seconds the cable is unplugged; what waits meanwhile waits in the node, whatever the broker.
OUTAGE = {"embedded": 60.0, "mosquitto": 15.0}

#: Counts from 0, ten times a second, and writes down how far it has come.
COUNTER = f"""
from pathlib import Path
from callboard import Node

node = Node("far", keepalive={KEEPALIVE})
numbers = iter(range(10**9))

@node.sensor(every={1 / RATE})
def counter():
    number = next(numbers)
    Path("counting").write_text(str(number))
    Path("counting").replace("counted")
    return number

@node.control(minimum=0, maximum=10)
def valve(value):
    pass

node.run()
"""

FETCH = """
import base64, sys, urllib.request
url, user, password = sys.argv[1:]
request = urllib.request.Request(url)
request.add_header("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())
sys.stdout.write(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20).read().decode())
"""


@dataclass
class Hosts:
    """A board on one machine and what is needed to run a node on the other."""

    network: Lan
    up: Up
    folder: Path
    udp: int

    def run_on(self, machine: str, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.network.namespace(machine), *command]

    def start_node(self, *flags: str) -> subprocess.Popen[str]:
        password = self.folder / "node.password"
        password.write_text(self.up.password("node"))
        (self.folder / "far.py").write_text(COUNTER)
        (self.folder / "home").mkdir(exist_ok=True)
        return subprocess.Popen(
            self.run_on(
                "far",
                *CALLBOARD,
                "node",
                "--state",
                str(self.folder / "state"),
                "--password-file",
                str(password),
                *flags,
                "far.py",
            ),
            cwd=self.folder,
            env=clean_environment(self.folder / "home", self.udp),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def unplug(self) -> None:
        ip("-n", self.network.switch, "link", "set", "far", "down")

    def plug(self) -> None:
        ip("-n", self.network.switch, "link", "set", "far", "up")

    def status(self) -> str | None:
        return next((row["status"] for row in self.up.json("ls", "nodes") if row["node"] == "far"), None)

    def get(self, path: str):
        command = self.run_on(
            "board",
            sys.executable,
            "-c",
            FETCH,
            f"{self.up.runtime.http.url}{path}",
            "viewer",
            self.up.password("viewer"),
        )
        return json.loads(
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
        )


@pytest.fixture(params=["embedded", "mosquitto"])
def hosts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hosts]:
    with lan() as network:
        address = network.add("board")
        network.add("far")
        udp = free_udp_port()
        board, far = tmp_path / "board", tmp_path / "far"
        board.mkdir()
        far.mkdir()
        prefix = ("ip", "netns", "exec", network.namespace("board"))
        env = {"CALLBOARD_DISCOVERY_PORT": str(udp)}
        with running_board(board, "--bind", address, engine=request.param, prefix=prefix, env=env) as up:
            yield Hosts(network, up, far, udp)


def test_a_second_machine_finds_the_board_and_loses_nothing_while_it_is_cut_off(hosts: Hosts):
    node = hosts.start_node()
    try:
        eventually(lambda: hosts.status() == "ready", "the far node on the board", READY)
        assert hosts.up.cli("set", "far/valve", "7").stdout == "far/valve is 7\n"

        watching = subprocess.Popen(
            hosts.run_on("board", *CALLBOARD, "watch", "--state", str(hosts.up.state), "far", "--json"),
            env=hosts.up.env, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            wait_for_status(watching, "ready")
            hosts.unplug()
            cut = Stopwatch()
            wait_for_status(watching, "lost")
            assert cut.within(1.5 * KEEPALIVE + NOTICED[hosts.up.runtime.engine]), cut
            before = counted(hosts)
            outage = OUTAGE[hosts.up.runtime.engine]
            time.sleep(max(0, outage - cut.seconds))
            # A busy machine leaves some ticks out; as many readings as a quiet one takes have to wait all the same.
            eventually(
                lambda: counted(hosts) - before >= outage * RATE * 0.85, "readings to wait", timeout=240
            )
            hosts.plug()
            plugged = Stopwatch()
            wait_for_status(watching, "ready")
            assert plugged.within(15), plugged
        finally:
            watching.kill()
            watching.communicate()

        last = counted(hosts)
        eventually(
            lambda: numbers(hosts) >= set(range(last + 1)),
            lambda: f"missing: {sorted(set(range(last + 1)) - numbers(hosts))[:20]} of {last}",
            timeout=120,
            every=0.5,
        )
    finally:
        node.terminate()
        out, _ = node.communicate(timeout=30)
    assert "Traceback" not in out
    eventually(lambda: hosts.status() == "disconnected", "the far node said goodbye")


def counted(hosts: Hosts) -> int:
    """How far the far node has come."""
    return int((hosts.folder / "counted").read_text())


def wait_for_status(watching: subprocess.Popen[str], wanted: str) -> None:
    assert watching.stdout is not None
    for line in watching.stdout:
        if json.loads(line).get("status") == wanted:
            return
    raise AssertionError(f"callboard watch ended before {wanted}")


def numbers(hosts: Hosts) -> set[int]:
    now = time.time()
    answer = hosts.get(f"/api/v1/history/far/sensor/counter?points=5000&start={now - 3600}&end={now + 10}")
    assert answer["resolution"] == "raw"
    return {round(value) for value in answer["mean"] if value is not None}


def test_a_board_on_loopback_is_not_found_from_another_machine(tmp_path: Path):
    with lan() as network:
        network.add("board")
        network.add("far")
        udp = free_udp_port()
        prefix = ("ip", "netns", "exec", network.namespace("board"))
        ip("-n", network.namespace("board"), "link", "set", "lo", "up")
        with running_board(tmp_path, prefix=prefix, env={"CALLBOARD_DISCOVERY_PORT": str(udp)}) as up:
            done = subprocess.run(
                ["ip", "netns", "exec", network.namespace("far"), *CALLBOARD, "ls", "--state", str(tmp_path / "other")],
                env=clean_environment(tmp_path, udp), capture_output=True, text=True, check=False, timeout=120,
            )  # fmt: skip
            assert done.returncode == 1
            assert "--board mqtt://" in done.stderr
            assert len(done.stderr.splitlines()) == 1
            assert up.json("status")["ready"]


def test_a_wrong_password_is_told_in_one_line(hosts: Hosts):
    wrong = hosts.folder / "wrong.password"
    wrong.write_text("guess\n")
    done = subprocess.run(
        hosts.run_on("far", *CALLBOARD, "ls", "--state", str(hosts.folder / "state"), "--password-file", str(wrong)),
        env=clean_environment(hosts.folder, hosts.udp), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "viewer" in done.stderr or "credential" in done.stderr or "password" in done.stderr
