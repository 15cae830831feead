"""Where a broker's processor time goes: samples of its stacks by py-spy, summed up by the function that was running.

How much of the time is the kernel's is the process's own count, from /proc/PID/stat.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

#: Samples a second. Each stops the process for some milliseconds, so a load takes about twice as long as without.
RATE = 200
_FRAME = re.compile(r"^(?P<function>.+?) \((?P<file>[^)]*?)(?::\d+)?\)$")
#: Where nothing is done.
_IDLE = {"epoll_wait", "epoll_pwait", "PyThread_acquire_lock_timed", "poll", "select"}
_WRITE, _READ = "system call: write to a socket", "system call: read from a socket"
_SYSTEM = {"send": _WRITE, "write": _WRITE, "writev": _WRITE, "sendmsg": _WRITE, "recv": _READ, "read": _READ}
#: Source files of uvloop and libuv.
_LOOP = {"loop.c", "stream.c", "core.c", "linux.c", "loop-watcher.c", "tcp.c", "timer.c", "async.c"}


@dataclass
class Profile:
    """Samples by place, and the share of processor time that was spent in the kernel (0 to 1)."""

    samples: Counter[str] = field(default_factory=Counter)
    kernel: float = 0.0

    def top(self, least: float) -> list[tuple[str, float]]:
        """Places with at least this share (0 to 1), the largest first."""
        total = max(1, self.samples.total())
        return [(name, n / total) for name, n in self.samples.most_common() if n / total >= least]


@contextlib.contextmanager
def sampled(pid: int) -> Iterator[Profile]:
    """Sample a process while the block runs; the profile is filled in when it ends."""
    program = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if program is None:
        sys.exit(
            "bench: --profile needs py-spy (`.venv/bin/pip install py-spy`) and the right to trace processes"
        )
    profile = Profile()
    with tempfile.NamedTemporaryFile(prefix="profile-") as raw:
        options = [
            "--pid",
            str(pid),
            "--rate",
            str(RATE),
            "--native",
            "--format",
            "raw",
            "--output",
            raw.name,
        ]
        with subprocess.Popen(
            [program, "record", *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as spy:
            assert spy.stdout is not None
            if "Sampling process" not in (said := spy.stdout.readline()):
                sys.exit(f"bench: {said}{spy.stdout.read()}")
            before = _seconds(pid)
            yield profile
            user, kernel = (now - then for now, then in zip(_seconds(pid), before, strict=True))
            spy.send_signal(signal.SIGINT)
            spy.stdout.read()
        profile.kernel = kernel / max(user + kernel, 1e-9)
        for line in Path(raw.name).read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            where = _where(stack.split(";"))
            if where is not None:
                profile.samples[where] += int(count)


def _seconds(pid: int) -> tuple[float, float]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / tick, int(fields[12]) / tick


def _where(stack: list[str]) -> str | None:
    """Name the place of a sample: a system call, the event loop, or the innermost Python function; None if idle."""
    frames = [(found["function"], found["file"]) for found in map(_FRAME.match, stack) if found]
    native: list[tuple[str, str]] = []
    for function, file in reversed(frames):
        if function in _IDLE:
            return None
        if function in _SYSTEM and not native:
            return _SYSTEM[function]
        if file.endswith(".py"):
            if any(Path(name).name in _LOOP for _, name in native):
                break
            return f"{function} ({Path(file).name})"
        native.append((function, file))
    return "uvloop"
