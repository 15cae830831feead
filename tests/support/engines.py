"""Real broker processes for tests: start, stop, kill and restart `embedded` and `mosquitto` on free ports."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support import wire
from support.users import make_users, password

CHILD = Path(__file__).with_name("embedded_child.py")
ENGINES = ("embedded", "mosquitto")


@dataclass(frozen=True)
class Options:
    """What a test wants from its broker.

    Attributes:
        access: rules on, and one user per role (named like it, password "ROLE-password"); otherwise anybody may
            do anything.
        limits: bounds of the embedded engine, by field name of its settings; `durability` likewise.
        listeners: further listeners of the embedded engine, by name, as its `config` takes them.
        mosquitto: further lines for mosquitto's configuration.
    """

    access: bool = False
    limits: dict[str, Any] = field(default_factory=dict)
    durability: dict[str, Any] = field(default_factory=dict)
    listeners: dict[str, Any] = field(default_factory=dict)
    mosquitto: tuple[str, ...] = ()


def free_port() -> int:
    """A port nobody listens on, from below the range that outgoing connections are given theirs from."""
    while True:
        port = 15_000 + secrets.randbelow(17_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Engine:
    """A broker in a child process; its state directory outlives a kill."""

    name: str

    def __init__(self, state: Path, options: Options = Options()) -> None:
        self.state, self.options = state, options
        self.port = free_port()
        self.log = state / "engine.log"
        self._process: subprocess.Popen[bytes] | None = None
        state.mkdir(parents=True, exist_ok=True)
        if options.access:
            make_users(state)

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 90
        while not self._answers():
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self._process.returncode}:\n{self.text()}")
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"{self.name} does not listen:\n{self.text()}")

    def _answers(self) -> bool:
        try:
            socket.create_connection(self.address, timeout=1).close()
        except OSError:
            time.sleep(0.01)  # nothing to await: the port is not ours until the child binds it
            return False
        return True

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float = 20) -> int:
        assert self._process is not None
        return self._process.wait(timeout)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """End it politely; returns the exit status."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            return self._process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def restart(self) -> None:
        self.stop()
        self.start()

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def text(self) -> str:
        """What the broker has logged so far."""
        return self.log.read_text(errors="replace")

    def rss(self) -> int:
        """Resident memory in bytes."""
        fields = Path(f"/proc/{self.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        """User and system time used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def connect(self, client_id: str, **options: Any) -> wire.Wire:
        return wire.connect(self.address, client_id, **options)


class Mosquitto(Engine):
    """Debian's mosquitto with a generated configuration."""

    name = "mosquitto"

    def command(self) -> list[str]:
        lines = [
            f"listener {self.port} 127.0.0.1",
            "user root",
            f"allow_anonymous {'false' if self.options.access else 'true'}",
            "set_tcp_nodelay true",
            "persistence true",
            f"persistence_location {self.state}/",
            "sys_interval 1",
            "log_type error",
            "log_type warning",
            "max_queued_messages 0",  # 2.0's count of what is queued leaks, so any limit is reached in the end
            *(self._access() if self.options.access else ()),
            *self.options.mosquitto,
        ]
        config = self.state / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n")
        return [shutil.which("mosquitto") or "/usr/sbin/mosquitto", "-c", str(config)]

    def _access(self) -> list[str]:
        from callboard_broker.access import Role, User, mosquitto
        from callboard_broker.access.rules import RULES

        # Mosquitto's own default number of hash rounds, so that its log-ins are as fast as it makes them.
        hashes = {role: mosquitto.hash_password(password(role), rounds=101) for role in Role}
        passwords, rules = self.state / "passwords", self.state / "rules"
        passwords.write_text("".join(f"{role}:{hashed}\n" for role, hashed in hashes.items()))
        rules.write_text(mosquitto.access_file("callboard", [User(role, role) for role in Role], RULES.get))
        return [f"password_file {passwords}", f"acl_file {rules}"]


class Embedded(Engine):
    """Callboard's own engine, alone in a process of its own."""

    name = "embedded"

    def command(self) -> list[str]:
        wanted = asdict(self.options) | {"port": self.port, "state": str(self.state)}
        del wanted["mosquitto"]
        return [sys.executable, str(CHILD), json.dumps(wanted)]


def make(name: str, state: Path, options: Options = Options()) -> Engine:
    return {"embedded": Embedded, "mosquitto": Mosquitto}[name](state, options)


@contextlib.contextmanager
def running(name: str, state: Path | None = None, options: Options = Options()) -> Iterator[Engine]:
    """A started engine, stopped at the end (killed when it does not obey)."""
    with tempfile.TemporaryDirectory(prefix="engine-") as scratch:
        engine = make(name, state or Path(scratch), options)
        try:
            engine.start()
            yield engine
        finally:
            if engine.is_running():
                engine.signal(signal.SIGCONT)
                engine.stop()


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One open broker of each kind for the whole run; tests keep apart by ids and topics of their own."""
    with running(request.param, tmp_path_factory.mktemp(request.param)) as started:
        yield started


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Engine]:
    """A fresh embedded engine for one test."""
    with running("embedded", tmp_path) as started:
        yield started


_numbers = iter(range(1, 1_000_000))


@pytest.fixture
def unique() -> str:
    """A word no other test uses, for client ids and topics."""
    return f"t{os.getpid()}x{next(_numbers)}"
