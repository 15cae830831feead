"""A service of many processes: eight workers behind the board's HTTP front; a ninth joins while it is in use.

Every worker is ``python worker.py``; on other machines it is the same command. Nobody is told who the workers are.
"""

import base64
import json
import subprocess
import sys
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import callboard
from callboard import Heard
from callboard_core.runtime import read_runtime
from callboard_core.settings import load_settings

WORKER = Path(__file__).with_name("worker.py")

runtime = read_runtime(load_settings().value.state)
operator = runtime.credentials["operator"]
secret = f"{operator.username}:{operator.password_file.read_text().strip()}"
authorization = f"Basic {base64.b64encode(secret.encode()).decode()}"


def start_worker() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, WORKER], stderr=subprocess.DEVNULL)


def texture(x: int, y: int) -> list[list[float]]:
    """Ask over HTTP, as ``curl -u operator:… URL/api/v1/services/texture?x=2&y=2`` does."""
    url = f"{runtime.http.url}/api/v1/services/texture?x={x}&y={y}"
    request = urllib.request.Request(url, headers={"Authorization": authorization})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)["result"]


def ask(times: int) -> Counter[str]:
    """Ask so many times, nine at a time; returns who answered how often."""
    with ThreadPoolExecutor(9) as clients:
        tables = list(clients.map(lambda _: texture(2, 3), range(times)))
    assert all(len(table) == 3 and len(row) == 2 for table in tables for row in table)
    return Counter(answered.get(timeout=20).node for _ in range(times))


with callboard.connect() as board:
    answered: SimpleQueue[Heard] = SimpleQueue()
    board.listen("textured", answered.put).ready.result(20)
    workers = [start_worker() for _ in range(8)]
    try:
        board.pool("texture").wait_ready(30, members=8)
        table = texture(2, 2)
        print("a table of", len(table), "rows and", len(table[0]), "columns")
        answered.get(timeout=20)
        first = ask(32)
        print("32 calls were answered by", len(first), "workers")
        workers.append(start_worker())
        board.pool("texture").wait_ready(30, members=9)
        second = ask(36)
        print("the late worker has joined:", len(second) == 9 and len(second.keys() - first.keys()) == 1)
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(20)
