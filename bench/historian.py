"""How many readings per second the historian takes from a real broker without losing one, and their size on disk.

    python bench/historian.py                    both engines, SQLite
    python bench/historian.py --quick            a few seconds
    python bench/historian.py --engine embedded --seconds 30

Publisher, broker and board are three processes. Single readings are retained states with QoS 1, as nodes send them;
batches are `series` messages with QoS 1. Every reading has its own time, so every one must be in the database.
"""

from __future__ import annotations

import argparse
import json
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import psutil  # noqa: E402

from support import packets  # noqa: E402
from support.boards import BoardProcess, board_process  # noqa: E402
from support.engines import ENGINES, Engine, running  # noqa: E402

THINGS = 100
#: Seconds without news after which a reading counts as lost.
PATIENCE = 10.0
#: Readings of one `series` message.
BATCH = 100


@dataclass(frozen=True)
class Load:
    """What is published: so many readings per second, this many to a message."""

    pace: int
    batch: int

    @property
    def name(self) -> str:
        return "single states" if self.batch == 1 else f"batches of {self.batch}"


LOADS = (Load(5_000, 1), Load(10_000, 1), Load(12_000, 1), Load(10_000, BATCH), Load(50_000, BATCH))


class Publisher:
    """A socket that publishes with QoS 1 and does not wait for the acknowledgements, only reads them away."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(packets.connect("bench"))
        self._reader = threading.Thread(target=self._drain, daemon=True)
        self._reader.start()

    def send(self, messages: list[bytes]) -> None:
        self._socket.sendall(b"".join(messages))

    def close(self) -> None:
        self._socket.sendall(packets.disconnect())
        self._socket.shutdown(socket.SHUT_WR)
        self._reader.join(30)
        self._socket.close()

    def _drain(self) -> None:
        while self._socket.recv(1 << 16):
            pass


def messages(load: Load, start: float, run: int) -> Iterator[bytes]:
    """Endlessly: the readings of `THINGS` things in turn, each at its own microsecond."""
    number = 0
    while True:
        for thing in range(THINGS):
            times = [round(start + (number + index) * 1e-4, 6) for index in range(load.batch)]
            values = [round(20 + (number + index) % 977 / 100, 2) for index in range(load.batch)]
            leaf, body = (
                ("state", {"v": values[0], "t": times[0]})
                if load.batch == 1
                else ("series", {"t": times, "v": values})
            )
            topic = f"callboard/bench-{run}/{leaf}/sensor/thing-{thing}"
            number += load.batch
            yield packets.publish(
                topic,
                json.dumps(body).encode(),
                qos=1,
                pid=number // load.batch % 65535 + 1,
                retain=load.batch == 1,
            )


def publish(port: int, load: Load, seconds: float, run: int) -> tuple[int, float]:
    """Publish at the pace; return how many readings and how long it took."""
    publisher = Publisher(port)
    source = messages(load, time.time() - seconds, run)
    sent, begun = 0, time.monotonic()
    slice_seconds = 0.02
    while (elapsed := time.monotonic() - begun) < seconds:
        due = int(min(seconds, elapsed + slice_seconds) * load.pace) - sent
        chunk = [next(source) for _ in range(due // load.batch)]
        publisher.send(chunk)
        sent += len(chunk) * load.batch
        time.sleep(max(0.0, slice_seconds - (time.monotonic() - begun - elapsed)))
    publisher.close()
    return sent, time.monotonic() - begun


def stored(board: BoardProcess, run: int) -> int:
    with sqlite3.connect(f"file:{board.state}/board.db?mode=ro", uri=True) as database:
        query = "SELECT count(*) FROM readings JOIN series ON series.id = readings.series WHERE node = ?"
        return int(database.execute(query, (f"bench-{run}",)).fetchone()[0])


def bytes_per_reading(board: BoardProcess) -> float:
    with sqlite3.connect(f"file:{board.state}/board.db?mode=ro", uri=True) as database:
        size = database.execute("SELECT sum(pgsize) FROM dbstat WHERE name = 'readings'").fetchone()[0]
        return float(size / database.execute("SELECT count(*) FROM readings").fetchone()[0])


def measure(engine: Engine, board: BoardProcess, load: Load, seconds: float, run: int) -> str:
    cpu = cpu_seconds(board.pid)
    sent, took = publish(engine.port, load, seconds, run)
    begun = time.monotonic()
    there, behind = stored(board, run), 0.0
    while there < sent and time.monotonic() - begun - behind < PATIENCE:
        time.sleep(0.1)
        now = stored(board, run)
        behind, there = (time.monotonic() - begun if now > there else behind), now
    share = (cpu_seconds(board.pid) - cpu) / took
    return (
        f"{engine.name:10} {load.name:15} {sent / took:>12,.0f} {sent:>10,} {sent - there:>6,}"
        f" {behind:>8.1f} {share:>10.0%}"
    )


def cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", choices=ENGINES, action="append")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--quick", action="store_true", help="2 seconds each")
    wanted = parser.parse_args()
    seconds = 2.0 if wanted.quick else wanted.seconds
    head = ("engine", "load", "readings/s", "readings", "lost", "behind s", "board CPU")
    print("{:10} {:15} {:>12} {:>10} {:>6} {:>8} {:>10}".format(*head))
    for name in wanted.engine or ENGINES:
        with (
            tempfile.TemporaryDirectory(prefix="bench-") as folder,
            running(name) as engine,
            board_process(Path(folder), engine.port) as board,
        ):
            for run, load in enumerate(LOADS):
                print(measure(engine, board, load, seconds, run), flush=True)
            print(
                f"{name:10} {bytes_per_reading(board):.1f} bytes per reading in SQLite (promised: 40 at most)"
            )


if __name__ == "__main__":
    main()
