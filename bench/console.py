"""What the console takes: to start, to show a node that appears or dies, to refresh; and its memory.

    python bench/console.py              all of it (a minute)
    python bench/console.py --quick      fewer rounds

The page is a real one in Chromium on a real board; times run from the moment another program sees the change to the
moment the text stands in the page. A refresh is one snapshot and one page of the Overview, for the first session that
asks and for each further one. The bars are those the project promises.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from playwright.sync_api import Page  # noqa: E402

from callboard_console.web.model import Model  # noqa: E402
from callboard_console.web.snapshot import Snapshot  # noqa: E402
from callboard_console.web.views import overview  # noqa: E402
from callboard_core import topics  # noqa: E402
from callboard_core.cards import NodeCard, SensorCard  # noqa: E402
from callboard_core.directory import Directory  # noqa: E402
from callboard_core.link import Credential, Endpoint, Link, Message  # noqa: E402
from callboard_core.messages import State, Status  # noqa: E402
from callboard_core.topics import Kind  # noqa: E402
from support.browser import chromium, visitor  # noqa: E402
from support.console import ConsoleProcess, FakeBoard  # noqa: E402
from support.mosquitto import Mosquitto  # noqa: E402
from support.up import Up, eventually, running_board  # noqa: E402

NODE = """
import sys
from callboard import Node
node = Node(sys.argv[1], board=sys.argv[2], username="node", password=sys.argv[3], state_dir=sys.argv[4])
node.sensor(lambda: 1.0, name="one", every=1)
node.run()
"""
SENSORS = ("cpu", "memory", "temperature")
SITE = "callboard"
_T = TypeVar("_T")


def start(rounds: int) -> list[float]:
    """Seconds from the start of the process to its first answer."""
    taken = []
    with tempfile.TemporaryDirectory() as folder, FakeBoard() as board:
        broker = Mosquitto(Path(folder))
        broker.start()
        for _ in range(rounds):
            console = ConsoleProcess(broker.port, board.url).wait()
            taken.append(console.took)
            console.stop()
        broker.stop()
    return taken


@contextmanager
def onlooker(up: Up) -> Iterator[Directory]:
    viewer = Credential("viewer", up.password("viewer"))
    link = Link(client_id="onlooker", endpoint=Endpoint.parse(up.runtime.mqtt.url), credential=viewer)
    link.start()
    known = Directory(link)
    known.start()
    known.wait_complete(10)
    yield known
    link.stop()


def seen(up: Up, page: Page, folder: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds from directory to page, and from kill -9 to page."""
    found: dict[str, list[float]] = {"appeared": [], "lost": []}
    with onlooker(up) as known:
        for number in range(rounds):
            name = f"node-{number}"
            given = (name, up.runtime.mqtt.url, up.password("node"), str(folder / name))
            process = subprocess.Popen([sys.executable, "-c", NODE, *given], env=up.env)
            eventually(lambda name=name: (node := known.node(name)) and node.live, name, every=0.005)
            found["appeared"].append(shown(page, name, "ready"))
            process.kill()
            process.wait()
            found["lost"].append(shown(page, name, "lost"))
    return found


def shown(page: Page, node: str, status: str) -> float:
    began = time.perf_counter()
    page.locator(f"tr[data-node={node}]", has_text=status).wait_for()
    return time.perf_counter() - began


def filled(nodes: int) -> Model:
    """A model of ``nodes`` nodes with three sensors each."""
    model = Model(SITE, 0.0)
    for number in range(nodes):
        name = f"n{number}"
        for sensor in SENSORS:
            card = SensorCard(name=sensor, epoch=1, unit="%")
            model.apply(Message(topics.announce(SITE, name, Kind.SENSOR, sensor), card.encode()), 1.0)
            read(model, name, sensor, 1.0)
        model.apply(
            Message(topics.announce(SITE, name), NodeCard(name=name, epoch=1, version="1").encode()), 1.0
        )
        model.apply(Message(topics.status(SITE, name), Status(status="ready", epoch=1, t=1).encode()), 1.0)
    model.connection(1.0, connected=True)
    model.settle((0, 0))
    model.snapshot(2.0)
    return model


def read(model: Model, node: str, sensor: str, now: float) -> None:
    payload = State(v=now % 100, t=now).encode()
    model.apply(Message(topics.state(SITE, node, Kind.SENSOR, sensor), payload), now)


def refresh(nodes: int, rounds: int) -> dict[str, float]:
    """Milliseconds of processor time of one refresh in which every node has a new reading."""
    model = filled(nodes)
    found: dict[str, list[float]] = {"snapshot": [], "first": [], "further": []}
    for number in range(rounds):
        for node in range(nodes):
            read(model, f"n{node}", "cpu", 10.0 + number)
        snapshot = timed(found["snapshot"], lambda number=number: model.snapshot(10.0 + number))
        page = partial(whole_page, snapshot)
        timed(found["first"], page)
        timed(found["further"], page)
    return {what: 1000 * statistics.median(taken) for what, taken in found.items()}


def whole_page(snapshot: Snapshot) -> None:
    overview.summary(snapshot)
    overview.table(snapshot, overview.Chosen())


def timed(into: list[float], work: Callable[[], _T]) -> _T:
    """Processor time, so that a busy machine does not count."""
    began = time.thread_time()
    result = work()
    into.append(time.thread_time() - began)
    return result


def memory(pid: int) -> float:
    """Resident memory of a process in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def say(what: str, measured: str, promised: str = "") -> None:
    print(f"{what:44} {measured:>14} {promised:>10}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    say("", "measured", "promised")
    say("start of the process -> answers", f"{statistics.median(start(2 if quick else 5)):.2f} s", "2.5 s")
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as scratch,
        running_board(Path(scratch), console=True) as up,
    ):
        console = up.runtime.console
        assert console is not None
        with chromium() as browser, visitor(browser, console.url) as who:
            began = time.perf_counter()
            who.log_in("viewer", up.password("viewer"))
            who.page.wait_for_selector("tr[data-node=here]")
            say("log in -> first page", f"{time.perf_counter() - began:.2f} s")
            taken = seen(up, who.page, Path(scratch), 3 if quick else 10)
            for what, said in (
                ("appeared", "visible to others -> in the page"),
                ("lost", "kill -9 -> lost in the page"),
            ):
                measured = f"{statistics.median(taken[what]):.2f} s, {max(taken[what]):.2f} s"
                say(f"{said} (median, worst)", measured, "2 s")
            say("resident memory", f"{memory(up.runtime.pids['console']):.0f} MiB")
    for nodes in (200, 1000, 10_000):
        taken_ms = refresh(nodes, 3 if quick else 7)
        for what, said in (
            ("snapshot", "snapshot"),
            ("first", "page, first session"),
            ("further", "page, further ones"),
        ):
            say(f"{nodes} nodes, all changed: {said}", f"{taken_ms[what]:.1f} ms")


if __name__ == "__main__":
    main()
