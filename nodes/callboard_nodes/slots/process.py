"""A renderer's process and all it starts: begun, read line by line, stopped and continued, ended for certain."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from callboard_core.processes import dying_with_parent
from callboard_nodes.aside import aside
from callboard_nodes.slots import guard as guarding

__all__ = ["Child", "Guard", "Limits", "Lines"]

#: Seconds for the last lines to arrive once a process has ended.
_DRAIN = 0.5
#: Bytes that are read at a time; and seconds until more is read, unless there was as much: what prints line by line would
#: otherwise wake us up for each of them, and wait while we have the processor.
_READ, _PAUSE = 65_536, 0.01
#: Longest line that is kept whole, in characters.
_LONGEST = 8192
_OURS = ("CALLBOARD_", "PYTHON", "VIRTUAL_ENV")
_BREAK = re.compile(r"[\r\n]+")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a process is held to. ``memory`` is in bytes of private memory."""

    nice: int | None = None
    memory: int | None = None

    def apply(self) -> None:
        """Take them on, in the new process, before the program begins."""
        if self.nice:
            os.nice(self.nice)
        if self.memory:
            resource.setrlimit(resource.RLIMIT_DATA, (self.memory, self.memory))


class Guard:
    """The process that kills our renderers if we are killed; started with the first of them.

    Args:
        mark: what the marks of all our renderers begin with.
    """

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        self.stop()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(guarding.__file__)), self.mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def stop(self) -> None:
        """End it; it kills what is left."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            process.wait()


def inherited(env: Mapping[str, str]) -> dict[str, str]:
    """What renderers get of our environment: no settings and passwords of ours, and nothing of our Python's."""
    return {name: value for name, value in env.items() if not name.startswith(_OURS)}


class Lines:
    """Cuts what a program writes into lines; a carriage return ends one too."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, data: bytes) -> list[str]:
        """Take what came; return the lines that are whole now."""
        text = self._rest + data.decode("utf-8", "replace")
        *lines, self._rest = _BREAK.split(text)
        if len(self._rest) > _LONGEST:
            lines.append(self._rest[:_LONGEST])
            self._rest = ""
        return [line[:_LONGEST] for line in lines]

    def end(self) -> list[str]:
        """Return what was left without an end."""
        rest, self._rest = self._rest, ""
        return [rest[:_LONGEST]] if rest else []


class Child:
    """One process in a group of its own, and everything it starts.

    It dies with this process; use it from one event loop, in a thread that lasts.

    Args:
        argv: the program.
        mark: its own; begins with the guard's.
        heard: called with every line.
        cwd: where it runs.
        env: what its environment has besides ours.
        limits: what it is held to.
        talk: whether it is told things on its standard input.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        mark: str,
        heard: Callable[[str], None],
        cwd: Path,
        env: Mapping[str, str] | None = None,
        limits: Limits = Limits(),
        talk: bool = False,
    ) -> None:
        self._mark, self.heard = mark, heard
        self._lines = Lines()
        self._exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._closed = asyncio.Event()
        self._pause: asyncio.TimerHandle | None = None
        self.stopped = False
        read, write = os.pipe()
        try:
            self._process = self._spawn(argv, write, cwd, env or {}, limits, talk)
        except OSError:
            os.close(read)
            raise
        finally:
            os.close(write)
        self.pid = self._process.pid
        self._watch(read)

    def _spawn(
        self, argv: Sequence[str], out: int, cwd: Path, env: Mapping[str, str], limits: Limits, talk: bool
    ) -> subprocess.Popen[bytes]:
        die = dying_with_parent()

        def prepare() -> None:
            die()
            limits.apply()

        return subprocess.Popen(
            list(argv),
            cwd=cwd,
            env={**inherited(os.environ), **env, guarding.MARK: self._mark},
            stdin=subprocess.PIPE if talk else subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=prepare,  # noqa: PLW1509 - a few system calls, nothing that could lock
        )

    def _watch(self, read: int) -> None:
        loop = asyncio.get_running_loop()
        os.set_blocking(read, False)
        self._out = read
        self._listen()
        ended = os.pidfd_open(self.pid)
        loop.add_reader(ended, self._reap, ended)

    def _listen(self) -> None:
        self._pause = None
        asyncio.get_running_loop().add_reader(self._out, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._out, _READ)
        except BlockingIOError:
            return
        lines = self._lines.feed(data) if data else self._lines.end()
        if data and len(data) < _READ:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._out)
            self._pause = loop.call_later(_PAUSE, self._listen)
        for line in lines:
            self.heard(line)
        if not data:
            self._close()

    def _close(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        asyncio.get_running_loop().remove_reader(self._out)
        os.close(self._out)
        self._closed.set()

    def _reap(self, ended: int) -> None:
        asyncio.get_running_loop().remove_reader(ended)
        os.close(ended)
        if not self._exited.done():
            self._exited.set_result(self._process.wait())

    @property
    def alive(self) -> bool:
        """True until the process itself has ended."""
        return not self._exited.done()

    def tell(self, line: str) -> None:
        """Write a line to its standard input.

        Raises:
            OSError: it is gone.
        """
        pipe = self._process.stdin
        if pipe is None:
            raise BrokenPipeError("it is told nothing")
        pipe.write(line.encode() + b"\n")
        pipe.flush()

    async def wait(self) -> int:
        """Wait for its end, and end what it has left behind; returns the exit code (negative: the signal)."""
        code = await asyncio.shield(self._exited)
        self._signal(signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN):
                await self._closed.wait()
        if not self._closed.is_set():  # something that left the group holds the pipe
            await aside(guarding.kill_marked, self._mark)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DRAIN):
                    await self._closed.wait()
        self._let_go()
        return code

    async def end(self, grace: float = 0.5) -> None:
        """End it: SIGTERM, after ``grace`` seconds SIGKILL, for everything it has started."""
        if self.alive:
            self._signal(signal.SIGTERM)
            if self.stopped:
                self._signal(signal.SIGCONT)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await asyncio.shield(self._exited)
        self._signal(signal.SIGKILL)
        await aside(guarding.kill_marked, self._mark)
        await self.wait()

    def stop(self) -> None:
        """Stop it where it is (SIGSTOP)."""
        self.stopped = True
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on (SIGCONT)."""
        self.stopped = False
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)
        if number in {signal.SIGSTOP, signal.SIGCONT}:
            for pid in guarding.marked(self._mark):  # also what has left the group
                with contextlib.suppress(OSError):
                    os.kill(pid, number)

    def _let_go(self) -> None:
        if not self._closed.is_set():
            self._close()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
