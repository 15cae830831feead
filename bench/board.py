"""What a person waits for, on a real `callboard up` with everything in it; the promised bar beside each number.

    python bench/board.py                    the embedded broker
    python bench/board.py --engine mosquitto --quick

Every process, browser and network in here is real. Times are those an observer on the same machine sees. A node's start
counts from the making of its `Node`, and once more from the making of its process; in the page, only the latter.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "bench"))

import historian  # noqa: E402

from callboard_core.directory import Available, Directory  # noqa: E402
from callboard_core.link import Link, Message  # noqa: E402
from callboard_core.messages import State, Status, parse  # noqa: E402
from callboard_core.topics import Address, Kind, Leaf  # noqa: E402
from support.boards import board_process  # noqa: E402
from support.browser import CHROMIUM, chromium, visitor  # noqa: E402
from support.engines import running as running_engine  # noqa: E402
from support.netns import ip, lan  # noqa: E402
from support.up import (  # noqa: E402
    CALLBOARD,
    Up,
    clean_environment,
    eventually,
    free_udp_port,
    prepare_board,
    running_board,
)

KEEPALIVE = 10
NODE = """
import time
from callboard import Node
node = Node("measured", keepalive=10)
node.sensor(lambda: 1.0, name="one", every=1, description=str(time.time()))
node.control(lambda value: None, name="dial")
node.run()
"""


@dataclass(frozen=True)
class Row:
    """One measured number and what was promised, in the same unit; None: nothing was."""

    what: str
    value: float
    bar: float | None
    unit: str
    least: bool = False

    def __str__(self) -> str:
        measured = f"{self.what:54} {self.value:>10,.2f} {self.unit:4}"
        if self.bar is None:
            return measured
        met = self.value >= self.bar if self.least else self.value <= self.bar
        return f"{measured} {'≥' if self.least else '≤'} {self.bar:>9,.2f} {self.unit:4} {'met' if met else 'NOT MET'}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", choices=("embedded", "mosquitto"), default="embedded")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    wanted = parser.parse_args()
    rounds = 3 if wanted.quick else 7
    print(f"{'':54} {'measured':>15}   {'promised':>15}")
    for row in rows(wanted.engine, rounds):
        print(row, flush=True)


def rows(engine: str, rounds: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        folder = Path(scratch)
        yield Row("callboard --help", statistics.median(time_help() for _ in range(rounds)), 0.3, "s")
        yield Row(
            "up, warm, until ready (everything)", statistics.median(starts(folder, engine, rounds)), 5, "s"
        )
        (folder / "up").mkdir()
        with running_board(folder / "up", engine=engine, console=True) as up:
            yield from node_rows(up, rounds)
            yield from echo_rows(up, 200 * rounds)
            yield Row("resident memory of this machine's node", rss(up.runtime.pids["node"]) / 1e6, 60, "MB")
            if CHROMIUM:
                yield Row(
                    "node's start until in the console's page", statistics.median(in_page(up, rounds)), 2, "s"
                )
        if os.geteuid() == 0:
            (folder / "lan").mkdir()
            yield Row("cable cut until lost, keep-alive 10 s", cable(folder / "lan", engine), 16, "s")
        yield from historian_rows(engine, folder / "history", 4.0 if rounds == 3 else 10.0)


def time_help() -> float:
    began = time.perf_counter()
    subprocess.run(
        [Path(sys.executable).with_name("callboard"), "--help"], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - began


def starts(folder: Path, engine: str, rounds: int) -> Iterator[float]:
    """Seconds to the ready line, each time with a new state folder; the first, cold one does not count."""
    for number in range(rounds + 1):
        home = folder / f"start-{number}"
        home.mkdir()
        up = prepare_board(home, engine=engine, console=True)
        began = time.perf_counter()
        up.start()
        try:
            eventually(lambda up=up: up.output.startswith("ready"), up.logs, timeout=60, every=0.01)
            took = time.perf_counter() - began
        finally:
            up.stop()
        if number:
            yield took


@contextlib.contextmanager
def node(up: Up) -> Iterator[subprocess.Popen[bytes]]:
    file = up.state.parent / "measured.py"
    file.write_text(NODE)
    command = [*CALLBOARD, "node", "--state", str(up.state), str(file)]
    with subprocess.Popen(
        command, env=up.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class Seen:
    """The last status of the measured node, as it arrives."""

    def __init__(self, link: Link) -> None:
        self.status = ""
        link.subscribe(f"{link.site}/measured/status", self._take).ready.result(5)

    def _take(self, message: Message) -> None:
        if message.payload:
            self.status = parse(Status, message.payload).status.value

    def wait(self, status: str, timeout: float = 60) -> float:
        began = time.perf_counter()
        eventually(lambda: self.status == status, f"{status}; it is {self.status}", timeout, every=0.002)
        return time.perf_counter() - began


def node_rows(up: Up, rounds: int) -> Iterator[Row]:
    with up.link("viewer") as link:
        directory = Directory(link)
        directory.start()
        directory.wait_complete(20)
        seen = Seen(link)
        whole, visible, lost = [], [], []
        for _ in range(rounds):
            with directory.follow(kind="sensor", node="measured", name="one") as follower:
                began = time.time()
                with node(up) as process:
                    while not isinstance(event := follower.get(30), Available):
                        continue
                    whole.append(time.time() - began)
                    visible.append(time.time() - float(event.entry.card.description))
                    seen.wait("ready")
                    process.kill()
                    lost.append(seen.wait("lost"))
        yield Row("node started until visible in a directory", statistics.median(visible), 0.5, "s")
        yield Row("the same with the start of Python and its imports", statistics.median(whole), None, "s")
        yield Row("kill -9 of a node until lost", statistics.median(lost), 1, "s")


def echo_rows(up: Up, count: int) -> Iterator[Row]:
    """From sending a command to the arrival of the state that carries its call's id."""
    arrived: dict[str, float] = {}

    def take(message: Message) -> None:
        state = parse(State, message.payload)
        if state.call:
            arrived[state.call] = time.perf_counter()

    with node(up), up.link("operator") as link:
        Seen(link).wait("ready")
        address = Address(link.site, "measured", Leaf.COMMAND, Kind.CONTROL, "dial")
        link.subscribe(f"{link.site}/measured/state/control/dial", take).ready.result(5)
        took = []
        for number in range(count):
            began = time.perf_counter()
            link.call(address, {"value": number}, timeout=10, call_id=f"call-{number}").result()
            eventually(lambda n=number: f"call-{n}" in arrived, "the echo", every=0.0005)
            took.append(1000 * (arrived[f"call-{number}"] - began))
    took.sort()
    yield Row("a control's command until its state's echo, p50", took[len(took) // 2], 10, "ms")
    yield Row("a control's command until its state's echo, p99", took[len(took) * 99 // 100], 50, "ms")


def in_page(up: Up, rounds: int) -> Iterator[float]:
    console = up.runtime.console
    assert console is not None
    with chromium() as browser, visitor(browser, console.url) as who:
        who.log_in("operator", up.password("operator"))
        cell = who.page.locator("tr[data-node=measured]")
        for number in range(rounds + 1):
            with up.link("board") as link:
                eventually(lambda: up.nodes().get("measured", "lost") == "lost", "the node is gone")
                forget(link)
            cell.wait_for(state="detached")
            began = time.perf_counter()
            with node(up):
                cell.filter(has_text="ready").wait_for()
                if number:
                    yield time.perf_counter() - began


def forget(link: Link) -> None:
    address = Address(link.site, "board", Leaf.COMMAND, Kind.WORKER, "forget")
    link.call(address, {"node": "measured"}, timeout=10).result()


def cable(folder: Path, engine: str) -> float:
    """Seconds from pulling the cable of a node's machine until it is lost."""
    with lan() as network:
        address = network.add("board")
        network.add("far")
        udp = free_udp_port()
        prefix = ("ip", "netns", "exec", network.namespace("board"))
        env = {"CALLBOARD_DISCOVERY_PORT": str(udp)}
        flags = ("--bind", address, "--mqtt-port", "0")
        with running_board(folder, *flags, engine=engine, prefix=prefix, env=env) as up:
            file = folder / "measured.py"
            file.write_text(NODE)
            secret = up.state / "credentials" / "node.password"
            command = [
                *CALLBOARD,
                "node",
                "--state",
                str(folder / "far"),
                "--password-file",
                str(secret),
                str(file),
            ]
            far = ["ip", "netns", "exec", network.namespace("far"), *command]
            process = subprocess.Popen(far, env=clean_environment(folder, udp), stderr=subprocess.DEVNULL)
            try:
                eventually(lambda: up.nodes().get("measured") == "ready", "the far node", 30)
                ip("-n", network.switch, "link", "set", "far", "down")
                cut = time.perf_counter()
                eventually(lambda: up.nodes().get("measured") == "lost", "lost", 60)
                return time.perf_counter() - cut
            finally:
                process.kill()
                process.wait()


def historian_rows(engine: str, folder: Path, seconds: float) -> Iterator[Row]:
    """Single readings from MQTT into SQLite, 12,000 a second; every one must be there."""
    folder.mkdir()
    load = historian.Load(12_000, 1)
    with running_engine(engine) as broker, board_process(folder, broker.port) as board:
        sent, took = historian.publish(broker.port, load, seconds, 0)
        with contextlib.suppress(AssertionError):
            eventually(lambda: historian.stored(board, 0) >= sent, "all stored", timeout=60, every=0.2)
        lost = sent - historian.stored(board, 0)
    yield Row("readings stored from MQTT", sent / took, 10_000, "/s", least=True)
    yield Row("of these lost", lost, 0, "")


def rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
