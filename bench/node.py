"""What a node takes: to be seen, to be missed, to obey, to keep a reading; and its memory.

    python bench/node.py              both engines
    python bench/node.py --engine mosquitto --quick

Nodes are processes of their own, started and killed for real; the times are those an observer on the same machine sees.
The bars are those the project promises. Memory is measured in the agent with its built-in sensors and three chips.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from callboard_core.link import Endpoint  # noqa: E402
from callboard_core.topics import Kind  # noqa: E402
from callboard_nodes.outbox import Outbox  # noqa: E402
from callboard_nodes.segments import Record  # noqa: E402
from support.engines import ENGINES, running  # noqa: E402
from support.nodes import Observer  # noqa: E402

NODE = """
import time
from callboard import Node
node = Node("measured", description=str(time.time()))
node.sensor(lambda: 1.0, name="one", every=1)
node.control(lambda value: None, name="dial")
node.run()
"""
AGENT = """
from callboard_core.settings import load_settings
from callboard_nodes.agent import run_agent
run_agent(load_settings(flags={"node.id": "measured"}).value)
"""
CHIPS = [{"driver": name, "bus": "simulated"} for name in ("bme280", "mcp9808", "ads1115")]


@contextmanager
def process(code: str, folder: Path, endpoint: Endpoint) -> Iterator[subprocess.Popen[bytes]]:
    """A node as a process, killed at the end."""
    environment = {
        **os.environ,
        "CALLBOARD_STATE": str(folder),
        "CALLBOARD_NODE_BOARD": str(endpoint),
        "CALLBOARD_SENSORS": json.dumps(CHIPS),
        "XDG_CONFIG_HOME": str(folder),
    }
    child = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def ready(epoch: int) -> Callable[[dict[str, object]], bool]:
    return lambda status: status["status"] == "ready" and status["epoch"] == epoch


def visible_and_lost(endpoint: Endpoint, folder: Path, rounds: int) -> dict[str, float]:
    """Seconds from the start of the node and of its process to ready as seen by others, and from kill -9 to lost."""
    seen, started, lost = [], [], []
    observer = Observer(endpoint)
    for epoch in range(1, rounds + 1):
        began = time.time()
        with process(NODE, folder, endpoint) as child:
            observer.wait("measured/status", ready(epoch))
            now = time.time()
            started.append(now - began)
            seen.append(now - float(observer.of("measured/announce")[-1]["description"]))
            child.kill()
            killed = time.time()
            observer.wait(
                "measured/status", lambda s, epoch=epoch: s["status"] == "lost" and s["epoch"] == epoch
            )
            lost.append(time.time() - killed)
    observer.close()
    return {
        "start of the process -> visible": statistics.median(started),
        "start of the node -> visible": statistics.median(seen),
        "kill -9 -> lost (worst)": max(lost),
    }


def echo(endpoint: Endpoint, folder: Path, count: int) -> dict[str, float]:
    """Seconds from a control's command to its state echo."""
    observer = Observer(endpoint)
    times = []
    with process(NODE, folder, endpoint):
        observer.wait("measured/status", lambda status: status["status"] == "ready")
        for value in range(1, count + 1):
            began = time.perf_counter()
            observer.begin("measured", Kind.CONTROL, "dial", value=value)
            observer.wait("state/control/dial", lambda state, value=value: state.get("v") == value)
            times.append(time.perf_counter() - began)
            observer.forget()
    observer.close()
    times.sort()
    return {
        "command -> state echo, p50": times[count // 2],
        "command -> state echo, p99": times[count * 99 // 100],
    }


def memory(endpoint: Endpoint, folder: Path) -> float:
    """MiB of the agent, some seconds after its start."""
    observer = Observer(endpoint)
    with process(AGENT, folder, endpoint) as child:
        observer.wait("measured/state/sensor/cpu", timeout=30)
        observer.wait("measured/state/sensor/ads1115")
        status = Path(f"/proc/{child.pid}/status").read_text()
        child.send_signal(signal.SIGTERM)
        child.wait(10)
    observer.close()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found is not None
    return int(found[1]) / 1024


def outbox(folder: Path, count: int) -> dict[str, float]:
    """Microseconds to store a reading and to note that it has arrived; SQLite beside it."""
    found = Outbox(folder / "outbox")
    began = time.perf_counter()
    for t in range(count):
        ticket = found.append([Record(Kind.SENSOR, "one", float(t), 21.5)])
        assert ticket is not None
        found.acknowledge(ticket, 1)
    segments = time.perf_counter() - began
    found.close()
    base = sqlite3.connect(folder / "outbox.db", isolation_level=None)
    base.execute("PRAGMA journal_mode=WAL")
    base.execute("PRAGMA synchronous=NORMAL")
    base.execute("CREATE TABLE reading (id INTEGER PRIMARY KEY, thing TEXT, t REAL, v)")
    began = time.perf_counter()
    for t in range(count):
        base.execute("INSERT INTO reading VALUES (?, 'sensor/one', ?, 21.5)", (t, float(t)))
        base.execute("DELETE FROM reading WHERE id = ?", (t,))
    rows = time.perf_counter() - began
    base.close()
    return {"outbox": 1e6 * segments / count, "sqlite": 1e6 * rows / count}


BARS = {
    "start of the node -> visible": 0.5,
    "kill -9 -> lost (worst)": 1.0,
    "command -> state echo, p50": 0.010,
    "command -> state echo, p99": 0.050,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", choices=ENGINES, action="append")
    parser.add_argument("--quick", action="store_true")
    wanted = parser.parse_args()
    print(f"{'engine':10} {'':32} {'measured':>10} {'promised':>10}")
    for name in wanted.engine or ENGINES:
        with running(name) as engine, tempfile.TemporaryDirectory(prefix="bench-") as scratch:
            endpoint, folder = Endpoint(*engine.address), Path(scratch)
            rows = visible_and_lost(endpoint, folder / "seen", 3 if wanted.quick else 10)
            rows |= echo(endpoint, folder / "echo", 200 if wanted.quick else 1000)
            for what, seconds in rows.items():
                bar = f"{1000 * BARS[what]:7.0f} ms" if what in BARS else ""
                print(f"{name:10} {what:32} {1000 * seconds:7.1f} ms {bar:>10}", flush=True)
            megabytes = memory(endpoint, folder / "agent")
            print(
                f"{name:10} {'resident memory of the agent':32} {megabytes:6.1f} MiB {'60 MiB':>10}",
                flush=True,
            )
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        kept = outbox(Path(scratch), 2000 if wanted.quick else 20_000)
    print(
        f"{'':10} {'keep a reading and let it go':32} {kept['outbox']:7.1f} us   (SQLite {kept['sqlite']:.1f} us)"
    )


if __name__ == "__main__":
    main()
