"""One member of a group: its process is started, read, waited for, started again, and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from callboard_core.errors import error_from_code
from callboard_core.processes import dying_with_parent
from callboard_nodes.group.member import NOTIFY_FD, Ended, Event, Logged, Member, Ready, Started
from callboard_nodes.group.policy import TRANSITIONS, Happening, Policy, State

__all__ = ["Runner"]

_LINES_KEPT = 30
#: Longest log line, in bytes; a longer one is read in pieces.
_LINE_LIMIT = 64 * 1024
#: Seconds for the last lines to arrive once a process has ended.
_DRAIN = 0.5


class Runner:
    """Keeps one member running until told to stop.

    Args:
        member: what to run.
        policy: when to start it again.
        report: called with everything that happens, on the event loop.
    """

    def __init__(self, member: Member, policy: Policy, report: Callable[[Event], None]) -> None:
        self.member = member
        self.state = State.IDLE
        self.pid: int | None = None
        self.starts = 0
        self.failure: Exception | None = None
        self.settled = asyncio.Event()  # ready for the first time, or given up
        self.done = asyncio.Event()
        self._policy = policy
        self._report = report
        self._stop = asyncio.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self._error: dict[str, Any] = {}
        self._ever_ready = False

    async def keep(self) -> None:
        """Run the member, and again whenever it ends, until :meth:`stop` or its start has failed for good."""
        failures = 0
        try:
            while not self._stop.is_set() and self.failure is None:
                failures = await self._run_once(failures)
        finally:
            self._move(Happening.STOP)
            self.pid = None
            self.settled.set()
            self.done.set()

    def stop(self) -> None:
        """Ask the process to end (SIGTERM), once, and do not start it again."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._move(Happening.STOP)
        if self.pid is not None and self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """End the process and everything it started, at once."""
        self._stop.set()
        if self.pid is not None:
            _kill_group(self.pid)

    async def _run_once(self, failures: int) -> int:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._error = {}
        self._lines.clear()
        code = await self._run_process(began)
        ran_for = loop.time() - began
        self._move(Happening.EXIT)
        if self._stop.is_set():
            return 0
        restart = self._policy.after(failures, ran_for)
        given_up = not self._ever_ready and (
            bool(self._error.get("final")) or restart.failures >= self._policy.give_up
        )
        reason = self._reason(code)
        if given_up:
            self.failure = error_from_code(self._error.get("code", "failed"), reason)
        delay = None if given_up else restart.delay
        self._report(
            Ended(self.member.name, code, ran_for, delay, restart.looping, reason, tuple(self._lines))
        )
        if delay is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stop.wait()
        return restart.failures

    async def _run_process(self, began: float) -> int:
        async with _pipe() as (told, tell), _pipe() as (log, out):
            if self._stop.is_set():
                return 0
            try:
                process = self._spawn(tell.take(), out.take())
            except OSError as error:
                self._lines.append(f"cannot start {self.member.command[0]}: {error.strerror}")
                return 127
            readers = [
                asyncio.ensure_future(self._listen(told, began)),
                asyncio.ensure_future(self._read_log(log)),
            ]
            if not self.member.tells_ready:
                self._became_ready(began, {})
            code = await _exited(process)
            self.pid = None
            _kill_group(process.pid)  # what it started and left behind
            await _finish(readers)
            return code

    def _spawn(self, tell: int, out: int) -> subprocess.Popen[bytes]:
        try:
            process = subprocess.Popen(
                self.member.command,
                env={**os.environ, **self.member.env, NOTIFY_FD: str(tell)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=(tell,),
                # Its own session: Ctrl-C reaches only us, and we stop the members in order.
                start_new_session=True,
                preexec_fn=dying_with_parent(),  # noqa: PLW1509 - one system call, nothing that could lock
            )
        finally:
            os.close(tell)
            os.close(out)
        self._process, self.pid = process, process.pid
        self.starts += 1
        self._move(Happening.SPAWN)
        self._report(Started(self.member.name, process.pid))
        return process

    async def _listen(self, reader: asyncio.StreamReader, began: float) -> None:
        async for line in reader:
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if "ready" in message:
                    self._became_ready(began, message["ready"])
                else:
                    self._error = message

    def _became_ready(self, began: float, info: dict[str, Any]) -> None:
        if self.pid is None or self.state not in {State.STARTING, State.READY}:
            return
        self._move(Happening.READY)
        self._ever_ready = True
        self.settled.set()
        seconds = asyncio.get_running_loop().time() - began
        self._report(Ready(self.member.name, self.pid, seconds, info))

    async def _read_log(self, log: asyncio.StreamReader) -> None:
        while chunk := await _line(log):
            text = chunk.decode(errors="replace").rstrip()
            self._lines.append(text)
            self._report(Logged(self.member.name, text))

    def _reason(self, code: int) -> str:
        if self._error:
            return str(self._error.get("error"))
        how = f"killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        last = next((line for line in reversed(self._lines) if line.strip()), "")
        return f"{how}: {last}" if last and code >= 0 else how

    def _move(self, happening: Happening) -> None:
        self.state = TRANSITIONS.get((self.state, happening), self.state)


class _WriteEnd:
    """The end of a pipe for a child; closed here unless taken."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def take(self) -> int:
        assert self._descriptor is not None  # noqa: S101 - it is taken once
        taken, self._descriptor = self._descriptor, None
        return taken

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self.take())


@asynccontextmanager
async def _pipe() -> AsyncIterator[tuple[asyncio.StreamReader, _WriteEnd]]:
    read, write = os.pipe()
    end = _WriteEnd(write)
    reader = asyncio.StreamReader(limit=_LINE_LIMIT)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(read, "rb"))
    try:
        yield reader, end
    finally:
        end.close()
        transport.close()


async def _exited(process: subprocess.Popen[bytes]) -> int:
    """Wait for the process itself, whoever still holds its pipes."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    descriptor = os.pidfd_open(process.pid)
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return process.wait()


async def _line(stream: asyncio.StreamReader) -> bytes:
    try:
        return await stream.readuntil()
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await stream.readexactly(error.consumed)


async def _finish(readers: Sequence[asyncio.Future[None]]) -> None:
    """Let the readers see the end; something that inherited the pipe must not keep us."""
    _, late = await asyncio.wait(readers, timeout=_DRAIN)
    for reader in late:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
