"""A direct lane between two machines on one Ethernet, and what a cut cable does to it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.netns import Lan, ip, lan
from support.timing import Stopwatch
from support.up import clean_environment, free_udp_port, running_board

WORKER = """
import sys, time
from callboard import Node

board, state = sys.argv[1:]
node = Node("far", board=board, username="node", password=sys.stdin.readline().strip(), state_dir=state)

@node.worker(service="add", idempotent=True, concurrency=4)
def add(x: int, y: int) -> int:
    return x + y

@node.worker(service="hold", concurrency=4)
def hold(seconds: float) -> str:
    time.sleep(seconds)
    return "held"

node.start(timeout=30)
print("up", flush=True)
sys.stdin.read()
node.stop()
"""

#: Obeys one line at a time, and answers with one line of JSON.
CALLER = """
import json, sys, time
from callboard import Client, CallboardError
from callboard_core.lane.lanes import Lanes

board = sys.argv[1]
with Client(board, username="operator", password=sys.stdin.readline().strip()) as client:
    add, hold = client.pool("add"), client.pool("hold")
    add.wait_ready(20)
    for line in sys.stdin:
        what, begun = line.strip(), time.monotonic()
        try:
            if what == "open":
                while not (lines := list(Lanes.of(client.link)._lines.values())):
                    add.call(x=1, y=1)
                    time.sleep(0.05)
                found = [type(lines[0]._wire).__name__, add.card().lane.hosts]
            elif what == "lanes":
                found = len(Lanes.of(client.link)._lines)
            elif what == "add":
                found = add.call(x=2, y=2, timeout=2)
            else:
                found = hold.call(seconds=1.0, timeout=8)
        except CallboardError as error:
            found = error.code
        print(json.dumps([found, time.monotonic() - begun]), flush=True)
"""


class Script:
    """A program on a machine, that is talked to."""

    def __init__(self, network: Lan, machine: str, code: str, folder: Path, *arguments: str) -> None:
        command = ["ip", "netns", "exec", network.namespace(machine), sys.executable, "-c", code, *arguments]
        (folder / machine).mkdir()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=clean_environment(folder / machine, free_udp_port()),
        )

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def ask(self, line: str) -> list[object]:
        self.say(line)
        found = json.loads(self.hear())
        assert isinstance(found, list)
        return found

    def close(self) -> None:
        try:
            self._process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


@contextmanager
def hosts(folder: Path) -> Iterator[tuple[Lan, Script]]:
    """A board and a caller on one machine, a worker on another."""
    with lan() as network:
        address = network.add("board")
        network.add("far")
        home = folder / "up"
        home.mkdir()
        prefix = ("ip", "netns", "exec", network.namespace("board"))
        with running_board(home, "--bind", address, node=False, prefix=prefix) as up:
            url = f"mqtt://{address}:{up.runtime.mqtt.port}"
            worker = Script(network, "far", WORKER, folder, url, str(folder / "state"))
            caller = Script(network, "board", CALLER, folder, url)
            try:
                worker.say(up.password("node"))
                assert worker.hear() == "up"
                caller.say(up.password("operator"))
                yield network, caller
            finally:
                caller.close()
                worker.close()


def test_a_lane_between_hosts_is_encrypted_and_a_cut_cable_holds_nobody_up(tmp_path: Path) -> None:
    with hosts(tmp_path) as (network, caller):
        found, _ = caller.ask("open")
        assert found == ["Tls", [network.machines["far"]]]
        assert caller.ask("add")[0] == 4
        caller.say("hold")
        ip("-n", network.switch, "link", "set", "far", "down")
        code, took = json.loads(caller.hear())
        assert code in {"timeout", "unavailable"}
        assert took < 9
        cut = Stopwatch()
        while caller.ask("lanes")[0] != 0:
            assert cut.within(10), cut
            time.sleep(0.2)
        ip("-n", network.switch, "link", "set", "far", "up")
        plugged = Stopwatch()
        while caller.ask("add")[0] != 4:
            assert plugged.within(20), plugged
            time.sleep(0.2)
        assert caller.ask("open")[0] == found
