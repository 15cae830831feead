"""A real ``callboard up`` for tests: free ports, a state folder of its own, and a check that nothing is left."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from callboard_core.directory import Directory
from callboard_core.errors import CallboardError
from callboard_core.link import Credential, Endpoint, Link
from callboard_core.runtime import Runtime, read_runtime

#: Commands whose second word is the verb.
GROUPS = {"farm", "job", "join", "project", "trust"}
CALLBOARD = (sys.executable, "-P", "-m", "callboard_console.cli.main")
#: Seconds; a machine that runs tests is slow.
READY = 120.0


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment(home: Path, discovery_port: int | None = None) -> dict[str, str]:
    """This process's environment without anybody's settings, and with a discovery nobody else takes part in."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CALLBOARD_", "XDG_"))}
    return kept | {
        "XDG_CONFIG_HOME": str(home / "config"),
        "CALLBOARD_DISCOVERY_PORT": str(discovery_port or free_udp_port()),
        "CALLBOARD_DISCOVERY_MDNS": "false",
        "COLUMNS": "200",
    }


def processes_of(state: Path) -> dict[int, str]:
    """Command lines of the processes that work on a state folder, by pid."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if str(state) in line:
                    found[int(entry.name)] = line
    return found


def eventually(
    check: Callable[[], Any], what: str | Callable[[], str], timeout: float = 40.0, every: float = 0.05
) -> Any:
    """Return the first true result of ``check``; for what has no event to wait for."""
    deadline = time.monotonic() + timeout
    while not (result := check()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what if isinstance(what, str) else what()}")
        time.sleep(every)
    return result


@dataclass
class Up:
    """A ``callboard up`` process and its state folder."""

    state: Path
    flags: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def runtime(self) -> Runtime:
        found = read_runtime(self.state)
        assert found is not None, f"no board runs on {self.state}:\n{self.logs()}"
        return found

    @property
    def output(self) -> str:
        return (self.state.parent / "up.out").read_text()

    def start(self) -> Up:
        """Start it; returns at once."""
        with (self.state.parent / "up.out").open("w") as out, (self.state.parent / "up.err").open("a") as err:
            self.process = subprocess.Popen(
                [*self.prefix, *CALLBOARD, "up", "--state", str(self.state), *self.flags],
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                text=True,
                env=self.env,
                start_new_session=True,
            )
        return self

    def wait_ready(self, timeout: float = READY) -> Up:
        """Wait until it has said ``ready``."""

        def ready() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"up ended with {self.process.returncode}:\n{self.logs()}")
            return self.output.startswith("ready") and self.output.endswith("\n")

        eventually(ready, lambda: f"ready line of up; logs:\n{self.logs()}", timeout)
        return self

    def wait_whole(self, timeout: float = READY) -> Runtime:
        """Wait until every role is ready (again)."""

        def whole() -> Runtime | None:
            runtime = read_runtime(self.state)
            return runtime if runtime is not None and runtime.ready else None

        return eventually(whole, lambda: f"every role ready\n{self.logs()}", timeout)

    def cli(
        self, *arguments: str, timeout: float = 150, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a verb of the command line on this state folder."""
        named = arguments[0] in GROUPS and not "".join(arguments[1:2]).startswith("-")
        verb = 2 if named else 1
        done = subprocess.run(
            [*self.prefix, *CALLBOARD, *arguments[:verb], "--state", str(self.state), *arguments[verb:]],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.env,
            check=False,
        )
        assert not check or done.returncode == 0, (
            f"{arguments} ended with {done.returncode}: {done.stderr}\n{self.logs()}"
        )
        return done

    def json(self, *arguments: str) -> Any:
        """Run a verb and read what it prints as JSON."""
        return json.loads(self.cli(*arguments, "--json").stdout)

    def password(self, role: str) -> str:
        return (self.state / "credentials" / f"{role}.password").read_text().strip()

    def logs(self) -> str:
        """What it and its roles have written lately."""
        files = [
            self.state.parent / "up.out",
            self.state.parent / "up.err",
            *sorted(self.state.glob("log/*.log")),
        ]
        return "\n".join(
            f"--- {file.name}\n{file.read_text(errors='replace')[-3000:]}" for file in files if file.exists()
        )

    def get(self, path: str, user: str = "viewer") -> Any:
        """Read something from the HTTP API."""
        return json.loads(self.read(path, user))

    def read(self, path: str, user: str = "viewer") -> str:
        """The same as text."""
        request = urllib.request.Request(self.runtime.http.url + path)
        secret = base64.b64encode(f"{user}:{self.password(user)}".encode()).decode()
        request.add_header("Authorization", f"Basic {secret}")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=20) as answer:
            return str(answer.read(), "utf-8")

    @contextlib.contextmanager
    def link(self, user: str = "admin") -> Iterator[Link]:
        """A connection to the broker."""
        mqtt = self.runtime.mqtt
        link = Link(
            client_id=f"test-{os.urandom(4).hex()}",
            endpoint=Endpoint(mqtt.host, mqtt.port),
            credential=Credential(user, self.password(user)),
            site=self.runtime.site,
        )
        link.start()
        try:
            link.wait_connected(20)
            yield link
        finally:
            link.stop()

    def nodes(self) -> dict[str, str]:
        """Status of every node in the directory, read over MQTT; empty while the board does not answer."""
        if self.prefix:  # it runs in another network
            return {row["node"]: row["status"] for row in self.json("ls", "nodes")}
        try:
            with self.link("viewer") as link:
                directory = Directory(link)
                directory.start()
                directory.wait_complete(10)
                return {node.id: node.status.status.value for node in directory.nodes() if node.status}
        except CallboardError:
            return {}

    def value(self, node: str, name: str) -> Any:
        """Last value of a thing."""
        (row,) = self.json("ls", "all", "--node", node, "--name", name)
        return row["value"]

    def kill_role(self, role: str) -> int:
        """Kill a role's process with SIGKILL; returns the pid it had."""
        pid = self.runtime.pids[role]
        os.kill(pid, signal.SIGKILL)
        return pid

    def stop(self, number: int = signal.SIGTERM, timeout: float = 30.0) -> int:
        """End it by a signal; returns the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout)

    def assert_nothing_left(self) -> None:
        eventually(
            lambda: not processes_of(self.state), lambda: f"no process left: {processes_of(self.state)}", 10.0
        )


class OwnNode:
    """Runs a Python file with ``callboard node``, on this machine or as if on another one (its own state)."""

    def __init__(self, up: Up, node: str, code: str, *, state: Path | None = None) -> None:
        self.up, self.node = up, node
        self.state = state or up.state
        self.log = up.state.parent / f"{node}-{self.state.name}.log"
        self.file = up.state.parent / f"{node}.py"
        self.file.write_text(code)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *flags: str) -> subprocess.Popen[bytes]:
        """Start it; returns at once."""
        command = [*CALLBOARD, "node", "--state", str(self.state), *flags, str(self.file)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command, env=self.up.env, stdout=log, stderr=log, start_new_session=True
            )
        return self.process

    def join(self) -> Self:
        """Start it, and wait until it is on the board."""
        self.start()
        eventually(
            lambda: self.up.nodes().get(self.node) == "ready",
            lambda: f"{self.node} ready\n{self.log.read_text()}",
            READY,
        )
        return self

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)

    def __enter__(self) -> Self:
        return self.join()

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextlib.contextmanager
def running_board(
    folder: Path,
    *flags: str,
    engine: str = "embedded",
    console: bool = False,
    node: bool = True,
    env: dict[str, str] | None = None,
    prefix: tuple[str, ...] = (),
) -> Iterator[Up]:
    """A board that is ready, on free ports; stopped at the end, and nothing of it is left.

    Args:
        folder: an empty folder; the state is ``folder/state``.
        flags: more flags of ``callboard up``.
        engine: ``embedded``, ``mosquitto`` or a URL.
        console: also the web console.
        node: also a node (id ``here``) that reads this machine's sensors.
        env: variables to add.
        prefix: a command to run all commands with, such as ``ip netns exec …``.
    """
    up = prepare_board(folder, *flags, engine=engine, console=console, node=node, env=env, prefix=prefix)
    try:
        yield up.start().wait_ready()
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            up.stop()
        if up.process is not None and up.process.poll() is None:
            up.process.kill()
            up.process.wait()
        up.assert_nothing_left()


def prepare_board(
    folder: Path,
    *flags: str,
    engine: str = "embedded",
    console: bool = False,
    node: bool = True,
    env: dict[str, str] | None = None,
    prefix: tuple[str, ...] = (),
) -> Up:
    """The same, not started."""
    ports = ("--mqtt-port", "0", "--http-port", "0", "--console-port", "0")
    chosen = ("--engine", engine, "--node-id", "here")
    without = (*(() if console else ("--no-console",)), *(() if node else ("--no-node",)))
    return Up(
        state=folder / "state",
        flags=(*ports, *chosen, *without, *flags),
        env=clean_environment(folder) | (env or {}),
        prefix=prefix,
    )
