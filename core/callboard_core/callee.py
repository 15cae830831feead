"""The callee: receives the calls for a node's things, runs their handlers and answers, always once."""

from __future__ import annotations

import inspect
import logging
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from functools import lru_cache, partial
from time import monotonic
from typing import Any, Literal

from pydantic import JsonValue

from callboard_core import topics
from callboard_core.answers import LONGEST_TEXT, encode_error, raised, refused
from callboard_core.calllog import CallLog, Verdict, remaining
from callboard_core.calls import artifacts, codec
from callboard_core.calls.envelopes import encode_result, read_call
from callboard_core.errors import (
    BadRequest,
    CallboardError,
    Expired,
    Failed,
    NotFound,
    Overloaded,
    TimedOut,
    TooLarge,
    Unavailable,
)
from callboard_core.jobs import Cancellation, Handler, Job, Request, Tally, Thing
from callboard_core.link.link import Link
from callboard_core.link.values import Message
from callboard_core.messages import Call, Event, Reply, Severity
from callboard_core.presence import Presence
from callboard_core.runners import LoopThread, Pool
from callboard_core.topics import Address, Kind, Leaf

__all__ = ["Callee", "Handler", "Request", "Run"]

_log = logging.getLogger("callboard.callee")

#: Seconds of work after which the caller is told that it is being worked on.
ACK_AFTER = 1.0
#: Calls that may wait for one thing.
BACKLOG = 100
#: Handlers that may run at a time in threads; each thing has its own, lower bound.
THREADS = 1000
#: Least seconds between two reports of progress of one call.
PROGRESS_EVERY = 0.1

Run = Literal["thread", "inline"]
#: Takes one message for a caller: an acknowledgement, progress or the final answer.
Answer = Callable[[bytes], None]


class Callee:
    """Answers the calls for one node.

    Every call gets exactly one final answer: the handler's result or error, or why it was not run (expired,
    not found, overloaded). Handlers run in daemon threads, coroutines on one asyncio loop; a thing handles
    ``concurrency`` calls at a time, the others wait in order. A handler that overruns its time-out is answered
    for with ``timeout`` and told through ``Request.cancelled``; its thing is free again once it returns.

    What is not a call (retained, no JSON, no such topic) is refused, counted and reported as the event
    ``refused``; a retained call is also cleared.

    Args:
        link: make the callee before the link is started.
        who: the node's presence, or its id.
        site: by default the link's.
    """

    def __init__(self, link: Link, who: Presence | str, *, site: str | None = None) -> None:
        self.node = who if isinstance(who, str) else who.node
        self.refused = 0
        self._identity: dict[str, JsonValue] = {"host": socket.gethostname()}
        if not isinstance(who, str):
            self._identity |= {"instance": who.instance, "epoch": who.epoch}
        self._born = monotonic()
        self._link = link
        self._site = site or link.site
        self._things: dict[tuple[Kind, str], Thing] = {}
        self._lock = threading.RLock()
        self._log = CallLog()
        self._jobs: dict[tuple[str | None, str], Job] = {}
        self._pool = Pool(f"{self.node}-handler", THREADS)
        self._loop = LoopThread(f"{self.node}-loop")
        self.handle(Kind.ACTION, "ping", self._ping, run="inline")
        link.subscribe(topics.every_command(self._site, self.node), self._receive)

    @property
    def loop(self) -> LoopThread:
        """The asyncio loop on which coroutine handlers run."""
        return self._loop

    def handle(
        self,
        kind: Kind,
        name: str,
        handler: Handler,
        *,
        timeout: float = 30.0,
        run: Run = "thread",
        concurrency: int = 1,
        backlog: int = BACKLOG,
        traceback: bool = False,
    ) -> Tally:
        """Answer the calls of a thing with ``handler`` (in the place of an earlier one).

        Args:
            kind: the thing's kind.
            name: the thing's name.
            handler: a function or coroutine function of the request; it may also return a future.
            timeout: seconds after which the call is answered with ``timeout``.
            run: ``inline`` runs it on the link's dispatcher thread, for handlers that never wait.
            concurrency: how many calls it may handle at a time.
            backlog: how many more calls may wait for it; those that come then are ``overloaded``.
            traceback: whether the answer to a call that raised carries the traceback.

        Returns:
            What the thing has done, kept up to date.
        """
        thing = Thing(handler, timeout, concurrency, run == "inline", backlog, traceback)
        with self._lock:
            self._things[Kind(kind), name] = thing
        return thing.tally

    def busy(self, kind: Kind, name: str) -> tuple[int, int]:
        """How many calls a thing works on, and how many wait for it."""
        with self._lock:
            thing = self._things.get((kind, name))
            return (0, 0) if thing is None else (thing.running, len(thing.waiting))

    def unhandle(self, kind: Kind, name: str) -> None:
        """Answer further calls of a thing with ``not_found``; what runs or waits is still done."""
        with self._lock:
            self._things.pop((kind, name), None)

    def close(self) -> None:
        """Cancel everything and end the threads, without waiting for handlers that hang."""
        with self._lock:
            jobs = list(self._jobs.values())
        for job in jobs:
            if self._withdraw(job):
                self._refuse_job(job, NotFound(f"{self.node} stops; the call was not begun"))
                continue
            if job.task is not None:
                self._refuse_job(job, Unavailable(f"{self.node} stopped while it worked on the call"))
            self._interrupt(job)
        self._pool.stop()
        self._loop.stop()

    # Receiving (on the link's dispatcher thread).

    def _receive(self, message: Message) -> None:
        if not message.payload:
            return  # a retained call was cleared
        if message.retain:
            self._link.publish(message.topic, b"", qos=1, retain=True)
            self._refuse(message, "a command must not be retained")
            return
        try:
            kind, name = _thing_of(message.topic)
            call = read_call(message.payload)
            self._check_reply_topic(call)
        except CallboardError as error:
            self._refuse(message, error.message)
            return
        self.take(call, kind, name, message.arrived, partial(self._reply_to, call.reply_to))

    def take(self, call: Call, kind: Kind, name: str, arrived: float, answer: Answer) -> None:
        """Take a call, whichever way it came; one that came before is dropped, by whichever way.

        Args:
            call: what is asked; who asks is told apart by ``reply_to``.
            kind: of the thing it is for.
            name: of the thing it is for.
            arrived: the monotonic clock at its arrival, in seconds.
            answer: takes what is to be sent to the caller; called from any thread, must not wait.
        """
        if call.cancel is not None:
            self._cancel(call, call.cancel, answer)
        else:
            self._admit(call, kind, name, arrived, answer)

    def _check_reply_topic(self, call: Call) -> None:
        """Answers go to reply topics of this site only, so that nobody can make us publish elsewhere."""
        if call.reply_to is None:
            return
        if _site_of_reply(call.reply_to) != self._site:
            raise BadRequest(f"reply_to: {call.reply_to!r} is not a reply topic of site {self._site!r}")

    def _refuse(self, message: Message, reason: str) -> None:
        self.refused += 1
        event = Event(
            t=time.time(),
            severity=Severity.WARNING,
            message=f"refused {message.topic}: {reason}"[:LONGEST_TEXT],
            data={"topic": message.topic, "reason": reason[:LONGEST_TEXT], "size": len(message.payload)},
        )
        self._send(topics.event(self._site, self.node, "refused"), event.encode())

    def _admit(self, call: Call, kind: Kind, name: str, arrived: float, answer: Answer) -> None:
        now = monotonic()
        waited = max(0.0, now - arrived)
        left = remaining(call, waited=waited, wall=time.time() - waited)
        verdict = self._log.admit((call.reply_to, call.id), now, left)
        if verdict is Verdict.DUPLICATE:
            return
        thing = self._things.get((kind, name))
        if left <= 0:
            answer(_refusal(call, Expired("the call's validity had ended when it arrived")))
        elif verdict is Verdict.FULL:
            full = Overloaded(f"{self.node} has too many calls to remember; try again later")
            answer(_refusal(call, full))
        elif thing is None:
            answer(_refusal(call, NotFound(f"{self.node} has no {kind}/{name}")))
        else:
            self._enqueue(self._make_job(call, kind, name, thing, answer, arrived), left)

    def _make_job(
        self, call: Call, kind: Kind, name: str, thing: Thing, answer: Answer, arrived: float
    ) -> Job:
        job: Job
        request = Request(
            call.id,
            kind,
            name,
            call.args,
            call.reply_to,
            Cancellation(),
            lambda value: self._progress(job, value),
            lambda result: self._finish(job, result),
        )
        job = Job(call, thing, request, answer, arrived)
        return job

    # Running.

    def _enqueue(self, job: Job, left: float) -> None:
        thing = job.thing
        with self._lock:
            thing.tally.note_caller(job.call.reply_to)
            if thing.running >= thing.concurrency:
                if len(thing.waiting) >= thing.backlog:
                    thing.tally.refused += 1
                    job.answer(_refusal(job.call, Overloaded(f"{len(thing.waiting)} calls already wait")))
                    return
                thing.waiting.append(job)
                self._jobs[job.key] = job
                job.timers.append(self._link.later(ACK_AFTER, partial(self._acknowledge, job)))
                job.timers.append(self._link.later(left, partial(self._expire, job)))
                return
            thing.running += 1
            self._jobs[job.key] = job
        self._start(job)

    def _start(self, job: Job) -> None:
        thing = job.thing
        if not job.acknowledged:
            job.timers.append(self._link.later(ACK_AFTER, partial(self._acknowledge, job)))
        job.timers.append(self._link.later(thing.timeout, partial(self._time_out, job)))
        if thing.inline or inspect.iscoroutinefunction(thing.handler):
            self._run(job)
        elif not self._pool.run(partial(self._run, job)):
            self._refuse_job(job, Overloaded(f"all {THREADS} handler threads of {self.node} are busy"))
            self._release(job)

    def _run(self, job: Job) -> None:
        try:
            result = job.thing.handler(job.request)
        except BaseException as error:  # noqa: BLE001 - whatever it raises is the caller's answer
            self._finish(job, error=error)
            self._release(job)
            return
        if isinstance(result, Future):
            self._follow(job, result)
        elif inspect.isawaitable(result):
            self._await(job, result)
        else:
            self._finish(job, result)
            self._release(job)

    def _await(self, job: Job, result: Awaitable[Any]) -> None:
        async def work() -> Any:
            try:
                return await result
            except (SystemExit, KeyboardInterrupt) as error:  # these would end the loop
                raise Failed(f"{type(error).__name__}: {error}") from error

        self._follow(job, self._loop.submit(work()))

    def _follow(self, job: Job, task: Future[Any]) -> None:
        with self._lock:
            job.task = task
            interrupted = job.request.cancelled.is_set()
        if interrupted:
            task.cancel()
        task.add_done_callback(partial(self._awaited, job))

    def _awaited(self, job: Job, task: Future[Any]) -> None:
        if task.cancelled():
            self._finish(job, error=Failed("the call was cancelled"))
        elif (error := task.exception()) is not None:
            self._finish(job, error=error)
        else:
            self._finish(job, task.result())
        self._release(job)

    def _release(self, job: Job) -> None:
        """A handler has returned: the next call of its thing may run."""
        with self._lock:
            thing = job.thing
            following = thing.waiting.popleft() if thing.waiting else None
            if following is None:
                thing.running -= 1
                return
            for timer in following.timers:
                timer.cancel()
            following.timers.clear()
        self._start(following)

    # Interrupting.

    def _cancel(self, call: Call, wanted: str, answer: Answer) -> None:
        job = self._find(call.reply_to, wanted)
        if job is not None:
            self._interrupt(job)
        answer(encode_result(call.id, {"cancelled": job is not None}))

    def _find(self, caller: str | None, wanted: str) -> Job | None:
        """The call of this caller; of one that does not name itself, the only call of that id."""
        with self._lock:
            if (job := self._jobs.get((caller, wanted))) is not None or caller is not None:
                return job
            found = [job for (_, one), job in self._jobs.items() if one == wanted]
        return found[0] if len(found) == 1 else None

    def _interrupt(self, job: Job) -> None:
        job.request.cancelled.set()
        if self._withdraw(job):
            self._refuse_job(job, Failed("the call was cancelled before it began"))
        elif job.task is not None:
            job.task.cancel()

    def _withdraw(self, job: Job) -> bool:
        """Take a call that has not begun out of the queue."""
        with self._lock:
            if job not in job.thing.waiting:
                return False
            job.thing.waiting.remove(job)
            return True

    def _expire(self, job: Job) -> None:
        if self._withdraw(job):
            self._refuse_job(job, Expired("the call's validity ended while it waited for its turn"))

    def _time_out(self, job: Job) -> None:
        timeout = TimedOut(f"{job.request.kind}/{job.request.name} took longer than {job.thing.timeout:g} s")
        self._refuse_job(job, timeout)
        job.request.cancelled.set()
        if job.task is not None:
            job.task.cancel()

    # Answering.

    def _acknowledge(self, job: Job) -> None:
        with self._lock:
            if job.acknowledged or job.answered:
                return
            job.acknowledged = True
            job.answer(Reply(id=job.call.id, ack=True).encode())

    def _progress(self, job: Job, value: float) -> None:
        now = monotonic()
        if now - job.reported < PROGRESS_EVERY:
            return
        job.reported = now
        self._acknowledge(job)
        with self._lock:
            if not job.answered:
                job.answer(Reply(id=job.call.id, progress=min(1.0, max(0.0, value))).encode())

    def _finish(self, job: Job, result: Any = None, *, error: BaseException | None = None) -> None:
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

    def _fail(self, job: Job, error: BaseException) -> None:
        body = raised(error, with_traceback=job.thing.traceback)
        self._conclude(job, encode_error(job.call.id, body), ok=False)

    def _store(self, job: Job, result: Any, error: TooLarge) -> None:
        """Keep a result that is larger than a message where there is room, and answer with a reference."""
        keep = self._link.artifacts
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

    def _refuse_job(self, job: Job, error: CallboardError) -> None:
        """End a call for a reason that is not its handler's."""
        self._conclude(job, _refusal(job.call, error), ok=False)

    def _conclude(self, job: Job, payload: bytes, *, ok: bool) -> None:
        with self._lock:
            if job.answered:
                return
            job.answered = True
            self._jobs.pop(job.key, None)
            for timer in job.timers:
                timer.cancel()
            tally = job.thing.tally
            tally.times.append(monotonic() - job.arrived)
            if ok:
                tally.done += 1
            else:
                tally.failed += 1
            job.answer(payload)

    def _reply_to(self, topic: str | None, payload: bytes) -> None:
        if topic is not None:
            self._send(topic, payload)

    def _send(self, topic: str, payload: bytes) -> None:
        try:
            self._link.post(topic, payload, qos=1, expires_in=60.0)
        except CallboardError as error:
            _log.warning("%s: nothing could be sent to %s: %s", self.node, topic, error)

    def _ping(self, _: Request) -> JsonValue:
        return {**self._identity, "uptime": round(monotonic() - self._born, 3)}


def _refusal(call: Call, error: CallboardError) -> bytes:
    return encode_error(call.id, refused(error))


@lru_cache(maxsize=1024)
def _thing_of(topic: str) -> tuple[Kind, str]:
    address = Address.parse(topic)
    if address.kind is None or address.name is None:
        raise BadRequest(f"topic {topic!r} names no thing")
    return address.kind, address.name


@lru_cache(maxsize=1024)
def _site_of_reply(topic: str) -> str | None:
    address = Address.parse(topic)
    return address.site if address.leaf is Leaf.REPLY else None
