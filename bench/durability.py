"""What it costs to write a message down before it is acknowledged: the broker's log against SQLite.

    python bench/durability.py

Each store takes the same retained messages in batches, as the broker's turns make them, and must have given every batch
to the operating system (to the disk, where it says so) before the next.
"""

from __future__ import annotations

import itertools
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from callboard_broker.mqtt.log import Log
from callboard_broker.mqtt.message import Message
from callboard_broker.mqtt.records import Kind, pack, pack_message

TOPICS, MESSAGES = 1_000, 40_000
Store = Callable[[list[Message]], None]


def _log(folder: Path, *, sync: bool) -> Store:
    log = Log(folder)
    log.switch(log.rewriter(iter(())))

    def write(batch: list[Message]) -> None:
        log.append(b"".join(pack(Kind.RETAINED, pack_message(message)) for message in batch))
        if sync:
            log.sync()

    return write


def _sqlite(folder: Path, *, synchronous: str) -> Store:
    database = sqlite3.connect(folder / "store.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute(f"PRAGMA synchronous={synchronous}")
    database.execute(
        "CREATE TABLE retained (topic TEXT PRIMARY KEY, qos, expires, properties, payload) WITHOUT ROWID"
    )

    def write(batch: list[Message]) -> None:
        rows = [(m.topic, m.qos, m.expires, m.properties, m.payload) for m in batch]
        database.execute("BEGIN")
        database.executemany("INSERT OR REPLACE INTO retained VALUES (?, ?, ?, ?, ?)", rows)
        database.execute("COMMIT")

    return write


def _batches(size: int, count: int) -> Iterable[list[Message]]:
    numbers = itertools.count()
    for _ in range(count // size):
        yield [
            Message(f"callboard/n/state/sensor/{next(numbers) % TOPICS}", b"x" * 60, 1, retain=True)
            for _ in range(size)
        ]


def measure(make: Callable[[Path], Store], size: int, count: int) -> tuple[float, float]:
    """Return microseconds of this process's CPU and of the clock for one message."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        write = make(Path(folder))
        batches = list(_batches(size, count))
        cpu, clock = time.process_time(), time.perf_counter()
        for batch in batches:
            write(batch)
        done = len(batches) * size
        return (time.process_time() - cpu) / done * 1e6, (time.perf_counter() - clock) / done * 1e6


STORES: dict[str, tuple[Callable[[Path], Store], float]] = {
    "log": (lambda folder: _log(folder, sync=False), 1.0),
    "SQLite WAL, synchronous=NORMAL": (lambda folder: _sqlite(folder, synchronous="NORMAL"), 1.0),
    "log, fdatasync": (lambda folder: _log(folder, sync=True), 0.02),
    "SQLite WAL, synchronous=FULL": (lambda folder: _sqlite(folder, synchronous="FULL"), 0.02),
}


def main() -> None:
    """Print the table."""
    print("| store | messages a batch | CPU µs each | clock µs each |\n|---|--:|--:|--:|")
    for name, (make, share) in STORES.items():
        for size in (1, 10, 100):
            cpu, clock = measure(make, size, int(MESSAGES * (min(1.0, share * size))))
            print(f"| {name} | {size} | {cpu:.1f} | {clock:.1f} |")


if __name__ == "__main__":
    main()
