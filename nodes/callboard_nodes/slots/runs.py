"""Runs of an engine's programs: a process, a process that is kept warm, or one that is only played."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from callboard_core.farm.logs import heading
from callboard_nodes.aside import aside
from callboard_nodes.slots.engines.base import (
    Begun,
    Finished,
    Heard,
    Program,
    Saved,
    Simulation,
    Trouble,
)
from callboard_nodes.slots.process import Child

__all__ = ["Ended", "Launch", "PlayedRun", "ProcessRun", "Run", "WarmPool"]

#: Seconds for which a warm process waits for more work.
WARM = 120.0
#: Frames after which a warm process makes room for a new one; what little it leaks is gone with it.
WORN = 1000
#: Bytes that a warm process may take beyond twice what it took after its first task.
GROWN = 2**29


@dataclass(frozen=True, slots=True)
class Ended:
    """The program has ended, or a warm one has done what it was asked."""

    trouble: Trouble | None


#: What a run tells, and when, on the loop's clock.
Word = tuple[float, Heard | Ended]


class Run(Protocol):
    """A program that runs. ``words`` brings what it says, and last :class:`Ended`."""

    words: asyncio.Queue[Word]
    saves: Mapping[int | None, Path]

    def stop(self) -> None:
        """Stop it where it is."""

    def go_on(self) -> None:
        """Let it go on."""

    async def end(self) -> None:
        """End it for certain; does nothing if it has ended."""


class Launch(Protocol):
    """Starts a process for a program."""

    def __call__(self, program: Program, heard: Callable[[str], None]) -> Child:
        """Start it.

        Raises:
            OSError: it cannot be started.
        """


class ProcessRun:
    """A process that runs once.

    Args:
        program: what to run.
        launch: starts it.
        log: takes its lines.
    """

    def __init__(self, program: Program, launch: Launch, log: Callable[[str], None]) -> None:
        self._reader, self._hearing = program.reader, Hearing(program, log)
        self.words, self.saves = self._hearing.words, program.saves
        self._child = launch(program, self._hear)
        self._waiting = asyncio.create_task(self._wait())

    def stop(self) -> None:
        """See :class:`Run`."""
        self._child.stop()

    def go_on(self) -> None:
        """See :class:`Run`."""
        self._child.go_on()

    async def end(self) -> None:
        """See :class:`Run`."""
        await self._child.end()
        await self._waiting

    def _hear(self, line: str) -> None:
        self._hearing.take(line)

    async def _wait(self) -> None:
        code = await self._child.wait()
        self.words.put_nowait((_now(), Ended(self._reader.ended(code))))


class Hearing:
    """What a program prints: words for the attempt, and lines for its log under a heading for each frame.

    Args:
        program: that prints.
        log: takes the lines.
    """

    def __init__(self, program: Program, log: Callable[[str], None]) -> None:
        self.words: asyncio.Queue[Word] = asyncio.Queue()
        self._reader, self._noise, self._log = program.reader, program.noise, log
        self._frame: int | None = None
        if program.at_once:
            self._begin(next(iter(program.saves)))

    def take(self, line: str) -> bool:
        """Take a line; tell whether it is the one with which the work is finished."""
        words = list(self._reader.line(line))
        for word in words:
            if isinstance(word, Begun):
                self._begin(word.frame)
        if not line.startswith(self._noise):
            self._log(line)
        for word in words:
            self.words.put_nowait((_now(), word))
        return any(isinstance(word, Finished) for word in words)

    def _begin(self, frame: int | None) -> None:
        if frame is not None and frame != self._frame:
            self._frame = frame
            self._log(heading(frame))


def resident(pid: int) -> int:
    """Bytes of memory that a process takes; 0 when it is gone."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class WarmPool:
    """At most one warm process, for whoever asks for the same key next; a worn one is replaced.

    Args:
        most: frames after which a process is worn.
        memory: tells the bytes that a process takes; it is worn by :data:`GROWN` more than twice the first.
    """

    def __init__(self, most: int = WORN, memory: Callable[[int], int] = resident) -> None:
        self._most, self._memory = most, memory
        self._made, self._first = 0, 0
        self._key = ""
        self._child: Child | None = None
        self._owner: WarmRun | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._on_cold: Callable[[], object] = lambda: None

    def open(
        self, program: Program, launch: Launch, log: Callable[[str], None], on_cold: Callable[[], object]
    ) -> WarmRun:
        """Take a program to the warm process of its key, or to a new one.

        Args:
            program: with ``warm`` and ``request``.
            launch: starts a process.
            log: takes its lines.
            on_cold: called when the process that does the work has ended, much later perhaps.

        Raises:
            OSError: it cannot be started.
        """
        if self._expiry is not None:
            self._expiry.cancel()
        if self._child is None or not self._child.alive or self._key != program.warm:
            self.cool()
            try:
                self._child = self._launched(program, launch)
            except OSError:
                on_cold()
                raise
            self._key, self._on_cold = program.warm or "", on_cold
            self._spawn(self._wait(self._child, on_cold))
        else:
            on_cold()  # what the process needs is held already
        self._made += len(program.saves)
        self._owner = WarmRun(program, self._child, log, self._free)
        try:
            self._child.tell(program.request or "")
        except OSError:
            self._owner.words.put_nowait(
                (_now(), Ended(Trouble("node", "crashed", "the warm renderer is gone")))
            )
        return self._owner

    def cool(self) -> None:
        """End the warm process, if there is one."""
        child, self._child = self._child, None
        if child is not None:
            self._spawn(child.end())

    async def close(self) -> None:
        """End it and wait for that."""
        self.cool()
        if self._expiry is not None:
            self._expiry.cancel()
        await asyncio.gather(*self._ending)

    def _launched(self, program: Program, launch: Launch) -> Child:
        """Start a process whose lines go to its own run only, however late they come."""

        def hear(line: str) -> None:
            if self._owner is not None and self._owner.child is child:
                self._owner.hear(line)

        child = launch(program, hear)
        self._made = self._first = 0
        return child

    def _free(self) -> None:
        self._owner = None
        if self._is_worn():
            self.cool()
        else:
            self._expiry = asyncio.get_running_loop().call_later(WARM, self.cool)

    def _is_worn(self) -> bool:
        if self._child is None:
            return False
        now = self._memory(self._child.pid)
        self._first = self._first or now
        return self._made >= self._most or now > 2 * self._first + GROWN

    async def _wait(self, child: Child, on_cold: Callable[[], object]) -> None:
        code = await child.wait()
        owner = self._owner
        if owner is not None and owner.child is child:
            owner.exited(code)
        on_cold()

    def _spawn(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


class WarmRun:
    """Work that a warm process does."""

    def __init__(
        self, program: Program, child: Child, log: Callable[[str], None], free: Callable[[], None]
    ) -> None:
        self._reader, self._hearing, self._free = program.reader, Hearing(program, log), free
        self.words, self.saves = self._hearing.words, program.saves
        self.child = child
        self._done = False

    def stop(self) -> None:
        """See :class:`Run`."""
        self.child.stop()

    def go_on(self) -> None:
        """See :class:`Run`."""
        self.child.go_on()

    async def end(self) -> None:
        """See :class:`Run`; a process that is in the middle of something is of no use any more."""
        if not self._done:
            await self.child.end()

    def hear(self, line: str) -> None:
        """Take a line of the process."""
        if self._hearing.take(line):
            self._finish(None)

    def exited(self, code: int) -> None:
        """Note that the process has ended while it worked for us."""
        self._finish(self._reader.ended(code) or Trouble("node", "crashed", "the warm renderer ended early"))

    def _finish(self, trouble: Trouble | None) -> None:
        if not self._done:
            self._done = True
            self._free()
            self.words.put_nowait((_now(), Ended(trouble)))


class PlayedRun:
    """A simulation, on the loop's clock; stopping it stops its clock."""

    def __init__(self, simulation: Simulation) -> None:
        self.words: asyncio.Queue[Word] = asyncio.Queue()
        self.saves = simulation.saves
        self._simulation = simulation
        self._going, self._halted = asyncio.Event(), asyncio.Event()
        self._going.set()
        self._task = asyncio.create_task(self._play())

    def stop(self) -> None:
        """See :class:`Run`."""
        self._going.clear()
        self._halted.set()

    def go_on(self) -> None:
        """See :class:`Run`."""
        self._halted.clear()
        self._going.set()

    async def end(self) -> None:
        """See :class:`Run`."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _play(self) -> None:
        play = self._simulation
        for seconds, heard in play.steps:
            await self._pass(seconds)
            if isinstance(heard, Saved) and play.makes is not None:
                await aside(play.makes, heard.path)
            self.words.put_nowait((_now(), heard))
        self.words.put_nowait((_now(), Ended(play.ends)))

    async def _pass(self, seconds: float) -> None:
        left = seconds
        while left > 0 or not self._going.is_set():
            await self._going.wait()
            began = _now()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if left == math.inf else left):
                    await self._halted.wait()
            left -= _now() - began


def _now() -> float:
    return asyncio.get_running_loop().time()
