"""Threads and the loop on which handlers run."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError

import pytest

from callboard_core.runners import LoopThread, Pool


def test_a_pool_reuses_free_threads_and_refuses_when_all_are_busy() -> None:
    pool, release, ran = Pool("test-pool", 2), threading.Event(), threading.Semaphore(0)

    def work() -> None:
        ran.release()
        release.wait(5)

    assert pool.run(work)
    assert pool.run(work)
    assert not pool.run(work)
    release.set()
    for _ in range(2):
        assert ran.acquire(timeout=5)
    deadline = time.monotonic() + 5
    while pool._free < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert pool.run(work)
    assert ran.acquire(timeout=5)
    pool.stop()


def test_a_thread_that_hangs_does_not_keep_the_interpreter_from_ending() -> None:
    code = (
        "import time; from callboard_core.runners import Pool; "
        "Pool('p', 1).run(lambda: time.sleep(60)); print('end')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=20, check=True)
    assert done.stdout == b"end\n"


def test_coroutines_run_and_are_cancelled_at_the_end() -> None:
    loop = LoopThread("test-loop")

    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    assert loop.submit(answer()).result(5) == 42
    sleeping = loop.submit(asyncio.sleep(60))
    loop.submit(answer()).result(5)
    loop.stop()
    with pytest.raises(CancelledError):
        sleeping.result(5)
    assert not [t for t in threading.enumerate() if t.name == "test-loop"]
