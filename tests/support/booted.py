"""A Debian whose own systemd runs, as the first process of namespaces of its own: a machine without a kernel, up in seconds."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.up import eventually

__all__ = ["Booted"]

#: Into a branch of its own of the tree of control groups, which is the whole tree for those below.
_BEGIN = """\
mount -t cgroup2 cgroup "$2"
mkdir -p "$2/$3"
echo $$ >"$2/$3/cgroup.procs"
umount "$2"
exec unshare --mount --uts --ipc --pid --fork --kill-child --cgroup --propagation private /bin/sh -ec "$0" "$1"
"""
_BOOT = """\
cd "$0"
mount --bind . .
cd "$0"
mount -t proc proc proc
mount -t sysfs -o ro sys sys
mount -t cgroup2 cgroup sys/fs/cgroup
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=755 dev dev
for name in null zero full random urandom tty; do
    : >dev/$name
    mount --bind /dev/$name dev/$name
done
mkdir dev/pts dev/shm
ln -s /proc/self/fd dev/fd
ln -s pts/ptmx dev/ptmx
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
mount -t tmpfs shm dev/shm
mkdir -p .before
pivot_root . .before
umount -l .before
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=test /lib/systemd/systemd --log-target=console <&- >/boot.log 2>&1
"""
_TIDY = 'mount -t cgroup2 cgroup "$0"; find "$0/$1" -depth -type d -delete; umount "$0"'
#: As which signal the parent of a namespace's first process learns what that did (reboot(2)).
_ENDS = {-signal.SIGHUP: "reboot", -signal.SIGINT: "shutdown"}
#: Seconds; several services start.
_LONG = 120.0


class Booted:
    """A machine that systemd has booted.

    Args:
        root: its root file system.
        namespace: the network namespace that it is in.
        folder: an empty folder for what this needs.
    """

    def __init__(self, root: Path, namespace: str, folder: Path) -> None:
        self.root, self._namespace, self._mount = root, namespace, folder / "cgroup"
        self._mount.mkdir(parents=True)
        self._said = folder / "said"
        self._group = f"callboard-test-{namespace}"
        self._process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[Booted]:
        """Have it run until the end, however often it is started anew."""
        try:
            self.boot()
            yield self
        finally:
            self.cut_power()
            if self._unshared(_TIDY, str(self._mount), self._group).wait(60):
                raise AssertionError(f"control groups of {self._group} are left")

    def boot(self) -> None:
        """Start it, and wait until everything of it runs."""
        words = (_BOOT, str(self.root), str(self._mount), self._group)
        self._process = self._unshared(_BEGIN, *words)
        eventually(self._is_up, lambda: f"systemd is up\n{self.log()}", _LONG)

    def cut_power(self) -> None:
        """Kill all of it at once."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._first() or self._process.pid, signal.SIGKILL)
            self._process.wait(30)

    def ended(self, timeout: float = _LONG) -> str | None:
        """Wait until it has ended by itself; tell whether to ``reboot`` or to ``shutdown``."""
        assert self._process is not None
        return _ENDS.get(self._process.wait(timeout))

    def run(self, script: str, *, check: bool = True, timeout: float = 300) -> str:
        """Run a script of root's there; returns what it printed."""
        done = subprocess.run(
            ["nsenter", f"--target={self._first()}", *_WITHIN, "/bin/sh", "-ec", script],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"},
            check=False,
        )
        assert not check or done.returncode == 0, (
            f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{self.log()}"
        )
        return done.stdout

    def log(self) -> str:
        """What its units said lately."""
        if self._process is None or self._process.poll() is not None:
            boot = self.root / "boot.log"
            found = [file.read_text(errors="replace") for file in (self._said, boot) if file.exists()]
            return "".join(found)[-5000:]
        return self.run("journalctl --boot --no-pager --lines=60", check=False)

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"systemd has ended\n{self.log()}")
        if self._first() is None:
            return False
        said = self.run("systemctl is-system-running 2>&1 || true", check=False).strip()
        assert said != "degraded", self.run("systemctl --failed --no-pager") + self.log()
        return said == "running"

    def _unshared(self, script: str, *words: str) -> subprocess.Popen[bytes]:
        inside = ("ip", "netns", "exec", self._namespace, "unshare", "--mount", "/bin/sh", "-ec")
        with self._said.open("ab") as said:
            return subprocess.Popen([*inside, script, *words], stdin=subprocess.DEVNULL, stderr=said)

    def _first(self) -> int | None:
        """The process that is number one there, as this machine counts."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return int(children[0]) if children else None


_WITHIN = ("--mount", "--uts", "--ipc", "--pid", "--net", "--cgroup")


def check_here() -> None:
    """Skip the test where a systemd cannot have control groups of its own."""
    done = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "cgroup2", "cgroup", "/mnt"], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no control groups of version 2: {done.stderr.decode().strip()}")
