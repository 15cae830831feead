"""Other systems beside ours: each in a virtual environment of its own under a cache folder, never in this project's."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CACHE = Path.home() / ".cache" / "callboard-bench"
#: Seconds for one peer's whole run.
PATIENCE = 240

TASKS = """
import os
from celery import Celery

app = Celery("tasks", broker=os.environ["REDIS"], backend=os.environ["REDIS"])
app.conf.worker_hijack_root_logger = False

@app.task
def nothing(number):
    return number
"""

CELERY = """
import subprocess, sys, time
from celery import group
from tasks import app, nothing

def run(count):
    began = time.perf_counter()
    results = group(nothing.s(number) for number in range(count))()
    assert sum(results.get(timeout=200)) == count * (count - 1) // 2
    return count / (time.perf_counter() - began)

command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--concurrency", "2", "--loglevel", "ERROR"]
worker = subprocess.Popen(command)
try:
    run(200)
    print("RESULT", run(int(sys.argv[1])), flush=True)
finally:
    worker.terminate()
    worker.wait()
"""

DASK = """
import sys, time
from dask.distributed import Client, LocalCluster

def nothing(number):
    return number

def run(client, count):
    began = time.perf_counter()
    found = client.gather(client.map(nothing, range(count), pure=False))
    assert sum(found) == count * (count - 1) // 2
    return count / (time.perf_counter() - began)

if __name__ == "__main__":
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        run(client, 200)
        print("RESULT", run(client, int(sys.argv[1])), flush=True)
"""


@dataclass(frozen=True)
class Missing:
    """A number that could not be taken, and why."""

    why: str


def python_with(cache: Path, name: str, *packages: str) -> Path:
    """Return the Python of a virtual environment with these packages; made if need be.

    Raises:
        RuntimeError: it cannot be made; the message says why.
    """
    folder = cache / name
    python, ready = folder / "bin" / "python", folder / "ready.json"
    if ready.exists() and json.loads(ready.read_text()) == list(packages):
        return python
    try:
        subprocess.run(
            [sys.executable, "-m", "venv", "--clear", str(folder)], check=True, capture_output=True
        )
        install = [str(python), "-m", "pip", "install", "-q", *packages]
        subprocess.run(install, check=True, capture_output=True, timeout=300)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError(f"{', '.join(packages)}: {said[-1] if said else error}") from None
    except (subprocess.SubprocessError, OSError) as error:
        raise RuntimeError(f"{', '.join(packages)}: {error}") from None
    ready.write_text(json.dumps(packages))
    return python


def celery_rate(cache: Path, count: int) -> float | Missing:
    """Tasks a second of Celery with two worker processes, Redis for both queue and results."""
    try:
        python = python_with(cache, "celery", "celery[redis]==5.5.3")
        with tempfile.TemporaryDirectory(prefix="celery-") as folder, redis(Path(folder)) as address:
            Path(folder, "tasks.py").write_text(TASKS)
            return _rate(python, CELERY, count, Path(folder), {"REDIS": address})
    except RuntimeError as error:
        return Missing(str(error))


def dask_rate(cache: Path, count: int) -> float | Missing:
    """Tasks a second of Dask's scheduler with two worker processes of one thread."""
    try:
        python = python_with(cache, "dask", "distributed==2025.9.1")
        with tempfile.TemporaryDirectory(prefix="dask-") as folder:
            return _rate(python, DASK, count, Path(folder), {})
    except RuntimeError as error:
        return Missing(str(error))


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    """A Redis of our own that writes nothing to the disk; brings its address.

    Raises:
        RuntimeError: there is none, or it does not start.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise RuntimeError("redis-server is not installed")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    argv = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    process = subprocess.Popen([*argv, "--dir", str(folder)], stdout=subprocess.DEVNULL)
    try:
        _wait_for(process, port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError("redis-server does not answer")


def _rate(python: Path, program: str, count: int, folder: Path, env: dict[str, str]) -> float:
    script = folder / "program.py"
    script.write_text(program)
    child = subprocess.Popen(
        [str(python), str(script), str(count)],
        cwd=folder,
        env=os.environ | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    try:
        out, err = child.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"not done after {PATIENCE} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    for line in out.splitlines():
        if line.startswith("RESULT "):
            return float(line.split()[1])
    raise RuntimeError((err.strip().splitlines() or [f"exit code {child.returncode}"])[-1])
