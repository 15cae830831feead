"""One attempt at a task: its inputs are brought, its engine runs, every file that comes out is checked and told of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from callboard_core.errors import CallboardError, Failed, Forbidden
from callboard_core.farm.messages import Output
from callboard_nodes.aside import aside
from callboard_nodes.slots.bench import Bench, prepare
from callboard_nodes.slots.engines.base import (
    Begun,
    Program,
    Progressed,
    Saved,
    Simulation,
    Sized,
    Trouble,
    Work,
    file_name,
)
from callboard_nodes.slots.inputs import Tree
from callboard_nodes.slots.journal import Entry, Journal
from callboard_nodes.slots.log import Log
from callboard_nodes.slots.results import accept, share
from callboard_nodes.slots.runs import Ended, PlayedRun, ProcessRun, Run
from callboard_nodes.slots.standing import Standing
from callboard_nodes.slots.troubles import Broken, as_trouble

__all__ = ["AttemptRun", "Ending"]

#: Seconds one frame, and a start, may take unless the assignment says otherwise.
FRAME_TIMEOUT, START_TIMEOUT = 6 * 3600.0, 900.0

#: Why an attempt is ended from outside.
Ending = Literal["cancelled", "released", "stale", "broken"]


class AttemptRun:
    """Runs one attempt. Everything that happens goes into its journal; :meth:`run` never raises.

    Args:
        journal: the attempt's own.
        bench: what it works with.
        changed: called when its standing has changed; with True when it has just begun its first frame.
        told: called when there is news in the journal.
    """

    def __init__(
        self,
        journal: Journal,
        bench: Bench,
        *,
        changed: Callable[[bool], object],
        told: Callable[[], object],
    ) -> None:
        self.journal, self.assignment = journal, journal.assignment
        self.standing = Standing(total=max(1, len(self.assignment.frames)))
        self.log = Log(self.assignment.log_limit)
        self._bench, self._changed, self._told = bench, changed, told
        self._run: Run | None = None
        self._tree: Tree | None = None
        self._pending: Saved | None = None
        self._pending_seconds = 0.0
        self._size: tuple[int, int] | None = None
        self._saved: set[int | None] = set()
        self._spawned = self._frame_began = 0.0
        self._stopped_at: float | None = None
        self._ending: Ending | None = None
        self.trouble: Trouble | None = None
        self._main: asyncio.Task[None] | None = None

    # -- from outside ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Do the work, and note how it ended."""
        self._main = asyncio.current_task()
        try:
            if self._ending is None:
                await self._work()
        except asyncio.CancelledError:
            if self._ending is None:
                raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the board must hear of it
            self.trouble = self.trouble or as_trouble(error)
        finally:
            await self._let_go()
        self._note_end()

    def end(self, why: Ending) -> None:
        """End it; the renderer is ended within a second."""
        if self._ending is None:
            self._ending = why
            if self._main is not None:
                self._main.cancel()

    def lose(self, entry: Entry, error: CallboardError) -> None:
        """Note that a file of this attempt will never be stored."""
        fault: Literal["node", "job"] = "node" if isinstance(error, Failed | Forbidden) else "job"
        self.trouble = Trouble(fault, error.code, f"{entry.file}: {error.message}")
        self.end("broken")

    def overrun(self) -> None:
        """Note that the slot's owner does not let tasks take as long."""
        self.trouble = Trouble("node", "task_timeout", "it took longer than this slot lets a task take")
        self.end("broken")

    def stop(self) -> None:
        """Stop the renderer where it is."""
        if self._stopped_at is None:
            self._stopped_at = _now()
            if self._run is not None:
                self._run.stop()

    def go_on(self) -> None:
        """Let it go on; the time it was stopped counts for nothing."""
        if self._stopped_at is None:
            return
        away, self._stopped_at = _now() - self._stopped_at, None
        self._spawned += away
        self._frame_began += away
        if self._run is not None:
            self._run.go_on()
            self._run.words.put_nowait((_now(), Progressed(self.standing.share)))

    @property
    def eta(self) -> float | None:
        """Seconds it will still take."""
        return self.standing.eta(_now() - self._frame_began)

    # -- the work ----------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        self._tree, work = await prepare(self.assignment, self._bench, self.journal.folder)
        for program in self._bench.engine.programs(work):
            await self._play(program, work)
        if missing := [frame for frame in self._expected() if frame not in self._saved]:
            names = ", ".join(file_name(work.output.pattern, frame) for frame in missing[:5])
            raise Broken(Trouble("job", "no_output", f"the renderer ended well and did not make {names}"))

    def _expected(self) -> list[int | None]:
        return [*self.assignment.frames] or [None]

    async def _play(self, program: Program | Simulation, work: Work) -> None:
        self._spawned = _now()
        self._run = run = self._open(program)
        if self._stopped_at is not None:
            run.stop()
        begun = isinstance(program, Program) and program.at_once
        if begun:
            self._begin(next(iter(program.saves)), self._spawned)
        while True:
            spoken, word = await self._next(run, begun)
            match word:
                case Ended(trouble):
                    await self._program_ended(trouble, program, work)
                    self._run = None
                    return
                case Begun(frame):
                    begun = True
                    await self._release_pending(work)
                    self._begin(frame, spoken)
                case Progressed(share):
                    self.standing.share = share
                    self._changed(False)
                case Saved():
                    begun = True
                    await self._saw_saved(word, spoken, work)
                case Sized(width, height):
                    self._size = (width, height)
                case Trouble():
                    raise Broken(word)

    def _open(self, program: Program | Simulation) -> Run:
        if isinstance(program, Simulation):
            return PlayedRun(program)
        try:
            if program.warm is not None:
                tree, self._tree = self._tree, None  # the warm process needs it from now on
                cold = partial(self._bench.cache.release, tree) if tree is not None else _nothing
                return self._bench.warm.open(program, self._bench.launch, self.log.add, cold)
            self._bench.warm.cool()
            return ProcessRun(program, self._bench.launch, self.log.add)
        except OSError as error:
            message = f"{program.argv[0]} cannot be started: {error.strerror or error}"
            raise Broken(Trouble("node", "engine_missing", message)) from None

    async def _next(self, run: Run, begun: bool) -> tuple[float, Any]:
        """Wait for the next word.

        Raises:
            Broken: nothing was heard for too long.
        """
        while True:
            left = self._time_left(begun)
            try:
                async with asyncio.timeout(left):  # not wait_for: in 3.11 it swallows a cancellation
                    return await run.words.get()
            except TimeoutError:
                if self._stopped_at is None and (self._time_left(begun) or 0) <= 0:
                    raise Broken(self._too_late(begun)) from None

    def _time_left(self, begun: bool) -> float | None:
        if self._stopped_at is not None:
            return None
        assignment = self.assignment
        if begun:
            return self._frame_began + (assignment.frame_timeout or FRAME_TIMEOUT) - _now()
        return self._spawned + (assignment.start_timeout or START_TIMEOUT) - _now()

    def _too_late(self, begun: bool) -> Trouble:
        if begun:
            limit = self.assignment.frame_timeout or FRAME_TIMEOUT
            what = f"frame {self.standing.frame}" if self.standing.frame is not None else "the work"
            return Trouble("node", "frame_timeout", f"{what} took longer than {limit:g} s")
        limit = self.assignment.start_timeout or START_TIMEOUT
        return Trouble("node", "start_timeout", f"the renderer did not begin within {limit:g} s")

    # -- frames ------------------------------------------------------------------------------------------------

    def _begin(self, frame: int | None, spoken: float) -> None:
        standing = self.standing
        standing.frame, standing.share = frame, 0.0
        self._frame_began = spoken
        first, standing.begun = not standing.begun, True
        if first:
            self._tell({"what": "started", "frame": frame, "seconds": max(0.0, spoken - self._spawned)})
        self._changed(first)

    async def _saw_saved(self, saved: Saved, spoken: float, work: Work) -> None:
        if self._pending is not None and saved.path == self._pending.path:
            return  # said twice: by Blender, and by our script inside it
        if self._run is not None and self._run.saves and saved.path not in self._run.saves.values():
            return  # something else, as Blender's compositor may save it
        await self._release_pending(work)
        if not self.standing.begun:
            self._begin(self._frame_of(saved), self._spawned)
        self._pending, self._pending_seconds = saved, max(0.0, spoken - self._frame_began)
        self._frame_began = spoken
        if not isinstance(self._run, ProcessRun):  # nothing ends that could end badly
            await self._release_pending(work)

    async def _release_pending(self, work: Work) -> None:
        """The renderer has gone on, or ended well: what it saved last is complete now."""
        saved, self._pending = self._pending, None
        if saved is None:
            return
        frame = self._frame_of(saved)
        if frame in self._saved or (frame not in self._expected()):
            return
        await self._take(frame, saved.path, work)

    def _frame_of(self, saved: Saved) -> int | None:
        saves = self._run.saves if self._run is not None else {}
        for frame, path in saves.items():
            if path == saved.path:
                return frame
        return self.standing.frame

    async def _program_ended(
        self, trouble: Trouble | None, program: Program | Simulation, work: Work
    ) -> None:
        if trouble is not None:
            raise Broken(trouble)
        await self._release_pending(work)
        for frame, path in program.saves.items():  # of engines that do not say what they saved
            if frame not in self._saved and path.exists():
                self._pending_seconds = max(0.0, _now() - self._frame_began)
                await self._take(frame, path, work)

    async def _take(self, frame: int | None, path: Path, work: Work) -> None:
        """Check a file and tell of it."""
        seconds, name = self._pending_seconds, file_name(work.output.pattern, frame)
        event: dict[str, Any] = {"what": "frame", "frame": frame, "name": name, "seconds": seconds}
        if self._run is not None and not self._run.saves:  # a simulation that makes no files
            self._frame_done(frame, seconds)
            self._tell(event)
            return
        accepted = await aside(accept, path, self.journal.folder, name, self._expected_size(work.output))
        if work.output.folder is not None:
            into = self._bench.shared.resolve(work.output.folder, self.assignment.variables)
            await aside(share, self.journal.folder / accepted.file, into, name, self.assignment.attempt)
        if accepted.size is not None:
            event["size"] = list(accepted.size)
        self._frame_done(frame, seconds)
        self._tell(event, file=accepted.file, thumbnail=accepted.thumbnail)

    def _expected_size(self, output: Output) -> tuple[int | None, int | None]:
        """The assignment's, else what the program said."""
        if output.width is None and output.height is None and self._size is not None:
            return self._size
        return output.width, output.height

    def _frame_done(self, frame: int | None, seconds: float) -> None:
        self._saved.add(frame)
        self.standing.done += 1
        self.standing.share = 0.0
        self.standing.seconds.append(seconds)
        self._changed(False)

    # -- the end -----------------------------------------------------------------------------------------------

    def _tell(self, event: dict[str, Any], **files: str | None) -> None:
        self.journal.append({"t": time.time(), **event}, **files)
        self._told()

    def _note_end(self) -> None:
        trouble = self.trouble
        if self._ending == "stale":
            return
        for piece in self.log.pieces():
            self._tell({"what": "log", "lines": piece})
        if self._ending == "cancelled":
            self._tell({"what": "cancelled", "message": "it was cancelled"})
        elif self._ending == "released":
            self._tell({"what": "failed", "code": "released", "message": "the slot was given other orders"})
        elif trouble is not None:
            self._tell(
                {
                    "what": "failed",
                    "frame": self.standing.frame,
                    "fault": trouble.fault,
                    "code": trouble.code,
                    "message": trouble.message[:2000],
                }
            )
        else:
            self._tell({"what": "done"})

    async def _let_go(self) -> None:
        """End the renderer, and let others have what it used."""
        run, self._run = self._run, None
        if run is not None:
            await run.end()
        if self._tree is not None:
            self._bench.cache.release(self._tree)


def _nothing() -> None:
    pass


def _now() -> float:
    return asyncio.get_running_loop().time()
