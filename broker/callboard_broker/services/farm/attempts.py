"""Attempts: tasks are cut and given to slots, and what the slots say becomes frames, results, logs and failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from callboard_broker.services.farm.core import Core
from callboard_broker.services.farm.files import Files
from callboard_broker.services.farm.model import Attempt, Slot, SlotKey, Step
from callboard_broker.services.farm.retry import Decision, Failure, decide, gives_up
from callboard_core.errors import BadRequest, Forbidden, NotFound
from callboard_core.farm.messages import AttemptCall, AttemptEvent, AttemptReply
from callboard_core.farm.states import FrameEvent, FrameState, TaskEvent, TaskState
from callboard_core.farm.states import step as follow
from callboard_core.link.calls import new_id

__all__ = ["Attempts"]

#: Weight of the newest of the times that a smoothed time is made of.
_WEIGHT = 0.3
_KIB = 1024


class Attempts:
    """What becomes of attempts; on the farm's thread only.

    Args:
        core: what is shared.
        files: checks and keeps what is made.
        give_up: ends a job of which nothing can be done.
        rendered: told of every frame that has a picture.
    """

    def __init__(
        self,
        core: Core,
        files: Files,
        *,
        give_up: Callable[[Step, str], object],
        rendered: Callable[[Attempt, AttemptEvent], object] = lambda attempt, event: None,  # noqa: ARG005
    ) -> None:
        self._core = core
        self._files = files
        self._give_up = give_up
        self._rendered = rendered

    # -- giving ---------------------------------------------------------------------------------------------

    def assign(self, step: Step, slot: Slot, count: int) -> Attempt | None:
        """Give a slot the next ``count`` frames of a step; None if none waits."""
        core, job = self._core, step.job
        indexes = core.apply(step, FrameEvent.ASSIGN, step.strip.next(count))
        if not indexes:
            core.refresh(step)
            return None
        job.tasks += 1
        attempt = Attempt(
            id=new_id(),
            step=step,
            task=job.tasks,
            slot=slot.key,
            indexes=indexes,
            made=core.clock(),
            expires=core.monotonic() + core.settings.lease,
        )
        core.begin(attempt)
        core.ledger.attempt(attempt)
        core.touch(job)
        core.refresh(step)
        core.follow(job)
        return attempt

    # -- hearing --------------------------------------------------------------------------------------------

    def take(self, call: AttemptCall, node: str) -> AttemptReply:
        """Take what a slot says of an attempt.

        Raises:
            NotFound: the attempt is void; the slot stops and forgets it.
            Forbidden: it is another slot's.
            BadRequest: an event is missing before these, or names a frame that is not the attempt's.
        """
        attempt = self._core.book.attempts.get(call.attempt)
        if attempt is None:
            raise NotFound(f"attempt {call.attempt} is void; drop it")
        if attempt.slot != (node, call.slot):
            raise Forbidden(f"attempt {call.attempt} was not given to slot {call.slot} of {node}")
        events = self._new(attempt, call.events)
        lease = self._core.settings.lease
        self.renew(self.of_slot(attempt.slot))  # whoever speaks of one has not lost the other
        for event in events:
            attempt.seq = event.seq
            self._apply(attempt, event)
        if events:
            self._core.ledger.attempt(attempt)
        return AttemptReply(seq=attempt.seq, lease=lease, cancel=attempt.cancelled)

    def _new(self, attempt: Attempt, events: Iterable[AttemptEvent]) -> list[AttemptEvent]:
        """Return the events that are news, all of them checked."""
        new = [event for event in events if event.seq > attempt.seq]
        ours = set(attempt.indexes)
        for expected, event in enumerate(new, attempt.seq + 1):
            if event.seq != expected:
                raise BadRequest(f"seq: {event.seq} came where {expected} is next; send what is between")
            if event.frame is not None and not attempt.step.single:
                try:
                    known = attempt.step.strip.index(event.frame) in ours
                except NotFound:
                    known = False
                if not known:
                    raise BadRequest(f"frame: {event.frame} is not one of attempt {attempt.id}")
            self._files.check(attempt, event)
        return new

    def _apply(self, attempt: Attempt, event: AttemptEvent) -> None:
        if attempt.ended is not None:
            return
        if attempt.cancelled:
            self._wind_up(attempt, event)
            return
        match event.what:
            case "started":
                self._started(attempt, event)
            case "progress":
                self._progress(attempt, event)
            case "frame":
                self._frame(attempt, event)
            case "log":
                self._log(attempt, event.lines or [])
            case "done":
                self._done(attempt)
            case "failed":
                self._log(attempt, event.lines or [], always=True)
                self._failed(attempt, event)
            case "cancelled":
                self.release(attempt, code=event.code or "cancelled", message=event.message)

    def _wind_up(self, attempt: Attempt, event: AttemptEvent) -> None:
        """Of an attempt that was taken back only its log and its end matter; its frames may be another's by now."""
        self._log(attempt, event.lines or [])
        if event.what in _ENDS:
            self.release(attempt, code="cancelled", message=event.message)

    def _started(self, attempt: Attempt, event: AttemptEvent) -> None:
        if attempt.started is not None:
            return
        step = attempt.step
        attempt.started = self._core.clock()
        attempt.state = follow(attempt.state, TaskEvent.STARTED)
        if event.seconds is not None:
            step.startup_seconds = _smooth(step.startup_seconds, event.seconds)
        self._work_on(attempt, self._index(attempt, event))
        self._core.refresh(step)

    def _progress(self, attempt: Attempt, event: AttemptEvent) -> None:
        attempt.progress = attempt.progress if event.progress is None else event.progress
        attempt.eta = event.eta
        if event.frame is not None:
            self._work_on(attempt, self._index(attempt, event))
        self._core.changed.add(attempt.job.id)

    def _index(self, attempt: Attempt, event: AttemptEvent) -> int:
        if event.frame is not None and not attempt.step.single:
            return attempt.step.strip.index(event.frame)
        return self._next(attempt)

    def _next(self, attempt: Attempt) -> int:
        """The first frame that is not done; the last one if all are."""
        strip = attempt.step.strip
        done = FrameState.DONE
        return next(
            (index for index in attempt.indexes if strip.state(index) is not done), attempt.indexes[-1]
        )

    def _work_on(self, attempt: Attempt, index: int) -> None:
        if attempt.frame != index:
            attempt.frame, attempt.frame_began = index, self._core.clock()
        self._core.apply(attempt.step, FrameEvent.STARTED, [index])

    def _frame(self, attempt: Attempt, event: AttemptEvent) -> None:
        core, step = self._core, attempt.step
        if step.single:
            self._keep(attempt, event.seq, event)
            return
        index = self._index(attempt, event)
        if not core.apply(step, FrameEvent.FINISHED, [index]):
            return  # told before
        attempt.done += 1
        attempt.progress, attempt.eta = attempt.done / len(attempt.indexes), None
        self._keep(attempt, step.number_of(index), event)
        self._count_done(attempt, event.seconds)
        if attempt.done < len(attempt.indexes):
            self._work_on(attempt, self._next(attempt))

    def _keep(self, attempt: Attempt, frame: int, event: AttemptEvent) -> None:
        self._files.keep(attempt, frame, event)
        self._core.ledger.result(attempt, frame, event, self._core.clock())
        self._rendered(attempt, event)

    def _count_done(self, attempt: Attempt, seconds: float | None) -> None:
        core, step = self._core, attempt.step
        core.frames_done += 1
        if seconds is not None:
            step.frame_seconds = _smooth(step.frame_seconds, seconds)
            paces = step.queue.slot_seconds
            paces[attempt.slot] = _smooth(paces.get(attempt.slot), seconds)
        step.in_a_row.clear()
        step.queue.not_before = 0.0
        step.job.warm.add(attempt.slot[0])
        slot = core.book.slots.get(attempt.slot)
        if slot is not None:
            slot.frames_done += 1

    def _log(self, attempt: Attempt, lines: list[str], *, always: bool = False) -> None:
        room = self._core.settings.log_kb * _KIB - attempt.logged
        if lines and (room > 0 or always):
            self._core.ledger.log(attempt, lines)

    # -- ending ---------------------------------------------------------------------------------------------

    def _done(self, attempt: Attempt) -> None:
        step = attempt.step
        if step.single and self._core.apply(step, FrameEvent.FINISHED, attempt.indexes):
            self._count_done(attempt, self._core.clock() - (attempt.started or attempt.made))
        if any(step.strip.state(index) in _OPEN for index in attempt.indexes):
            missing = "the slot said it is done, but not every frame has come"
            self.fail(attempt, "node", "incomplete", missing)
            return
        self._core.tasks_done += 1
        self._close(attempt, TaskState.DONE)

    def _failed(self, attempt: Attempt, event: AttemptEvent) -> None:
        if event.fault is None:
            self.release(attempt, code=event.code or "released", message=event.message)
            return
        if event.frame is not None:
            attempt.frame = self._index(attempt, event)
        if event.code == "restarted":  # it was killed, or lost its power: as a node that does not come back
            self.lose(attempt, event.code, event.message or "")
            return
        self.fail(attempt, event.fault, event.code or "failed", event.message or "")

    def fail(self, attempt: Attempt, fault: str, code: str, message: str) -> None:
        """End an attempt that failed; what becomes of its frames says the retry policy."""
        step = attempt.step
        blamed = attempt.frame if attempt.frame is not None else self._next(attempt)
        attempt.fault, attempt.code, attempt.message = fault, code, message
        slot = self._core.book.slots.get(attempt.slot)
        if slot is not None and fault == "node":
            slot.failures += 1
        decision = self._decide(attempt, fault, code, blamed)
        step.failure = f"{message} ({attempt.slot[0]}/{attempt.slot[1]}: {decision.reason})"
        self._carry_out(step, attempt, blamed, decision)
        self._close(attempt, TaskState.FAILED)
        failed = attempt.job.count(FrameState.FAILED)
        if not attempt.job.over and (decision.fail_job or gives_up(failed, self._core.settings.retry)):
            self._give_up(step, message)

    def _decide(self, attempt: Attempt, fault: str, code: str, blamed: int) -> Decision:
        core, step, node = self._core, attempt.step, attempt.slot[0]
        faults = attempt.job.faults.setdefault(step.spec.type, {})
        if fault != "licence":
            faults[node] = faults.get(node, 0) + 1
        step.in_a_row[fault] = step.in_a_row.get(fault, 0) + 1
        elsewhere = any(one.node != node and core.can_do(step, one) for one in core.book.slots.values())
        failure = Failure(
            fault=fault,  # type: ignore[arg-type]  # the event's own literal
            code=code,
            tries=step.strip.tries[blamed] + 1,
            on_node=faults.get(node, 0),
            in_a_row=step.in_a_row[fault],
            elsewhere=elsewhere,
        )
        return decide(failure, core.settings.retry)

    def _carry_out(self, step: Step, attempt: Attempt, blamed: int, decision: Decision) -> None:
        core = self._core
        if decision.counts and attempt.fault != "licence":
            step.strip.try_again(blamed)
            core.ledger.frames(step)
        if not decision.again:
            core.apply(step, FrameEvent.BROKE, [blamed])
        if decision.block:
            step.queue.blocked.add(attempt.slot[0])
        if decision.wait:
            step.queue.not_before = core.clock() + decision.wait
            step.queue.waits_for = decision.reason
            core.desk.later(decision.wait, lambda: core.refresh(step))

    def lose(self, attempt: Attempt, code: str, message: str) -> None:
        """End an attempt whose slot is gone. Whoever is to blame, a frame that takes slots with it is given up."""
        strip, blamed = attempt.step.strip, attempt.frame
        if blamed is not None and not attempt.cancelled and strip.state(blamed) in _OPEN:
            tries = strip.try_again(blamed)
            self._core.ledger.frames(attempt.step)
            if tries >= self._core.settings.retry.node_tries:
                self._core.apply(attempt.step, FrameEvent.BROKE, [blamed])
                attempt.step.failure = f"{message} ({attempt.slot[0]}/{attempt.slot[1]}: try {tries})"
        self.release(attempt, code=code, message=message)

    def release(self, attempt: Attempt, *, code: str = "released", message: str | None = None) -> None:
        """End an attempt without anybody being blamed; what it has not done waits again."""
        attempt.code, attempt.message = attempt.code or code, attempt.message or message
        self._close(attempt, TaskState.CANCELLED)

    def _close(self, attempt: Attempt, state: TaskState) -> None:
        core, step = self._core, attempt.step
        attempt.state, attempt.ended = state, core.clock()
        if not attempt.cancelled:
            core.apply(step, FrameEvent.RELEASED, attempt.indexes)
        if step.single and state is not TaskState.DONE:
            core.forget_results(step, None)
        core.end(attempt)
        core.ledger.attempt(attempt)
        core.touch(attempt.job)
        if step.done:
            core.refresh_job(attempt.job)
        else:
            core.refresh(step)
        core.follow(attempt.job)

    # -- taking back ----------------------------------------------------------------------------------------

    def take_back(self, attempt: Attempt, event: FrameEvent) -> None:
        """Void an attempt's frames now; the attempt occupies its slot until that has stopped.

        Args:
            attempt: the caller tells its slot to stop.
            event: what happens to the frames: cancelled, or released for others.
        """
        self._core.apply(attempt.step, event, attempt.indexes)
        attempt.cancelled = True
        self._core.touch(attempt.job)
        self._core.refresh(attempt.step)

    def expired(self) -> list[Attempt]:
        """Return the attempts whose lease is over."""
        now = self._core.monotonic()
        return [attempt for attempt in self._core.book.attempts.values() if attempt.expires < now]

    def renew(self, attempts: Iterable[Attempt]) -> None:
        """Let leases begin anew; the board itself was away."""
        until = self._core.monotonic() + self._core.settings.lease
        for attempt in attempts:
            attempt.expires = until

    def restore(self, attempt: Attempt) -> None:
        """Take over an attempt of the board's last run."""
        attempt.done = sum(attempt.step.strip.state(index) is FrameState.DONE for index in attempt.indexes)
        self._core.begin(attempt)

    def of_slot(self, key: SlotKey) -> list[Attempt]:
        """Return what a slot has, what it works on first."""
        slot = self._core.book.slots.get(key)
        return [] if slot is None else list(slot.attempts.values())


_OPEN = frozenset({FrameState.ASSIGNED, FrameState.RENDERING})
_ENDS = frozenset({"done", "failed", "cancelled"})


def _smooth(before: float | None, value: float) -> float:
    return value if before is None else before + _WEIGHT * (value - before)
