"""How fast machines join a real board: from a code to a node that everybody sees, and 200 of them at once.

    python bench/join.py                 5 of each, and 200 at once
    python bench/join.py --quick         1, and 20

Board and machines share one machine. ``callboard node --join`` counts from the start of the process, so with Python's own
start and imports; a ``Node`` in a program that runs already counts from the code. Each of the many is a thread here that makes
its key, enrols and connects; the board lets two in at a time.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from callboard_core.link import Link, Message  # noqa: E402
from callboard_core.messages import Status, StatusName  # noqa: E402
from callboard_core.settings import Settings  # noqa: E402
from callboard_core.topics import status  # noqa: E402
from callboard_core.trust import JoinCode  # noqa: E402
from callboard_nodes.enrolment import Applicant, Joining, Store  # noqa: E402
from callboard_nodes.locate import Locator  # noqa: E402
from callboard_nodes.node import Node  # noqa: E402
from support.up import CALLBOARD, Up, running_board  # noqa: E402

SITE = "callboard"
PORTS = {f"CALLBOARD_LAN_{name}_PORT": "0" for name in ("MQTT", "WS", "HTTP", "CONSOLE")}
PATIENCE = 120.0


class Seen:
    """Who is ready, as another client of the board sees it."""

    def __init__(self, link: Link) -> None:
        self._ready: set[str] = set()
        self._changed = threading.Condition()
        link.subscribe(status(SITE, "+"), self._take).ready.result(10)

    def _take(self, message: Message) -> None:
        name = message.topic.split("/")[1]
        if message.payload and Status.model_validate_json(message.payload).status is StatusName.READY:
            with self._changed:
                self._ready.add(name)
                self._changed.notify_all()

    def wait(self, *names: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._ready.issuperset(names), PATIENCE), (
                "not all were seen"
            )


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def shown(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} s (most {max(seconds):.2f} s)"


def join_by_command(up: Up, seen: Seen, folder: Path, count: int) -> None:
    seconds, processor = [], []
    for number in range(count):
        code, name = up.cli("join").stdout.strip(), f"command-{number}"
        before = os.times()
        command = [*CALLBOARD, "node", "--state", str(folder / name), "--id", name, "--join", code]
        begun = time.perf_counter()
        with subprocess.Popen(
            command, env=up.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as node:
            seen.wait(name)
            seconds.append(time.perf_counter() - begun)
            node.terminate()
        after = os.times()
        processor.append(
            after.children_user + after.children_system - before.children_user - before.children_system
        )
    print(f"callboard node --join, from the start of the process to a visible node: {shown(seconds)}")
    print(f"  of processor time, to its end: {shown(processor)}")


def join_by_program(up: Up, seen: Seen, folder: Path, count: int) -> None:
    seconds = []
    for number in range(count):
        file, name = folder / f"code-{number}", f"program-{number}"
        file.write_text(up.cli("join").stdout)
        settings = Settings(state=folder / name, node={"id": name, "join_file": file})
        node = Node(name, settings=settings)

        def join(node: Node = node, name: str = name) -> None:
            node.start(timeout=PATIENCE)
            seen.wait(name)

        seconds.append(timed(join))
        node.stop()
    print(f"a Node with a code, from its start to a visible node: {shown(seconds)}")


def join_many(up: Up, seen: Seen, folder: Path, count: int) -> None:
    code = JoinCode.parse(up.cli("join", "--uses", str(count)).stdout)
    names = [f"many-{number}" for number in range(count)]
    stores = {name: Store(folder / name) for name in names}
    with ThreadPoolExecutor(count) as pool, many_links(pool, stores) as connect:

        def enrol(name: str) -> None:
            Joining(code, Applicant(name), stores[name]).run()

        begun = time.perf_counter()
        list(pool.map(enrol, names))
        print(f"{count} machines at once, until all have enrolled: {time.perf_counter() - begun:.1f} s")
        begun = time.perf_counter()
        connect()
        seen.wait(*names)
        print(
            f"{count} enrolled nodes at once, until all are connected over TLS: {time.perf_counter() - begun:.1f} s"
        )


@contextlib.contextmanager
def many_links(pool: ThreadPoolExecutor, stores: dict[str, Store]) -> Iterator[Callable[[], None]]:
    links: list[Link] = []

    def connect(name: str) -> None:
        locator = Locator(Settings(state=stores[name].state, node={"id": name}), state=stores[name].state)
        link = Link(
            client_id=name,
            endpoint=locator.endpoint,
            site=SITE,
            credential=locator.credential,
            tls=locator.tls,
        )
        links.append(link)
        link.start()
        link.wait_connected(PATIENCE)
        told = Status(status=StatusName.READY, epoch=1, t=time.time())
        link.publish(status(SITE, name), told, qos=1, retain=True).result(PATIENCE)

    yield lambda: list(pool.map(connect, stores)) and None
    list(pool.map(lambda link: link.stop(), links))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "board").mkdir()
        env = PORTS | {"CALLBOARD_LAN_BIND": "127.0.0.1"}
        with running_board(folder / "board", "--lan", node=False, env=env) as up, up.link("viewer") as link:
            seen = Seen(link)
            join_by_command(up, seen, folder, 1 if quick else 5)
            join_by_program(up, seen, folder, 1 if quick else 5)
            join_many(up, seen, folder, 20 if quick else 200)


if __name__ == "__main__":
    main()
