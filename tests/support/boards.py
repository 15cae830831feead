"""Real boards in processes of their own: start, kill, stop, and ask over HTTP."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import httpx

from support import board_child
from support.timing import Stopwatch
from support.users import make_users, password

PASSWORDS = {role: password(role) for role in ("viewer", "operator", "node", "board", "admin")}

#: Boards are forked from a process that has loaded what they need; each of them would else take a second or two for that.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["callboard_broker.board"])


class BoardProcess:
    """One board; its state outlives a kill."""

    def __init__(
        self,
        state: Path,
        mqtt: int,
        *,
        database: str = "",
        credential: tuple[str, str] | None = None,
        **settings: Any,
    ) -> None:
        self.state = state
        self.url = ""
        self._process: ForkServerProcess | None = None
        self._wanted = {
            "mqtt": mqtt,
            "credential": credential,
            "settings": {"state": str(state), "http": {"port": 0}, "database": {"url": database}} | settings,
        }
        make_users(state)

    @property
    def pid(self) -> int:
        assert self._process is not None
        assert self._process.pid is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return (self.state / "board.log").read_text(errors="replace")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        here, there = _FORKS.Pipe(duplex=False)
        with here:
            with there:
                given = (self._wanted, self.state / "board.log", there)
                self._process = _FORKS.Process(target=board_child.run, args=given)
                self._process.start()
            try:
                self.url = here.recv()
            except EOFError:
                code = self.wait(30)
                self._end()
                raise RuntimeError(f"the board ended with {code}:\n{self.log}") from None

    def ensure(self) -> None:
        """Start it again if a test has left it dead."""
        if self._process is None:
            self.start()

    def client(self, role: str = "operator", **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, auth=(role, PASSWORDS[role]), timeout=30, **options)

    def metrics(self) -> dict[str, float]:
        """Every sample without labels, by name without the `callboard_` in front."""
        with self.client("viewer") as client:
            lines = client.get("/metrics").raise_for_status().text.splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#") and "{" not in line)
        return {name.removeprefix("callboard_"): float(value) for name, value in pairs}

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float) -> int:
        """Wait until it has ended; return its exit code."""
        assert self._process is not None
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"the board has not ended within {timeout:g} s"
        return self._process.exitcode

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._end()

    def stop(self) -> Stopwatch:
        """Stop politely; return what it took."""
        took = Stopwatch()
        if self._process is not None:
            self._process.terminate()
            self._end()
        took.stop()
        return took

    def _end(self) -> None:
        assert self._process is not None
        self.wait(20)
        self._process.close()
        self._process = None


@contextlib.contextmanager
def board_process(state: Path, mqtt: int, **options: Any) -> Iterator[BoardProcess]:
    """A started board, stopped at the end."""
    board = BoardProcess(state, mqtt, **options)
    try:
        board.start()
        yield board
    finally:
        board.stop()


def eventually(check: Callable[[], Any], *, timeout: float = 40.0, every: float = 0.05) -> Any:
    """Return what ``check`` returns once it is true; for what can only be asked, not awaited."""
    deadline = time.monotonic() + timeout
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s; last answer: {found!r}")
        time.sleep(every)
