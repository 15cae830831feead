"""A site of several machines on one network, whose processes are killed, stopped and cut off in the middle of calls."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from callboard_core.processes import dying_with_parent
from support.boards import PASSWORDS
from support.netns import Lan, ip
from support.up import clean_environment
from support.users import make_users

__all__ = ["Caller", "Machine", "Outcome", "Site", "site"]

HERE = Path(__file__).parent
PORT = 1883
#: Seconds until a node that is cut off is lost, beside what its heartbeats tell: 1.5 times this.
KEEPALIVE = 4

Outcome = dict[str, Any]


class Machine:
    """One machine of the network and the process that runs on it."""

    def __init__(self, network: Lan, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self._network = network
        self.address = network.add(name)
        self.process: subprocess.Popen[str] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        """Start the process; returns at once."""
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self._network.namespace(self.name), *self.command()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=clean_environment(self.folder) | {"CALLBOARD_STATE": str(self.folder / "state")},
                preexec_fn=dying_with_parent(),  # noqa: PLW1509 - one prctl call
                text=True,
            )

    def wait_up(self) -> None:
        """Wait until it has said something."""
        assert self.process is not None
        assert self.process.stdout is not None
        assert self.process.stdout.readline(), (
            f"{self.name} ended:\n{(self.folder / 'log').read_text()[-3000:]}"
        )

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
            self.process = None

    def pause(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def unplug(self) -> None:
        ip("-n", self._network.switch, "link", "set", self.name, "down")

    def plug(self) -> None:
        ip("-n", self._network.switch, "link", "set", self.name, "up")


class Broker(Machine):
    """The broker; it keeps what is retained over a kill."""

    engine = "embedded"

    def wait_up(self) -> None:
        assert self.process is not None
        sockets = Path(f"/proc/{self.process.pid}/net/tcp")  # of its own network
        until(lambda: f":{PORT:04X} 00000000:0000 0A" in sockets.read_text(), 60, "the broker listens")

    def command(self) -> list[str]:
        if self.engine == "mosquitto":
            config = self.folder / "mosquitto.conf"
            config.write_text(
                f"listener {PORT} {self.address}\nuser root\nallow_anonymous true\nset_tcp_nodelay true\n"
                f"persistence true\npersistence_location {self.folder}/\nautosave_on_changes true\n"
                "autosave_interval 1\nmax_queued_messages 0\n"
            )
            return [shutil.which("mosquitto") or "/usr/sbin/mosquitto", "-c", str(config)]
        wanted = {
            "port": PORT,
            "bind": self.address,
            "state": str(self.folder),
            "access": False,
            "limits": {},
            "durability": {},
            "listeners": {},
        }
        return [sys.executable, str(HERE / "embedded_child.py"), json.dumps(wanted)]


class Board(Machine):
    """The board's process, apart from its broker."""

    broker = ""
    url = ""

    def command(self) -> list[str]:
        make_users(self.folder)
        wanted = {
            "host": self.broker,
            "mqtt": PORT,
            "credential": None,
            "settings": {"state": str(self.folder), "http": {"bind": self.address, "port": 8470}},
        }
        self.url = f"http://{self.address}:8470"
        return [sys.executable, str(HERE / "board_child.py"), json.dumps(wanted)]


class Worker(Machine):
    """A node with the services ``once``, ``sleep`` and ``who``."""

    broker = ""
    runs = Path()
    node_settings: dict[str, Any] = {"keepalive": KEEPALIVE}  # noqa: RUF012 - for all of them

    def command(self) -> list[str]:
        arguments = [self.name, self.broker, str(self.folder), str(self.runs), "{}"]
        return [sys.executable, str(HERE / "worker_child.py"), *arguments, json.dumps(self.node_settings)]


class Caller(Machine):
    """A process that calls; what it is asked to do is answered through futures."""

    broker = ""
    settings: dict[str, Any] = {}  # noqa: RUF012 - read only

    def command(self) -> list[str]:
        return [sys.executable, str(HERE / "fault_child.py"), self.broker, json.dumps(self.settings)]

    def start(self) -> None:
        super().start()
        self._asked: dict[int, Future[Outcome]] = {}
        self._numbers = itertools.count(1)

    def wait_up(self) -> None:
        super().wait_up()
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with contextlib.suppress(ValueError):  # closed
            for line in process.stdout:
                answer = json.loads(line)
                self._asked[answer["id"]].set_result(answer)

    def ask(self, do: str, **more: Any) -> Future[Outcome]:
        """Ask for something; the future is done when the process answers."""
        assert self.process is not None
        assert self.process.stdin is not None
        number, future = next(self._numbers), Future[Outcome]()
        self._asked[number] = future
        self.process.stdin.write(json.dumps({"id": number, "do": do, **more}) + "\n")
        self.process.stdin.flush()
        return future

    def call(self, service: str, timeout: float, **args: Any) -> Future[Outcome]:
        return self.ask("call", service=service, timeout=timeout, args=args)

    def members(self, service: str) -> dict[str, str]:
        """The nodes in a pool and how they stand."""
        return self.ask("members", service=service).result(20)["result"]

    @property
    def waiting(self) -> int:
        """Questions that were not answered."""
        return sum(not future.done() for future in self._asked.values())


class Site:
    """A broker, a board, two workers and a caller, each on a machine of its own.

    Without ``direct`` all of the caller's calls go through the broker.
    """

    def __init__(self, network: Lan, folder: Path, engine: str, *, direct: bool) -> None:
        self.network, self.runs = network, folder / "runs"
        self.broker = Broker(network, "hub", folder / "hub")
        self.broker.engine = engine
        self.board = Board(network, "desk", folder / "desk")
        self.left, self.right = (Worker(network, name, folder / name) for name in ("left", "right"))
        self.caller = Caller(network, "caller", folder / "caller")
        url = f"mqtt://{self.broker.address}:{PORT}"
        self.board.broker = self.broker.address
        self.caller.broker = url
        self.caller.settings = {**Caller.settings, "direct": direct}
        for worker in (self.left, self.right):
            worker.broker, worker.runs = url, self.runs

    @property
    def machines(self) -> list[Machine]:
        return [self.broker, self.board, self.left, self.right, self.caller]

    def start(self) -> None:
        for machine in self.machines:
            machine.start()
        for machine in self.machines:
            machine.wait_up()

    def stop(self) -> None:
        for machine in reversed(self.machines):
            machine.kill()

    def begun(self) -> Counter[str]:
        """How often each call was begun, by ``service tag``."""
        lines = self.runs.read_text().splitlines() if self.runs.exists() else []
        return Counter(" ".join(line.split()[:2]) for line in lines)

    def on(self, what: str) -> str | None:
        """The node on which a call was begun last."""
        lines = self.runs.read_text().splitlines() if self.runs.exists() else []
        return next((line.split()[2] for line in reversed(lines) if line.startswith(f"{what} ")), None)

    def call_by(self, road: str, service: str, timeout: float, **args: Any) -> Future[Outcome]:
        """Call through the board: ``http``, or ``plain`` MQTT."""
        login = (
            {"url": self.board.url, "login": f"operator:{PASSWORDS['operator']}"} if road == "http" else {}
        )
        return self.caller.ask("call", road=road, service=service, timeout=timeout, args=args, **login)


@contextlib.contextmanager
def site(
    network: Callable[[], Any], folder: Path, engine: str = "embedded", *, direct: bool = True
) -> Iterator[Site]:
    """A started site, stopped at the end."""
    with network() as lan:
        made = Site(lan, folder, engine, direct=direct)
        try:
            made.start()
            yield made
        finally:
            made.stop()


def until(holds: Callable[[], object], timeout: float, what: str | Callable[[], str]) -> float:
    """Wait until something holds; returns the seconds it took."""
    begun = time.monotonic()
    while not holds():
        waited = time.monotonic() - begun
        if waited > timeout:
            raise AssertionError(f"{what if isinstance(what, str) else what()}: not within {timeout:g} s")
        time.sleep(0.02)  # another process's file or answer: there is no event
    return time.monotonic() - begun
