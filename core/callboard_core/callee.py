"""The callee: receives the calls for a node's things, runs their handlers and answers, always once."""

from __future__ import annotations

import inspect
import logging
import socket
import time
from collections.abc import Callable
from functools import lru_cache, partial
from time import monotonic
from typing import Literal

from pydantic import JsonValue

from callboard_core import topics
from callboard_core.answers import LONGEST_TEXT
from callboard_core.calllog import CallLog, Verdict, remaining
from callboard_core.calls.envelopes import Asked, encode_result, read_asked
from callboard_core.errors import BadRequest, CallboardError, Expired, NotFound, Overloaded, Unavailable
from callboard_core.jobs import Handler, Job, Request, Tally, Thing
from callboard_core.link.link import Link
from callboard_core.link.values import Message
from callboard_core.messages import Event, Severity
from callboard_core.presence import Presence
from callboard_core.runners import LoopThread
from callboard_core.topics import Address, Kind, Leaf
from callboard_core.working import Working, refusal

__all__ = ["Callee", "Handler", "Request", "Run"]

_log = logging.getLogger("callboard.callee")

#: Calls that may wait for one thing.
BACKLOG = 100

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
        self._instance = None if isinstance(who, str) else who.instance
        if not isinstance(who, str):
            self._identity |= {"instance": who.instance, "epoch": who.epoch}
        self._born = monotonic()
        self._link = link
        self._site = site or link.site
        self._things: dict[tuple[Kind, str], Thing] = {}
        self._log = CallLog()
        self._working = Working(self.node, link, self._keep)
        self.handle(Kind.ACTION, "ping", self._ping, run="inline")
        link.subscribe(topics.every_command(self._site, self.node), self._receive)

    @property
    def loop(self) -> LoopThread:
        """The asyncio loop on which coroutine handlers run."""
        return self._working.loop

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
        direct = run == "inline" or inspect.iscoroutinefunction(handler)
        thing = Thing(handler, timeout, concurrency, direct, backlog, traceback)
        self._things[Kind(kind), name] = thing
        return thing.tally

    def busy(self, kind: Kind, name: str) -> tuple[int, int]:
        """How many calls a thing works on, and how many wait for it."""
        thing = self._things.get((kind, name))
        return (0, 0) if thing is None else self._working.busy(thing)

    def callers(self, kind: Kind, name: str) -> dict[str, int]:
        """How often each client has called a thing since this was last asked; 0 for who waits for an older call."""
        thing = self._things.get((kind, name))
        return {} if thing is None else self._working.callers(thing)

    def unhandle(self, kind: Kind, name: str) -> None:
        """Answer further calls of a thing with ``not_found``; what runs or waits is still done."""
        self._things.pop((kind, name), None)

    def close(self) -> None:
        """Cancel everything and end the threads, without waiting for handlers that hang."""
        self._working.close()

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
            call = read_asked(message.payload)
            self._check_reply_topic(call)
        except CallboardError as error:
            self._refuse(message, error.message)
            return
        self.take(call, kind, name, message.arrived, partial(self._reply_to, call.reply_to))

    def take(
        self,
        call: Asked,
        kind: Kind,
        name: str,
        arrived: float,
        answer: Answer,
        *,
        run: Callable[[Callable[[], object]], bool] | None = None,
    ) -> None:
        """Take a call, whichever way it came; one that came before is dropped, by whichever way.

        Args:
            call: what is asked; who asks is told apart by ``reply_to``.
            kind: of the thing it is for.
            name: of the thing it is for.
            arrived: the monotonic clock at its arrival, in seconds.
            answer: takes what is to be sent to the caller; called from any thread, must not wait.
            run: runs a handler that waits, if it can begin at once; by default a thread of the callee's does.
        """
        if call.cancel is not None:
            self._cancel(call, call.cancel, answer)
            return
        now = monotonic()
        waited = max(0.0, now - arrived)
        left = remaining(call, waited=waited, wall=time.time() - waited)
        if call.again is not None and call.again != self._instance:
            answer(refusal(call, Unavailable(f"{self.node} has started anew since it got the call")))
            return
        key = (call.reply_to, call.id)
        verdict = self._log.admit(key, now, left)
        thing = self._things.get((kind, name))
        if verdict is Verdict.NEW and left > 0 and thing is not None:
            job = Job(call, key, kind, name, thing, answer, arrived, self._working)
            self._working.take(job, left, run)
        elif verdict is Verdict.DUPLICATE:
            if call.again is not None:
                self._repeat(call, answer)
        elif left <= 0:
            answer(refusal(call, Expired("the call's validity had ended when it arrived")))
        elif verdict is Verdict.FULL:
            full = Overloaded(f"{self.node} has too many calls to remember; try again later")
            answer(refusal(call, full))
        else:
            answer(refusal(call, NotFound(f"{self.node} has no {kind}/{name}")))

    def _check_reply_topic(self, call: Asked) -> None:
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

    def _repeat(self, call: Asked, answer: Answer) -> None:
        """Give an answer once more to a caller that may have lost its connection before it got it."""
        if self._working.find(call.reply_to, call.id) is not None:
            return  # it is still worked on
        kept = self._log.answer((call.reply_to, call.id))
        lost = Unavailable(f"{self.node} has answered the call and keeps the answer no more")
        answer(refusal(call, lost) if kept is None else kept)

    def _keep(self, job: Job, payload: bytes) -> None:
        if job.caller is not None:
            self._log.keep(job.key, payload)

    def _cancel(self, call: Asked, wanted: str, answer: Answer) -> None:
        job = self._working.find(call.reply_to, wanted)
        if job is not None:
            self._working.interrupt(job)
        answer(encode_result(call.id, {"cancelled": job is not None}))

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
