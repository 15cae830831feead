"""What a callee does with the calls it has taken: each thing's in turn, and exactly one final answer to each."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from functools import partial
from time import monotonic
from typing import Any, Protocol

from callboard_core.answers import encode_error, raised, refused
from callboard_core.calls import artifacts, codec
from callboard_core.calls.envelopes import Asked, encode_result
from callboard_core.errors import (
    CallboardError,
    Expired,
    Failed,
    NotFound,
    Overloaded,
    TimedOut,
    TooLarge,
    Unavailable,
)
from callboard_core.jobs import Job, Thing
from callboard_core.link.lane import Timer
from callboard_core.messages import Reply
from callboard_core.runners import LoopThread, Pool

__all__ = ["ACK_AFTER", "Working", "refusal"]

#: Seconds after the arrival of a call after which the caller is told that it is being worked on.
ACK_AFTER = 1.0
#: Seconds after which a job that is not done gets timers of its own.
SOON = 0.1
#: What is no awaitable, nor a future.
_PLAIN = frozenset({str, int, float, bool, type(None), dict, list})
#: Handlers that may run at a time in threads; each thing has its own, lower bound.
THREADS = 1000
#: Least seconds between two reports of progress of one call.
PROGRESS_EVERY = 0.1


class Clock(Protocol):
    """What is needed of a link."""

    @property
    def artifacts(self) -> artifacts.ArtifactStore | None:
        """Where results go that are larger than a message."""

    def later(self, delay: float, work: Callable[[], object]) -> Timer:
        """Run something later."""


class Working:
    """Runs jobs. Thread-safe.

    Args:
        node: whose; for names and messages.
        clock: keeps the time.
        answered: told each job's final answer.
    """

    def __init__(self, node: str, clock: Clock, answered: Callable[[Job, bytes], None]) -> None:
        self.node = node
        self.loop = LoopThread(f"{node}-loop")
        self._clock, self._answered = clock, answered
        self._lock = threading.RLock()
        self._jobs: dict[tuple[str | None, str], Job] = {}
        self._looking = False
        self._pool = Pool(f"{node}-handler", THREADS)

    def take(self, job: Job, left: float, run: Callable[[Callable[[], object]], bool] | None = None) -> None:
        """Run a job now (with ``run``, if it needs a thread) or in its turn, which must come within ``left`` seconds."""
        thing = job.thing
        with self._lock:
            thing.tally.note_caller(job.caller)
            waits = thing.running >= thing.concurrency
            if waits and len(thing.waiting) >= thing.backlog:
                thing.tally.refused += 1
                job.answer(refusal(job.call, Overloaded(f"{len(thing.waiting)} calls already wait")))
                return
            self._jobs[job.key] = job
            if not self._looking:
                self._looking = True
                self._clock.later(SOON, self._look)
            if waits:
                thing.waiting.append(job)
                job.expiry = self._clock.later(left, partial(self._expire, job))
                return
            thing.running += 1
        self._start(job, run or self._pool.run)

    def busy(self, thing: Thing) -> tuple[int, int]:
        """How many calls a thing works on, and how many wait for it."""
        with self._lock:
            return (thing.running, len(thing.waiting))

    def callers(self, thing: Thing) -> dict[str, int]:
        """How often each client has called a thing since this was last asked; 0 for who waits for an older call."""
        with self._lock:
            busy = thing.running or thing.waiting
            waiting = [job.caller for job in self._jobs.values() if job.thing is thing] if busy else []
            return thing.tally.take_callers(waiting)

    def find(self, caller: str | None, wanted: str) -> Job | None:
        """The call of this caller; of one that does not name itself, the only call of that id."""
        with self._lock:
            if (job := self._jobs.get((caller, wanted))) is not None or caller is not None:
                return job
            found = [job for (_, one), job in self._jobs.items() if one == wanted]
        return found[0] if len(found) == 1 else None

    def interrupt(self, job: Job) -> None:
        """Cancel a call: one that has not begun is answered at once, one that runs is told."""
        job.cancelled.set()
        if self._withdraw(job):
            self._refuse(job, Failed("the call was cancelled before it began"))
        elif job.task is not None:
            job.task.cancel()

    def progress(self, job: Job, share: float) -> None:
        """Tell the caller how far the work is, 0 to 1."""
        now = monotonic()
        if now - job.reported < PROGRESS_EVERY or job.call.brief:
            return
        job.reported = now
        self._acknowledge(job)
        with self._lock:
            if not job.answered:
                job.answer(Reply(id=job.call.id, progress=min(1.0, max(0.0, share))).encode())

    def finish(self, job: Job, result: Any = None, *, error: BaseException | None = None) -> None:
        """Send the one final answer; what comes after it is dropped."""
        if job.answered:
            return
        if error is not None:
            self._fail(job, error)
            return
        try:
            payload = encode_result(job.call.id, result, msgpack=job.call.accept == codec.MSGPACK)
        except TooLarge as large:
            self._store(job, result, large)
        except CallboardError as failure:
            self._fail(job, failure)
        else:
            self._conclude(job, payload, ok=True)

    def close(self) -> None:
        """Cancel everything and end the threads, without waiting for handlers that hang."""
        with self._lock:
            jobs = list(self._jobs.values())
        for job in jobs:
            if self._withdraw(job):
                self._refuse(job, NotFound(f"{self.node} stops; the call was not begun"))
                continue
            if job.task is not None:
                self._refuse(job, Unavailable(f"{self.node} stopped while it worked on the call"))
            self.interrupt(job)
        self._pool.stop()
        self.loop.stop()

    # -- running ---------------------------------------------------------------------------------------------

    def _start(self, job: Job, run: Callable[[Callable[[], object]], bool]) -> None:
        thing = job.thing
        job.began = monotonic()
        if thing.timeout < 2 * SOON:
            self._keep_time(job, job.began)
        if thing.direct:
            self._run(job)
        elif not run(partial(self._run, job)):
            self._refuse(job, Overloaded(f"all {THREADS} handler threads of {self.node} are busy"))
            self._release(job)

    def _run(self, job: Job) -> None:
        try:
            result = job.thing.handler(job)
        except BaseException as error:  # noqa: BLE001 - whatever it raises is the caller's answer
            self.finish(job, error=error)
            self._release(job)
            return
        if type(result) in _PLAIN:
            self.finish(job, result)
            self._release(job)
        elif isinstance(result, Future):
            self._follow(job, result)
        elif inspect.isawaitable(result):
            self._await(job, result)
        else:
            self.finish(job, result)
            self._release(job)

    def _look(self) -> None:
        """Set timers for the jobs that take long; nearly all are done before."""
        now = monotonic()
        with self._lock:
            self._looking = bool(self._jobs)
            for job in self._jobs.values():
                if now - job.arrived >= SOON and not job.answered:
                    self._keep_time(job, now)
            if self._looking:
                self._clock.later(SOON, self._look)

    def _keep_time(self, job: Job, now: float) -> None:
        """Set the timers of a job that has none."""
        with self._lock:
            if not job.timers:
                wait = max(0.0, job.arrived + ACK_AFTER - now)
                job.timers = (self._clock.later(wait, partial(self._acknowledge, job)),)
            if len(job.timers) == 1 and job.began is not None:
                wait = max(0.0, job.began + job.thing.timeout - now)
                job.timers += (self._clock.later(wait, partial(self._time_out, job)),)

    def _await(self, job: Job, result: Awaitable[Any]) -> None:
        async def work() -> Any:
            try:
                return await result
            except (SystemExit, KeyboardInterrupt) as error:  # these would end the loop
                raise Failed(f"{type(error).__name__}: {error}") from error

        self._follow(job, self.loop.submit(work()))

    def _follow(self, job: Job, task: Future[Any]) -> None:
        with self._lock:
            job.task = task
            interrupted = job.interrupted
        if interrupted:
            task.cancel()
        task.add_done_callback(partial(self._awaited, job))

    def _awaited(self, job: Job, task: Future[Any]) -> None:
        if task.cancelled():
            self.finish(job, error=Failed("the call was cancelled"))
        elif (error := task.exception()) is not None:
            self.finish(job, error=error)
        else:
            self.finish(job, task.result())
        self._release(job)

    def _release(self, job: Job) -> None:
        """A handler has returned: the next call of its thing may run."""
        with self._lock:
            thing = job.thing
            following = thing.waiting.popleft() if thing.waiting else None
            if following is None:
                thing.running -= 1
                return
            if following.expiry is not None:
                following.expiry.cancel()
        self._start(following, self._pool.run)

    # -- interrupting ----------------------------------------------------------------------------------------

    def _withdraw(self, job: Job) -> bool:
        """Take a call that has not begun out of the queue."""
        with self._lock:
            if job not in job.thing.waiting:
                return False
            job.thing.waiting.remove(job)
            return True

    def _expire(self, job: Job) -> None:
        if self._withdraw(job):
            self._refuse(job, Expired("the call's validity ended while it waited for its turn"))

    def _time_out(self, job: Job) -> None:
        timeout = TimedOut(f"{job.kind}/{job.name} took longer than {job.thing.timeout:g} s")
        self._refuse(job, timeout)
        job.cancelled.set()
        if job.task is not None:
            job.task.cancel()

    # -- answering -------------------------------------------------------------------------------------------

    def _acknowledge(self, job: Job) -> None:
        with self._lock:
            if job.acknowledged or job.answered or job.call.brief:
                return
            job.acknowledged = True
            job.answer(Reply(id=job.call.id, ack=True).encode())

    def _fail(self, job: Job, error: BaseException) -> None:
        body = raised(error, with_traceback=job.thing.traceback)
        self._conclude(job, encode_error(job.call.id, body), ok=False)

    def _store(self, job: Job, result: Any, error: TooLarge) -> None:
        """Keep a result that is larger than a message where there is room, and answer with a reference."""
        keep = self._clock.artifacts
        if keep is None:
            self._fail(job, error)
        elif not self._pool.run(partial(self._put, job, keep, result)):
            self._fail(job, Overloaded("all handler threads are busy"))

    def _put(self, job: Job, keep: artifacts.ArtifactStore, result: Any) -> None:
        try:
            payload = encode_result(job.call.id, artifacts.store(keep, result))
        except Exception as error:  # noqa: BLE001 - whatever it was, the caller must hear of it
            self._fail(job, error)
        else:
            self._conclude(job, payload, ok=True)

    def _refuse(self, job: Job, error: CallboardError) -> None:
        """End a call for a reason that is not its handler's."""
        self._conclude(job, refusal(job.call, error), ok=False)

    def _conclude(self, job: Job, payload: bytes, *, ok: bool) -> None:
        with self._lock:
            if job.answered:
                return
            job.answered = True
            tally = job.thing.tally
            tally.times.append(monotonic() - job.arrived)
            if ok:
                tally.done += 1
            else:
                tally.failed += 1
            job.answer(payload)  # the caller goes on while we do the rest
            self._answered(job, payload)
            self._jobs.pop(job.key, None)
            for timer in job.timers:
                timer.cancel()


def refusal(call: Asked, error: CallboardError) -> bytes:
    """Write why a call was not begun, or not carried to its end."""
    return encode_error(call.id, refused(error))
