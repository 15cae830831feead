"""Worker processes for tests: real nodes that can be killed, stopped and let go on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from callboard_core.link import Endpoint

__all__ = ["Child", "MakeChild", "children"]

PROGRAM = Path(__file__).with_name("worker_child.py")

MakeChild = Callable[..., "Child"]


class Child:
    """One node process."""

    def __init__(self, node: str, endpoint: Endpoint, folder: Path, **settings: Any) -> None:
        self.node, self.runs = node, folder / "runs"
        arguments = [node, str(endpoint), str(folder), str(self.runs), json.dumps(settings)]
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_up(self) -> Child:
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == "up", "the worker's process ended"
        return self

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def noted(self, what: str) -> list[str]:
        """The nodes on which a call was begun."""
        return [node for node, _ in self._notes(what)]

    def begun(self, what: str) -> list[float]:
        """When a call was begun, each time; on the monotonic clock."""
        return [when for _, when in self._notes(what)]

    def _notes(self, what: str) -> list[tuple[str, float]]:
        lines = self.runs.read_text().splitlines() if self.runs.exists() else []
        found = [line.removeprefix(f"{what} ").split() for line in lines if line.startswith(f"{what} ")]
        return [(node, float(when)) for node, when in found]

    def close(self) -> None:
        if self._process.poll() is None:
            self.go_on()
            with contextlib.suppress(subprocess.TimeoutExpired, BrokenPipeError):
                self._process.communicate(timeout=10)
        if self._process.poll() is None:
            self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def children(tmp_path: Path) -> Iterator[MakeChild]:
    """Start worker nodes: ``children(endpoint, "a", "b", **settings)`` returns them once they are up."""
    made: list[Child] = []

    def start(endpoint: Endpoint, *nodes: str, **settings: Any) -> list[Child]:
        new = [Child(node, endpoint, tmp_path, **settings) for node in nodes]
        made.extend(new)
        return [child.wait_up() for child in new]

    yield start
    for child in made:
        child.close()
