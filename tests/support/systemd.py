"""Enough of systemd to run an installed node's units: services, the path unit, the timer, and a ``systemctl`` for them."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from callboard_core.processes import dying_with_parent
from callboard_nodes.install.layout import Layout

__all__ = ["Supervisor"]

_SYSTEMCTL = """\
#!/bin/sh
printf '%s\\n' "$*" > "{folder}/$$.new"
mv "{folder}/$$.new" "{folder}/$$.ask"
while [ ! -e "{folder}/$$.done" ]; do sleep 0.02; done
rm "{folder}/$$.done"
"""


class Supervisor:
    """Runs the units that lie under a layout's root, as systemd does, but for their hardening.

    Attributes:
        starts: how often each unit was started.
    """

    def __init__(self, layout: Layout, folder: Path, env: dict[str, str] | None = None) -> None:
        self.layout = layout
        self.log = folder / "units.log"
        self.starts: dict[str, int] = {}
        self._folder = folder / "systemctl"
        self._folder.mkdir(parents=True)
        program = folder / "bin" / "systemctl"
        program.parent.mkdir()
        program.write_text(_SYSTEMCTL.format(folder=self._folder))
        program.chmod(0o755)
        self._env = {"PATH": f"{program.parent}:/usr/bin:/bin", "LANG": "C.UTF-8", **(env or {})}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._wanted: set[str] = set()
        self._due: dict[str, float] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        """Boot."""
        self._start("callboard-node.service")
        self._wanted.add("callboard-node.service")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.power_off()
        if error is not None:
            print(self.log.read_text(errors="replace")[-6000:])

    def power_off(self) -> None:
        """Kill everything at once."""
        self._stopped.set()
        self._thread.join()
        for process in self._running.values():
            _kill(process)
        self._running.clear()

    def boot_again(self) -> Supervisor:
        """Return what runs after a power cut."""
        folder = self._folder.parent / f"boot-{time.monotonic_ns()}"
        folder.mkdir()
        env = {name: value for name, value in self._env.items() if name not in {"PATH", "LANG"}}
        return Supervisor(self.layout, folder, env)

    def _run(self) -> None:
        while not self._stopped.wait(0.02):
            for ask in list(self._folder.glob("*.ask")):
                self._obey(shlex.split(ask.read_text()))
                ask.rename(ask.with_suffix(".done"))
            self._look_after()

    def _obey(self, arguments: list[str]) -> None:
        verb, *rest = [one for one in arguments if not one.startswith("--")]
        (unit,) = rest
        match verb:
            case "restart":
                self._stop(unit)
                self._start(unit)
            case "start":
                if not self._is_running(unit):
                    self._start(unit)
            case "kill":
                if self._is_running(unit):
                    _kill(self._running[unit])

    def _look_after(self) -> None:
        now = time.monotonic()
        for unit in self._wanted:
            if not self._is_running(unit) and now >= self._due.setdefault(unit, now + 0.3):
                self._start(unit)
        if self.layout.request.exists() and not self._is_running("callboard-update.service"):
            self._start("callboard-update.service")
        rollback = "callboard-rollback.service"
        if (
            self.layout.journal.exists()
            and now >= self._due.get(rollback, 0)
            and not self._is_running(rollback)
        ):
            self._start(rollback)
            self._due[rollback] = now + 2.0

    def _is_running(self, unit: str) -> bool:
        process = self._running.get(unit)
        return process is not None and process.poll() is None

    def _start(self, unit: str) -> None:
        self._due.pop(unit, None)
        self.starts[unit] = self.starts.get(unit, 0) + 1
        text = self.layout.unit(unit).read_text().splitlines()
        command = next(line for line in text if line.startswith("ExecStart=")).partition("=")[2]
        env = dict(self._env)
        for line in text:
            if line.startswith("Environment="):
                env |= dict(one.split("=", 1) for one in line.partition("=")[2].split())
        with self.log.open("ab") as log:
            self._running[unit] = subprocess.Popen(
                shlex.split(command),
                env=env,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                preexec_fn=dying_with_parent(),  # noqa: PLW1509 - one prctl call; also when the run is killed
            )

    def _stop(self, unit: str) -> None:
        process = self._running.get(unit)
        if process is not None and process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
