"""A real Mosquitto for tests: on a free port, with a log, killable and restartable."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from callboard_core.link import Endpoint

__all__ = ["Mosquitto", "durable", "free_port", "mosquitto"]

PROGRAM = shutil.which("mosquitto") or "/usr/sbin/mosquitto"


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mosquitto:
    """One broker process; it keeps its port, and its store if it has one, over restarts."""

    def __init__(self, folder: Path, *, extra: str = "", anonymous: bool = True, store: bool = False) -> None:
        self.folder = folder
        self.port = free_port()
        self.log = folder / "mosquitto.log"
        self.store = folder / "mosquitto.db"
        self.process: subprocess.Popen[bytes] | None = None
        self.config = folder / "mosquitto.conf"
        self.config.write_text(
            f"user {getpass.getuser()}\n"  # it would leave root, and then not reach the test's folder
            f"listener {self.port} 127.0.0.1\n"
            f"allow_anonymous {'true' if anonymous else 'false'}\n"
            "set_tcp_nodelay true\n"
            f"persistence {'true' if store else 'false'}\n"
            f"persistence_location {folder}/\n"
            "autosave_on_changes true\n"
            "autosave_interval 1\n"
            "log_type all\n"
            "connection_messages true\n"
            + ("max_queued_messages 0\n" if "max_queued" not in extra else "")
            + extra
        )

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("127.0.0.1", self.port)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "-c", str(self.config)], stdout=log, stderr=log, cwd=self.folder
            )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"mosquitto ended at once: {self.log.read_text()[-2000:]}")
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)  # there is no event to wait for: another program opens its port
        raise RuntimeError("mosquitto did not open its port in 30 s")

    def kill(self, *, forget: bool = False) -> None:
        """End it as a power cut would; ``forget`` also deletes what it had retained."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        if forget:
            self.store.unlink(missing_ok=True)

    def stop(self) -> None:
        """End it in order: the store is written."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def reload(self) -> None:
        """Read the password file again."""
        assert self.process is not None
        self.process.send_signal(1)


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A running broker, anonymous, that forgets everything when it ends."""
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[Mosquitto]:
    """A running broker, anonymous, that writes its store at every change."""
    broker = Mosquitto(tmp_path, store=True)
    broker.start()
    yield broker
    broker.kill()
