"""Calls and round trips: what this client asked and waits to hear."""

from __future__ import annotations

import itertools
import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, Protocol

from pydantic import JsonValue

from callboard_core import topics
from callboard_core.calls import artifacts
from callboard_core.calls.envelopes import encode_call, read_reply
from callboard_core.errors import BadPayload, BadRequest, CallboardError, Failed, TimedOut, Unavailable
from callboard_core.link.inbox import Inbox
from callboard_core.link.lane import Lane, Timer
from callboard_core.messages import Call, Reply
from callboard_core.topics import Address

__all__ = ["Caller", "Calls", "Waiting", "new_id"]

_log = logging.getLogger("callboard.link")

#: Crockford's base 32, as ULIDs are written, two digits at a time.
_BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [first + second for first in _BASE32 for second in _BASE32]
#: Longest time-out in seconds; longer work reports through states and events.
LONGEST = 24 * 3600.0


class _Ids:
    """Makes ULIDs; those of one process differ by a count, those of two by 50 random bits."""

    def __init__(self) -> None:
        self._process = _in_base32(secrets.randbits(50), 5)
        self._count = itertools.count(secrets.randbits(20))
        self._latest = (
            0,
            0,
            "",
        )  # the millisecond, the count without its last digits, and the id without them

    def __call__(self) -> str:
        millisecond, number = time.time_ns() // 1_000_000, next(self._count)
        before, high, beginning = self._latest
        if before != millisecond or high != number >> 10:
            high = number >> 10
            beginning = _in_base32(millisecond, 5) + self._process + _in_base32(high & 0xFFFFF, 2)
            self._latest = (millisecond, high, beginning)
        return beginning + _PAIRS[number & 1023]


def _in_base32(value: int, pairs: int) -> str:
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(10 * pairs - 10, -1, -10)])


def _begin_anew() -> None:
    global _ids  # noqa: PLW0603 - a forked process must not make its parent's ids
    _ids = _Ids()


_ids = _Ids()
os.register_at_fork(after_in_child=_begin_anew)


def new_id() -> str:
    """Return a ULID: 26 characters that sort by the time of their making (48 bits of ms)."""
    return _ids()


@dataclass(slots=True, eq=False)
class Waiting:
    """A call on its way."""

    future: Future[JsonValue]
    on_progress: Callable[[float], None] | None = None
    on_ack: Callable[[], None] | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    deadline: float = 0.0
    timer: Timer | None = None
    fetch: bool = True


class Calls:
    """Calls by id. An answer to a call that is not (or no more) in here is dropped and counted.

    Thread-safe without a lock: whoever takes a call out of the table, in one step, is the one to end it.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, Waiting] = {}
        self.late = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, call_id: str, waiting: Waiting) -> None:
        """Wait for the answers to a call."""
        self._waiting[call_id] = waiting

    def get(self, call_id: str) -> Waiting | None:
        """A call, if it still waits."""
        return self._waiting.get(call_id)

    def answer(self, reply: Reply) -> None:
        """Hand an answer to whoever waits for it."""
        waiting = self._waiting.get(reply.id)
        if waiting is None:
            self.late += 1
        elif reply.final:
            self._finish(reply)
        elif reply.progress is not None:
            if waiting.on_progress is not None:
                waiting.on_progress(reply.progress)
        elif waiting.on_ack is not None:
            waiting.on_ack()

    def fail(self, call_id: str, error: CallboardError) -> None:
        """End a call without an answer, if it still waits."""
        waiting = self._forget(call_id)
        if waiting is not None and waiting.future.set_running_or_notify_cancel():
            waiting.future.set_exception(error)

    def fail_all(self, error: CallboardError) -> None:
        """End every call."""
        for call_id in list(self._waiting):
            self.fail(call_id, error)

    def _finish(self, reply: Reply) -> None:
        if not reply.ok:
            body = reply.error
            self.fail(reply.id, body.to_exception() if body else Failed("the callee gave no reason"))
            return
        waiting = self._forget(reply.id)
        if waiting is not None and waiting.future.set_running_or_notify_cancel():
            waiting.future.set_result(reply.result)

    def _forget(self, call_id: str) -> Waiting | None:
        waiting = self._waiting.pop(call_id, None)
        if waiting is not None and waiting.timer is not None:
            waiting.timer.cancel()
        return waiting


class Line(Protocol):
    """What the caller needs of the link."""

    reply_topic: str

    @property
    def artifacts(self) -> artifacts.ArtifactStore | None:
        """Where results are that are larger than a message."""

    @property
    def connected(self) -> bool:
        """True while the broker is there."""

    def publish(
        self, topic: str, payload: bytes | Call, *, qos: int, expires_in: float | None
    ) -> Future[None]:
        """Send a message."""

    def post(self, topic: str, payload: bytes | Call, *, qos: int, expires_in: float | None) -> None:
        """Send a message without wanting to know when it is out."""


class Caller:
    """Sends calls and matches their answers."""

    def __init__(self, line: Line, worker: Lane, inbox: Inbox) -> None:
        self._line = line
        self._worker = worker
        self._inbox = inbox
        self._calls = Calls()
        self._rounds: dict[bytes, Future[None]] = {}
        self._fresh: list[bytes] = []  # touched by the network thread only

    @property
    def late(self) -> int:
        """Answers that came after their call had ended."""
        return self._calls.late

    def call(
        self,
        address: Address,
        args: Mapping[str, Any],
        timeout: float,
        on_progress: Callable[[float], None] | None,
        on_ack: Callable[[], None] | None,
        call_id: str | None,
        fetch: bool,
        again: str | None = None,
    ) -> Future[JsonValue]:
        """Send a call; see :meth:`callboard_core.link.Link.call`."""
        future: Future[JsonValue] = Future()
        try:
            call_id = call_id or new_id()
            payload = self._make(call_id, args, timeout, again=again)
        except CallboardError as error:
            future.set_exception(error)
            return future
        waiting = Waiting(future, on_progress, on_ack, args, monotonic() + timeout, fetch=fetch)
        waiting.timer = self._worker.later(timeout, partial(self._end_late, call_id, address.node, timeout))
        self._calls.add(call_id, waiting)  # before the answer can come
        try:
            self._line.post(_command(address), payload, qos=1, expires_in=timeout)
        except CallboardError as error:
            self._worker.post(partial(self._calls.fail, call_id, error))
        return future

    def tell(self, address: Address, args: Mapping[str, JsonValue], timeout: float) -> Future[None]:
        """Send a call without a reply topic; see :meth:`callboard_core.link.Link.tell`."""
        payload = self._make(new_id(), args, timeout, answered=False)
        return self._line.publish(_command(address), payload, qos=1, expires_in=timeout)

    def ask_again(self, address: Address, call_id: str, instance: str) -> None:
        """Send a call again that still waits; see :meth:`callboard_core.link.Link.ask_again`."""
        waiting = self._calls.get(call_id)
        left = 0.0 if waiting is None else waiting.deadline - monotonic()
        if waiting is None or left <= 0:
            return
        payload = encode_call(
            call_id, self._line.reply_topic, waiting.args, now=time.time(), timeout=left, again=instance
        )
        try:
            self._line.post(_command(address), payload, qos=1, expires_in=left)
        except CallboardError as error:  # then its time-out ends it
            _log.info("%s could not be asked again: %s", address.node, error)

    def cancel(self, address: Address, call_id: str) -> None:
        """Ask the callee to interrupt a call."""
        if self._line.connected:
            self._line.publish(_command(address), Call(id=new_id(), cancel=call_id), qos=1, expires_in=10.0)

    def round_trip(self, timeout: float) -> Future[None]:
        """Send a nonce through the broker; see :meth:`callboard_core.link.Link.round_trip`."""
        future: Future[None] = Future()
        if not self._line.connected:
            future.set_exception(Unavailable("not connected"))
            return future
        nonce = json.dumps({"id": new_id()}).encode()
        self._rounds[nonce] = future
        late = TimedOut(f"the broker did not return a message within {timeout:g} s")
        self._worker.later(timeout, partial(self._end_round, nonce, late))
        try:
            self._line.publish(self._line.reply_topic, nonce, qos=1, expires_in=timeout)
        except CallboardError as error:
            self._worker.post(partial(self._end_round, nonce, error))
        return future

    def on_reply(self, payload: bytes) -> None:
        """Take what came on the reply topic (network thread)."""
        if payload in self._rounds:
            self._inbox.mark(lambda: self._worker.post(partial(self._end_round, payload, None)))
        else:
            self._fresh.append(payload)

    def release(self) -> None:
        """Hand on what :meth:`on_reply` has taken: all of it at once, for every hand-over wakes the other thread."""
        if self._fresh:
            fresh, self._fresh = self._fresh, []
            self._worker.post(partial(self._answer_all, fresh))

    def on_lost(self, error: CallboardError) -> None:
        """End the round trips of a connection that is lost (network thread); calls may still be answered."""
        for nonce in list(self._rounds):
            self._worker.post(partial(self._end_round, nonce, error))

    def fail_all(self, error: CallboardError) -> None:
        """End everything that waits."""
        self._calls.fail_all(error)
        for nonce in list(self._rounds):
            self._end_round(nonce, error)

    def _make(
        self,
        call_id: str,
        args: Mapping[str, Any],
        timeout: float,
        *,
        answered: bool = True,
        again: str | None = None,
    ) -> bytes:
        if not self._line.connected:
            raise Unavailable("not connected to the broker")
        if not 0 < timeout <= LONGEST:
            raise BadRequest(f"timeout {timeout}: use more than 0 and at most {LONGEST:g} seconds")
        reply_to = self._line.reply_topic if answered else None
        return encode_call(call_id, reply_to, args, now=time.time(), timeout=timeout, again=again)

    def _end_late(self, call_id: str, node: str, timeout: float) -> None:
        away = "" if self._line.connected else "; the connection to the broker is lost"
        self._calls.fail(call_id, TimedOut(f"{node} did not answer within {round(timeout, 2):g} s{away}"))

    def _answer_all(self, payloads: list[bytes]) -> None:
        for payload in payloads:
            try:
                self._answer(payload)
            except Exception:  # noqa: BLE001 - one call's callback is not the others' trouble
                _log.exception("what was to be done with an answer failed")

    def _answer(self, payload: bytes) -> None:
        try:
            reply = read_reply(payload)
        except BadPayload as error:
            _log.warning("an answer that does not parse was ignored: %s", error)
            return
        waiting = self._calls.get(reply.id)
        keep = self._line.artifacts if waiting is not None and waiting.fetch else None
        if not (reply.ok and artifacts.resolve(keep, reply.result, partial(self._take, reply.id))):
            self._calls.answer(reply)

    def _take(self, call_id: str, result: Any, error: BaseException | None) -> None:
        """End a call whose result was fetched from elsewhere (a thread of its own)."""
        if error is None:
            self._calls.answer(Reply.model_construct(id=call_id, ok=True, result=result))
        else:
            told = error if isinstance(error, CallboardError) else Failed(f"{type(error).__name__}: {error}")
            self._calls.fail(call_id, told)

    def _end_round(self, nonce: bytes, error: CallboardError | None) -> None:
        future = self._rounds.pop(nonce, None)
        if future is None or not future.set_running_or_notify_cancel():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


def _command(address: Address) -> str:
    if address.kind is None or address.name is None:
        raise BadRequest(f"{address} is no thing that can be called")
    return topics.command(address.site, address.node, address.kind, address.name)
