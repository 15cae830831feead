"""How fast artifacts go to a real board and back: one large file, many small ones, and one that is cut on its way.

    python bench/artifacts.py                    512 MiB, and 500 of 256 KiB
    python bench/artifacts.py --quick            64 MiB, and 100

Board and client are two processes on one machine, so the network is the loopback's and the disk is shared. Every
content is hashed on both sides, and the board waits for the disk before it answers.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import psutil  # noqa: E402

from callboard_core.artifacts import HttpArtifacts  # noqa: E402
from callboard_core.link import Credential  # noqa: E402
from support.boards import PASSWORDS, BoardProcess, board_process  # noqa: E402
from support.engines import running  # noqa: E402

MIB = 1024 * 1024


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def make_file(path: Path, mib: int) -> Path:
    with path.open("wb") as file:
        for _ in range(mib):
            file.write(os.urandom(MIB))
    return path


def store_of(board: BoardProcess) -> HttpArtifacts:
    return HttpArtifacts(board.url, Credential("node", PASSWORDS["node"]))


def large(board: BoardProcess, folder: Path, mib: int) -> None:
    file = make_file(folder / "large.bin", mib)
    process = psutil.Process(board.pid)
    with store_of(board) as store:
        before = process.memory_info().rss
        seconds = timed(lambda: store.put_file(file))
        print(f"store {mib} MiB: {seconds:.2f} s, {mib / seconds:.0f} MiB/s")
        print(f"store it again (hashed here, not sent): {timed(lambda: store.put_file(file)):.2f} s")
        ref = store.put_file(file)
        seconds = timed(lambda: store.get_file(ref, folder / "back.bin"))
        print(f"fetch {mib} MiB: {seconds:.2f} s, {mib / seconds:.0f} MiB/s")
        print(f"the board grew by {(process.memory_info().rss - before) / MIB:.0f} MiB")


def cut(board: BoardProcess, folder: Path, mib: int) -> None:
    """Kill the board in the middle of an upload, and start it again on the same port."""
    file = make_file(folder / "cut.bin", mib)
    sent: list[int] = []
    half = threading.Event()

    def progress(done: int, total: int) -> None:
        sent.append(done)
        if done > total // 2:
            half.set()

    with store_of(board) as store:
        upload = threading.Thread(target=store.put_file, args=(file,), kwargs={"progress": progress})
        begun = time.perf_counter()
        upload.start()
        half.wait(60)
        board.kill()
        board.start()
        upload.join()
        again = min(later for earlier, later in pairwise(sent) if later < earlier)
        print(
            f"store {mib} MiB with a kill -9 of the board half way: {time.perf_counter() - begun:.2f} s; "
            f"it went on from {again / MIB:.0f} MiB"
        )


def small(board: BoardProcess, count: int) -> None:
    contents = [random.Random(one).randbytes(256 * 1024) for one in range(count)]
    with store_of(board) as store:
        seconds = timed(lambda: [store.put(data) for data in contents])
        print(f"store {count} of 256 KiB, one after the other: {count / seconds:.0f} a second")
        refs = [store.put(data) for data in contents]
        seconds = timed(lambda: [store.get(ref) for ref in refs])
        print(f"fetch {count} of 256 KiB, one after the other: {count / seconds:.0f} a second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as scratch, running("embedded") as engine:
        folder = Path(scratch)
        settings = {"artifacts": {"min_free_mb": 1}, "http": {"port": 18_470}}
        with board_process(folder / "state", engine.port, **settings) as board:
            load = os.getloadavg()[0]
            print(f"{os.cpu_count()} cores, load {load:.1f} at the start")
            large(board, folder, 64 if quick else 512)
            small(board, 100 if quick else 500)
            cut(board, folder, 64 if quick else 256)


if __name__ == "__main__":
    main()
