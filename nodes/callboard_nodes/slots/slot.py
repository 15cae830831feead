"""A slot: a place where one task runs at a time, with one more waiting; what it may do is a table in the core."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from callboard_core.errors import BadRequest, NotFound, Overloaded, Unavailable
from callboard_core.farm.messages import (
    Assignment,
    AttemptStatus,
    SlotCommand,
    SlotReply,
    SlotReport,
    as_args,
    serves,
)
from callboard_core.farm.states import SlotEvent, SlotState, may, step
from callboard_core.messages import Level, State
from callboard_nodes.slots.attempt import AttemptRun, Ending
from callboard_nodes.slots.bench import Bench
from callboard_nodes.slots.delivery import Delivery, Office
from callboard_nodes.slots.journal import Journal, folder_of
from callboard_nodes.slots.schedule import Verdict
from callboard_nodes.slots.teller import QUICK, Teller

__all__ = ["Kept", "Slot"]

_log = logging.getLogger("callboard.slots")

#: Least seconds between two reports of progress.
_CALM = 0.5
#: Attempts that may wait to be delivered while the slot works on; beyond, it waits with them.
_UNDELIVERED = 8
#: Bytes of a log in one answer.
_LOG_PIECE = 256 * 1024

_WORKING = frozenset({SlotState.STARTING, SlotState.RENDERING, SlotState.PAUSED, SlotState.DRAINING})
#: Troubles of the machine that would meet the next task as well; what was broken is looked after.
_BROKEN = frozenset({"engine_missing", "disk_full", "unwritable"})
#: Seconds in a year.
_FOREVER = 365 * 86_400.0
_OPEN = frozenset({SlotState.IDLE, SlotState.STARTING, SlotState.RENDERING, SlotState.PAUSED})
_ORDERS: dict[str, SlotEvent] = {
    "pause": SlotEvent.PAUSE,
    "resume": SlotEvent.RESUME,
    "drain": SlotEvent.DRAIN,
    "enable": SlotEvent.ENABLE,
    "disable": SlotEvent.DISABLE,
    "sleep": SlotEvent.SLEEP,
    "wake": SlotEvent.WAKE,
}


@dataclass(frozen=True, slots=True)
class Kept:
    """What outlives a restart: whether people have put the slot out of work, and why."""

    state: Literal["disabled", "asleep"] | None = None
    reason: str | None = None


class Slot:
    """One slot. Lives on the node's event loop.

    Args:
        name: the slot's.
        engine: the engine's name.
        bench: what attempts work with.
        attempts: the folder of all attempts' folders.
        office: the way to the board.
        publish: publishes its state.
        keep: keeps on disk what outlives a restart.
        kept: what was kept.
    """

    def __init__(
        self,
        name: str,
        engine: str,
        bench: Bench,
        *,
        attempts: Path,
        office: Office,
        publish: Callable[[State], object],
        keep: Callable[[Kept], object],
        kept: Kept = Kept(),
        task_seconds: float | None = None,
    ) -> None:
        self.name, self.engine = name, engine
        self.state = SlotState(kept.state) if kept.state else SlotState.IDLE
        self._bench, self._attempts, self._office = bench, attempts, office
        self._publish, self._keep, self._task_seconds = publish, keep, task_seconds
        self._reason = kept.reason
        self._since = time.time()
        self._run: AttemptRun | None = None
        self._task: asyncio.Task[None] | None = None
        self._next: Journal | None = None
        self._deliveries: dict[str, Delivery] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._teller = Teller(self._tell)
        self._by_schedule: Literal["asleep", "paused"] | None = None
        self._overridden = False
        self._closed = ""
        self._stopping = False
        self._show(now=True)

    # -- what it is told ---------------------------------------------------------------------------------------

    def command(self, command: SlotCommand) -> SlotReply:
        """Carry out a command.

        Raises:
            Overloaded: it works, and has one more waiting.
            Unavailable: it takes no work at present; the message says why.
            Conflict: it is in no state for this.
            NotFound: it has no such attempt.
            BadRequest: the assignment is not for this slot.
        """
        match command.do:
            case "assign":
                assert command.assignment is not None  # noqa: S101 - checked by the model
                self._assign(command.assignment)
            case "cancel":
                self._cancel(command.attempt)
            case "report":
                return self._full_report()
            case "log":
                return self._log_from(command)
            case order:
                self._order(order, command)
        return SlotReply(report=self.report())

    def _assign(self, assignment: Assignment) -> None:
        if self._known(assignment.attempt):
            return  # said twice
        self._check(assignment)
        try:
            folder = folder_of(self._attempts, assignment.attempt)
            journal = Journal.create(folder, assignment, self.name)
        except OSError as error:
            raise Unavailable(f"slot {self.name}: the disk refuses: {error}") from None
        self._deliver(journal)
        self._next = journal
        self._go_on()

    def _check(self, assignment: Assignment) -> None:
        if not serves(self.engine, assignment.engine):
            raise BadRequest(f"slot {self.name} runs {self.engine}, not {assignment.engine}")
        if self.state not in _OPEN or self._closed or self._stopping:
            why = self._closed or self._reason or f"it is {self.state}"
            raise Unavailable(f"slot {self.name} takes no work: {why}")
        if self._next is not None:
            raise Overloaded(f"slot {self.name} works, and has one more waiting")

    def _cancel(self, attempt: str | None) -> None:
        if attempt is not None and not self._known(attempt):
            raise NotFound(f"slot {self.name} has no attempt {attempt!r}")
        if self._next is not None and attempt in {None, self._next.assignment.attempt}:
            self._give_back("cancelled")
        if self._run is not None and attempt in {None, self._run.assignment.attempt}:
            self._run.end("cancelled")
        self._show()

    def _order(self, order: str, command: SlotCommand) -> None:
        mine = self._run.assignment.attempt if self._run is not None else None
        if command.attempt not in {None, mine}:
            raise NotFound(f"slot {self.name} does not work on attempt {command.attempt!r}")
        event = _ORDERS[order]
        if not may(self.state, event):
            step(self.state, event)  # raises what to say
        self._by_schedule, self._overridden = None, order in {"wake", "enable", "resume"}
        self._move(event, command.reason)
        self._keep(Kept(_kept(self.state), self._reason))
        self._obey()
        if self._run is not None and order == "pause":  # also one that drains, and goes on draining
            self._run.stop()
        self._show(now=True)

    def _obey(self) -> None:
        """Let the renderer and what waits follow the state."""
        run = self._run
        if self.state in {SlotState.DISABLED, SlotState.ASLEEP, SlotState.ERROR}:
            self._give_back("released")
            if run is not None:
                run.end("released")
            self._bench.warm.cool()
        elif self.state is SlotState.DRAINING:
            self._give_back("released")
        elif run is not None and self.state is SlotState.PAUSED:
            run.stop()
        elif run is not None:
            run.go_on()

    # -- what it does by itself --------------------------------------------------------------------------------

    def judge(self, verdict: Verdict) -> None:
        """Follow the schedule: nothing is begun, or the renderer is stopped, or what runs is given back."""
        if verdict.may_start:
            self._overridden = False
        if self._overridden:
            verdict = Verdict(may_start=True, may_run=True)
        before = (self._closed, self.state)
        self._closed = "" if verdict.may_start else verdict.reason
        if not verdict.may_run and self.state in _WORKING and verdict.pause:
            if self.state in {SlotState.STARTING, SlotState.RENDERING}:
                self._by_schedule = "paused"
                self._move(SlotEvent.PAUSE, verdict.reason)
        elif not (verdict.may_run if self._run is not None else verdict.may_start):
            if self.state in _OPEN:
                self._by_schedule = "asleep"
                self._move(SlotEvent.SLEEP, verdict.reason)
        elif self._by_schedule is not None and verdict.may_start:
            back = SlotEvent.WAKE if self._by_schedule == "asleep" else SlotEvent.RESUME
            self._by_schedule = None
            if may(self.state, back):
                self._move(back, None)
        if before != (self._closed, self.state):
            self._obey()
            self._show(now=True)

    def adopt(self, journal: Journal) -> None:
        """Deliver what an earlier process left; an attempt that it worked on has failed with it."""
        if not journal.ended and journal.seq == 0:
            message = "the node was started again before it began this"
            journal.append({"t": time.time(), "what": "failed", "code": "released", "message": message})
        elif not journal.ended:
            message = "the node was started again while it worked on this"
            event = {"t": time.time(), "what": "failed", "fault": "node", "code": "restarted"}
            journal.append({**event, "message": message})
        self._deliver(journal)

    def mend(self) -> None:
        """Work again: what was broken is found to be in order."""
        if self.state is SlotState.ERROR:
            self._move(SlotEvent.MENDED, None)
            self._show(now=True)

    async def stop(self, patience: float) -> None:
        """Give everything back and tell so, if that can be done in time."""
        self._stopping = True
        self._give_back("released")
        if self._run is not None:
            self._run.end("released")
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._teller.close()
        await self._bench.warm.close()

    # -- attempts ----------------------------------------------------------------------------------------------

    def _start(self, journal: Journal) -> None:
        delivery = self._deliveries[journal.assignment.attempt]
        self._move(SlotEvent.ASSIGN, None)
        self._run = run = AttemptRun(journal, self._bench, changed=self._changed, told=delivery.wake)
        self._task = asyncio.create_task(self._work(run))
        self._show()

    def _deliver(self, journal: Journal) -> None:
        attempt = journal.assignment.attempt
        delivery = Delivery(
            journal,
            self._office,
            on_cancelled=lambda: self._cancel(attempt),
            on_stale=lambda: self._stale(attempt),
            on_lost=lambda entry, error: self._run_of(attempt, lambda run: run.lose(entry, error)),
            on_trouble=self._show,
        )
        self._deliveries[attempt] = delivery
        task = asyncio.create_task(self._carry(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, delivery: Delivery) -> None:
        attempt = delivery.journal.assignment.attempt
        try:
            await delivery.run()
        except Exception:  # noqa: BLE001 - the slot works on; the board's lease runs out
            _log.exception("slot %s: the delivery of attempt %s has failed", self.name, attempt)
        finally:
            self._deliveries.pop(attempt, None)
        self._go_on()

    async def _work(self, run: AttemptRun) -> None:
        limit = asyncio.get_running_loop().call_later(self._task_seconds or _FOREVER, run.overrun)
        try:
            await run.run()
        finally:
            limit.cancel()
            self._run, self._task = None, None
            if may(self.state, SlotEvent.ENDED):
                self._move(SlotEvent.ENDED, None if self.state in _WORKING else self._reason)
            if run.trouble is not None and run.trouble.code in _BROKEN and not self._stopping:
                self._move(SlotEvent.BROKE, run.trouble.message)
                self._obey()
            self._go_on()

    @property
    def _is_behind(self) -> bool:
        return sum(one.journal.ended for one in self._deliveries.values()) >= _UNDELIVERED

    def _go_on(self) -> None:
        """Begin what waits, if nothing is in the way."""
        waiting = self._next
        if waiting is not None and self._run is None and self.state is SlotState.IDLE and not self._is_behind:
            self._next = None
            self._start(waiting)
        else:
            self._show()

    def _give_back(self, why: Ending) -> None:
        """Tell the board that what waits is not begun."""
        waiting, self._next = self._next, None
        if waiting is None:
            return
        event: dict[str, Any] = {"t": time.time(), "what": "cancelled", "message": "it was not begun"}
        if why != "cancelled":
            event |= {"what": "failed", "code": "released", "message": "the slot was given other orders"}
        waiting.append(event)
        self._deliveries[waiting.assignment.attempt].wake()

    def _stale(self, attempt: str) -> None:
        if self._next is not None and self._next.assignment.attempt == attempt:
            self._next = None
        self._run_of(attempt, lambda run: run.end("stale"))

    def _run_of(self, attempt: str, use: Callable[[AttemptRun], object]) -> None:
        if self._run is not None and self._run.assignment.attempt == attempt:
            use(self._run)

    def _known(self, attempt: str) -> bool:
        return attempt in self._deliveries

    # -- what it tells -----------------------------------------------------------------------------------------

    def report(self) -> SlotReport:
        """Return how it is."""
        run = self._run
        common: dict[str, Any] = {
            "state": self.state,
            "reason": self._reason or self._closed or self._trouble(),
            "next": self._next.assignment.attempt if self._next is not None else None,
            "since": self._since,
        }
        if run is None:
            return SlotReport(**common)
        eta = run.eta
        return SlotReport(
            **common,
            attempt=run.assignment.attempt,
            job=run.assignment.job,
            task=run.assignment.task,
            frame=run.standing.frame,
            frames_done=min(run.standing.done, run.standing.total),
            frames_total=run.standing.total,
            progress=round(run.standing.progress, 4),
            eta=None if eta is None else round(eta, 2),
        )

    def _trouble(self) -> str | None:
        return next((one.trouble for one in self._deliveries.values() if one.trouble), None)

    def _full_report(self) -> SlotReply:
        attempts = [_status(one.journal, self._place(one.journal)) for one in self._deliveries.values()]
        return SlotReply(report=self.report(), attempts=attempts)

    def _place(self, journal: Journal) -> Literal["running", "next", "ended"]:
        if journal is self._next:
            return "next"
        running = self._run is not None and self._run.journal is journal
        return "running" if running and not journal.ended else "ended"

    def _log_from(self, command: SlotCommand) -> SlotReply:
        run = self._run
        if run is None:
            raise NotFound(f"slot {self.name} works on nothing now; logs of what has ended are the board's")
        if command.attempt not in {None, run.assignment.attempt}:
            raise NotFound(f"slot {self.name} does not work on attempt {command.attempt!r}")
        whole = run.log.text().encode()
        piece = whole[command.offset : command.offset + _LOG_PIECE]
        end = min(len(whole), command.offset + len(piece))
        return SlotReply(log=piece.decode("utf-8", "replace"), offset=end, size=len(whole))

    def _changed(self, started: bool) -> None:
        run = self._run
        if run is None:
            return
        if started and may(self.state, SlotEvent.STARTED):
            self._move(SlotEvent.STARTED, self._reason)
            self._show()
            return
        delivery = self._deliveries.get(run.assignment.attempt)
        if delivery is not None:
            delivery.progress(round(run.standing.progress, 4), run.eta)
        self._show(calm=_CALM)

    def _move(self, event: SlotEvent, reason: str | None) -> None:
        before, self.state = self.state, step(self.state, event)
        self._reason = reason
        if self.state is not before:
            self._since = time.time()

    def _show(self, *, now: bool = False, calm: float = QUICK) -> None:
        self._teller.show(now=now, calm=calm)

    def _tell(self) -> None:
        report = self.report()
        level = Level.ERROR if self.state is SlotState.ERROR else Level.NORMAL
        self._publish(State(v=str(self.state), t=time.time(), level=level, data=as_args(report)))


def _status(journal: Journal, state: Literal["running", "next", "ended"]) -> AttemptStatus:
    assignment = journal.assignment
    return AttemptStatus(attempt=assignment.attempt, task=assignment.task, seq=journal.seq, state=state)


def _kept(state: SlotState) -> Literal["disabled", "asleep"] | None:
    if state in {SlotState.DISABLED, SlotState.DRAINING}:
        return "disabled"
    return "asleep" if state is SlotState.ASLEEP else None
