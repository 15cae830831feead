"""A board in a network of its own, and what it says about nodes, asked over HTTP from its own machine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.netns import Lan, lan
from support.up import Up, running_board

__all__ = ["ask", "network_of_two", "node", "remote_board"]


@contextmanager
def network_of_two() -> Iterator[Lan]:
    """A network with the machines ``board`` and ``pi``."""
    with lan() as made:
        made.add("board")
        made.add("pi")
        yield made


@contextmanager
def remote_board(network: Lan, folder: Path) -> Iterator[Up]:
    """A board on the machine ``board`` that listens on the network."""
    prefix = ("ip", "netns", "exec", network.namespace("board"))
    with running_board(folder, "--lan", node=False, prefix=prefix) as up:
        yield up


def ask(up: Up, method: str, path: str, body: object = None) -> dict[str, Any]:
    """Ask the board's HTTP API from its own machine."""
    told = [*("--data", json.dumps(body), "-H", "Content-Type: application/json")] if body is not None else []
    done = subprocess.run(
        [
            *(*up.prefix, "curl", "-sS", "-X", method, "-u", f"admin:{up.password('admin')}"),
            *(*told, up.runtime.http.url + path),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return dict(json.loads(done.stdout))


def node(up: Up, name: str) -> dict[str, Any]:
    """What the board says of a node; empty if it knows none."""
    nodes = ask(up, "GET", "/api/v1/nodes")["items"]
    return next((dict(one) for one in nodes if one["id"] == name), {})
