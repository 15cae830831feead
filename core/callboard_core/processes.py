"""Processes and ports of this machine: die with the parent, free ports, and who holds a port. Linux; reads /proc."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import random
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Holder",
    "check_port",
    "die_with_parent",
    "dying_with_parent",
    "free_port",
    "port_holder",
    "process_name",
]

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_TCP_LISTEN = "0A"  # <net/tcp_states.h>
# Below the range Linux gives to outgoing connections (32768 …): while a role restarts, nobody's outgoing
# connection, not even a client's to that very port, can sit on it.
_FREE_PORTS = range(20_000, 32_000)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who listens on a port; ``pid`` is None when it belongs to another user and /proc does not tell."""

    pid: int | None
    name: str | None

    def __str__(self) -> str:
        if self.pid is None:
            return "a process of another user"
        return f"{self.name or 'a process'} (pid {self.pid})"


def die_with_parent(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Have this process killed when ``parent`` ends, however it ends.

    Args:
        parent: the process that must still be our parent; when it is not, it has died already, and so do we.
        number: the signal to die by.
    """
    _set_death_signal(number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def dying_with_parent(number: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """Return a ``preexec_fn`` with the same effect, for programs that are not ours."""
    parent = os.getpid()
    return lambda: die_with_parent(parent, number)


_LIBC = ctypes.CDLL(None, use_errno=True)


def _set_death_signal(number: signal.Signals) -> None:
    if _LIBC.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


def check_port(bind: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
    """Raise the OSError that listening on ``bind``:``port`` would raise, if any."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((bind, port))
        if kind == socket.SOCK_STREAM:
            # Two sockets with SO_REUSEADDR may share an address until one of them listens.
            probe.listen(1)


def free_port(bind: str, avoid: frozenset[int] = frozenset()) -> int:
    """Return a TCP port nobody listens on, outside the range of outgoing connections.

    Raises:
        OSError: ``bind`` is no address of this machine, or no port is free.
    """
    for port in random.sample(_FREE_PORTS, k=200):
        if port in avoid:
            continue
        with contextlib.suppress(PermissionError):
            try:
                check_port(bind, port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return port
    raise OSError(errno.EADDRINUSE, f"no free port found on {bind}")


def port_holder(port: int) -> Holder | None:
    """Return who listens on a TCP port of this machine, or None when nobody does."""
    inodes = set(_listening_inodes(port))
    if not inodes:
        return None
    pid = next((pid for pid in _pids() if inodes & set(_socket_inodes(pid))), None)
    return Holder(pid, process_name(pid) if pid is not None else None)


def process_name(pid: int) -> str | None:
    """Return the name of a process, or None when there is no such process."""
    try:
        return (Path("/proc") / str(pid) / "comm").read_text().strip()
    except OSError:
        return None


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == _TCP_LISTEN and int(columns[1].rpartition(":")[2], 16) == port:
                    yield columns[9]


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _socket_inodes(pid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for link in (Path("/proc") / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(link.readlink())
                if target.startswith("socket:["):
                    yield target[8:-1]
