"""A node that offers workers, in a process of its own, for tests to kill, stop and go on.

Arguments: node id, ``mqtt://host:port``, state folder, file in which runs are noted, JSON of settings for the workers,
and perhaps JSON of settings for the node; ``days`` puts its clock wrong.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

node_id, board, folder, runs, extra = sys.argv[1:6]
more = json.loads(extra)
node_settings = json.loads(sys.argv[6]) if len(sys.argv) > 6 else {}
if days := node_settings.pop("days", 0):
    honest = time.time
    time.time = lambda: honest() + days * 86400

from callboard import Node  # noqa: E402 - the clock must be wrong before
from callboard_core.settings import Settings  # noqa: E402 - likewise

node = Node(node_id, settings=Settings(state=Path(folder) / node_id, node={"board": board, **node_settings}))
_writing = threading.Lock()


def note(what: str) -> None:
    """Note that a call was begun; one line is written at once, so that processes do not mix theirs."""
    with _writing, Path(runs).open("a") as file:
        file.write(f"{what} {node_id} {time.monotonic()}\n")  # one clock for all processes of a machine


@node.worker(service=f"who:{node_id}", idempotent=True, concurrency=4, **more)
def who() -> str:
    return node_id


@node.worker(service=f"sleep:{node_id}", idempotent=True, timeout=60, **more)
def sleep(seconds: float, tag: str = "") -> str:
    note(f"sleep {tag}")
    time.sleep(seconds)
    return node_id


@node.worker(service=f"once:{node_id}", timeout=60, **more)
def once(seconds: float, tag: str) -> str:
    note(f"once {tag}")
    time.sleep(seconds)
    return node_id


node.start(timeout=20)
print("up", flush=True)
sys.stdin.read()  # until the test closes it
node.stop()
