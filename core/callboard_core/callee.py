"""The callee: receives the calls for a node's things, runs their handlers and answers, always once."""

from __future__ import annotations

import inspect
import json
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, Literal

from pydantic import JsonValue

from callboard_core import topics
from callboard_core.calllog import CallLog, Verdict, remaining
from callboard_core.errors import (
    BadRequest,
    CallboardError,
    Expired,
    Failed,
    NotFound,
    Overloaded,
    TimedOut,
    TooLarge,
)
from callboard_core.link.lane import Timer
from callboard_core.link.link import Link
from callboard_core.link.values import Message
from callboard_core.messages import MESSAGE_LIMIT, Call, ErrorBody, Event, Reply, Severity, parse
from callboard_core.presence import Presence
from callboard_core.runners import LoopThread, Pool
from callboard_core.topics import Address, Kind, Leaf

__all__ = ["Callee", "Handler", "Request", "Run"]

_log = logging.getLogger("callboard.callee")

#: Seconds of work after which the caller is told that it is being worked on.
ACK_AFTER = 1.0
#: Calls that may wait for one thing.
BACKLOG = 100
#: Handlers that may run at a time in threads.
THREADS = 32
#: Least seconds between two reports of progress of one call.
PROGRESS_EVERY = 0.1
#: Longest error text sent, in characters.
LONGEST_TEXT = 4096

Run = Literal["thread", "inline"]


@dataclass(slots=True, eq=False)
class Request:
    """One call, as its handler sees it."""

    id: str
    kind: Kind
    name: str
    args: Mapping[str, JsonValue]
    caller: str | None
    cancelled: threading.Event
    progress: Callable[[float], None]


#: Returns the result, or an awaitable of it; what it raises is answered as an error.
Handler = Callable[[Request], JsonValue | Awaitable[JsonValue]]


@dataclass(slots=True, eq=False)
class _Thing:
    handler: Handler
    timeout: float
    concurrency: int
    inline: bool
    running: int = 0
    waiting: deque[_Job] = field(default_factory=deque)


@dataclass(slots=True, eq=False)
class _Job:
    call: Call
    thing: _Thing
    request: Request
    timers: list[Timer] = field(default_factory=list)
    task: Future[JsonValue] | None = None
    started: bool = False
    acknowledged: bool = False
    answered: bool = False
    reported: float = 0.0


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
        self._things: dict[tuple[Kind, str], _Thing] = {}
        self._lock = threading.RLock()
        self._log = CallLog()
        self._jobs: dict[str, _Job] = {}
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
    ) -> None:
        """Answer the calls of a thing with ``handler`` (in the place of an earlier one).

        Args:
            kind: the thing's kind.
            name: the thing's name.
            handler: a function or coroutine function of the request.
            timeout: seconds after which the call is answered with ``timeout``.
            run: ``inline`` runs it on the link's dispatcher thread, for handlers that never wait.
            concurrency: how many calls it may handle at a time.
        """
        thing = _Thing(handler, timeout, concurrency, run == "inline")
        with self._lock:
            self._things[Kind(kind), name] = thing

    def unhandle(self, kind: Kind, name: str) -> None:
        """Answer further calls of a thing with ``not_found``; what runs or waits is still done."""
        with self._lock:
            self._things.pop((kind, name), None)

    def close(self) -> None:
        """Cancel everything and end the threads, without waiting for handlers that hang."""
        with self._lock:
            jobs = list(self._jobs.values())
        for job in jobs:
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
            address = Address.parse(message.topic)
            call = parse(Call, message.payload)
            self._check_reply_topic(call)
        except CallboardError as error:
            self._refuse(message, error.message)
            return
        if call.cancel is not None:
            self._cancel(call, call.cancel)
        else:
            self._admit(call, address, message.arrived)

    def _check_reply_topic(self, call: Call) -> None:
        """Answers go to reply topics of this site only, so that nobody can make us publish elsewhere."""
        if call.reply_to is None:
            return
        address = Address.parse(call.reply_to)
        if address.leaf is not Leaf.REPLY or address.site != self._site:
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

    def _admit(self, call: Call, address: Address, arrived: float) -> None:
        now = monotonic()
        waited = max(0.0, now - arrived)
        left = remaining(call, waited=waited, wall=time.time() - waited)
        verdict = self._log.admit((call.reply_to, call.id), now, left)
        if verdict is Verdict.DUPLICATE:
            return
        kind, name = address.kind or Kind.ACTION, address.name or ""  # a command's topic has both
        thing = self._things.get((kind, name))
        if left <= 0:
            self._answer_error(call, Expired("the call's validity had ended when it arrived"))
        elif verdict is Verdict.FULL:
            self._answer_error(
                call, Overloaded(f"{self.node} has too many calls to remember; try again later")
            )
        elif thing is None:
            self._answer_error(call, NotFound(f"{self.node} has no {kind}/{name}"))
        else:
            self._enqueue(self._make_job(call, kind, name, thing), left)

    def _make_job(self, call: Call, kind: Kind, name: str, thing: _Thing) -> _Job:
        job: _Job
        request = Request(
            call.id,
            kind,
            name,
            call.args,
            call.reply_to,
            threading.Event(),
            lambda value: self._progress(job, value),
        )
        job = _Job(call, thing, request)
        return job

    # Running.

    def _enqueue(self, job: _Job, left: float) -> None:
        thing = job.thing
        with self._lock:
            if thing.running >= thing.concurrency:
                if len(thing.waiting) >= BACKLOG:
                    self._answer_error(job.call, Overloaded(f"{len(thing.waiting)} calls already wait"))
                    return
                thing.waiting.append(job)
                self._jobs[job.call.id] = job
                job.timers.append(self._link.later(ACK_AFTER, partial(self._acknowledge, job)))
                job.timers.append(self._link.later(left, partial(self._expire, job)))
                return
            thing.running += 1
            self._jobs[job.call.id] = job
        self._start(job)

    def _start(self, job: _Job) -> None:
        thing = job.thing
        job.started = True
        if thing.inline:
            self._run(job)
            return
        if not job.acknowledged:
            job.timers.append(self._link.later(ACK_AFTER, partial(self._acknowledge, job)))
        job.timers.append(self._link.later(thing.timeout, partial(self._time_out, job)))
        if inspect.iscoroutinefunction(thing.handler):
            self._run(job)
        elif not self._pool.run(partial(self._run, job)):
            self._finish(job, error=Overloaded(f"all {THREADS} handler threads of {self.node} are busy"))
            self._release(job)

    def _run(self, job: _Job) -> None:
        try:
            result = job.thing.handler(job.request)
        except BaseException as error:  # noqa: BLE001 - whatever it raises is the caller's answer
            self._finish(job, error=error)
            self._release(job)
            return
        if inspect.isawaitable(result):
            self._await(job, result)
        else:
            self._finish(job, result)
            self._release(job)

    def _await(self, job: _Job, result: Awaitable[JsonValue]) -> None:
        async def work() -> JsonValue:
            try:
                return await result
            except (SystemExit, KeyboardInterrupt) as error:  # these would end the loop
                raise Failed(f"{type(error).__name__}: {error}") from error

        task = self._loop.submit(work())
        with self._lock:
            job.task = task
            interrupted = job.answered or job.request.cancelled.is_set()
        if interrupted:
            task.cancel()
        task.add_done_callback(partial(self._awaited, job))

    def _awaited(self, job: _Job, task: Future[JsonValue]) -> None:
        if task.cancelled():
            self._finish(job, error=Failed("the call was cancelled"))
        elif (error := task.exception()) is not None:
            self._finish(job, error=error)
        else:
            self._finish(job, task.result())
        self._release(job)

    def _release(self, job: _Job) -> None:
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

    def _cancel(self, call: Call, wanted: str) -> None:
        with self._lock:
            job = self._jobs.get(wanted)
        if job is not None:
            self._interrupt(job)
        self._answer(call, {"cancelled": job is not None})

    def _interrupt(self, job: _Job) -> None:
        job.request.cancelled.set()
        if self._withdraw(job):
            self._finish(job, error=Failed("the call was cancelled before it began"))
        elif job.task is not None:
            job.task.cancel()

    def _withdraw(self, job: _Job) -> bool:
        """Take a call that has not begun out of the queue."""
        with self._lock:
            if job not in job.thing.waiting:
                return False
            job.thing.waiting.remove(job)
            return True

    def _expire(self, job: _Job) -> None:
        if self._withdraw(job):
            self._finish(job, error=Expired("the call's validity ended while it waited for its turn"))

    def _time_out(self, job: _Job) -> None:
        timeout = TimedOut(f"{job.request.kind}/{job.request.name} took longer than {job.thing.timeout:g} s")
        self._finish(job, error=timeout)
        job.request.cancelled.set()
        if job.task is not None:
            job.task.cancel()

    # Answering.

    def _acknowledge(self, job: _Job) -> None:
        with self._lock:
            if job.acknowledged or job.answered:
                return
            job.acknowledged = True
            self._reply(job.call, Reply(id=job.call.id, ack=True).encode())

    def _progress(self, job: _Job, value: float) -> None:
        now = monotonic()
        if now - job.reported < PROGRESS_EVERY:
            return
        job.reported = now
        self._acknowledge(job)
        with self._lock:
            if not job.answered:
                self._reply(job.call, Reply(id=job.call.id, progress=min(1.0, max(0.0, value))).encode())

    def _finish(self, job: _Job, result: JsonValue = None, *, error: BaseException | None = None) -> None:
        """Send the one final answer; what comes after it is dropped."""
        with self._lock:
            if job.answered:
                return
            job.answered = True
            self._jobs.pop(job.call.id, None)
            for timer in job.timers:
                timer.cancel()
            if error is None:
                self._answer(job.call, result)
            else:
                self._answer_error(job.call, error)

    def _answer(self, call: Call, result: JsonValue) -> None:
        try:
            payload = _encode_result(call.id, result)
        except CallboardError as error:
            self._answer_error(call, error)
        else:
            self._reply(call, payload)

    def _answer_error(self, call: Call, error: BaseException) -> None:
        self._reply(call, Reply(id=call.id, ok=False, error=_describe(error)).encode())

    def _reply(self, call: Call, payload: bytes) -> None:
        if call.reply_to is not None:
            self._send(call.reply_to, payload)

    def _send(self, topic: str, payload: bytes) -> None:
        try:
            self._link.publish(topic, payload, qos=1, expires_in=60.0)
        except CallboardError as error:
            _log.warning("%s: nothing could be sent to %s: %s", self.node, topic, error)

    def _ping(self, _: Request) -> JsonValue:
        return {**self._identity, "uptime": round(monotonic() - self._born, 3)}


def _encode_result(call_id: str, result: Any) -> bytes:
    """Write a final answer.

    Raises:
        Failed: the result is not JSON (NaN, a set, an object, …).
        TooLarge: it is over the message limit.
    """
    try:
        text = json.dumps({"id": call_id, "ok": True, "result": result}, allow_nan=False, ensure_ascii=False)
        payload = text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Failed(f"the result cannot be written as JSON: {error}") from None
    if len(payload) > MESSAGE_LIMIT:
        raise TooLarge(
            f"the result has {len(payload)} bytes, more than {MESSAGE_LIMIT}; send it as an artifact"
        )
    return payload


def _describe(error: BaseException) -> ErrorBody:
    """Describe any exception within bounds, even one whose text cannot be made or encoded."""
    if isinstance(error, CancelledError):
        return ErrorBody(code="failed", message="the call was cancelled", type="CancelledError")
    try:
        body = ErrorBody.of(error)
    except Exception as broken:  # noqa: BLE001 - a user's __str__ may raise anything
        name = type(error).__name__
        body = ErrorBody(
            code="failed", message=f"{name}: (its text raised {type(broken).__name__})", type=name
        )
    clean = body.message.encode("utf-8", "backslashreplace").decode()[:LONGEST_TEXT]
    return body.model_copy(update={"message": clean})
