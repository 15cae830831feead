"""A caller's connection to a worker's process: calls out, answers in, read by whoever waits for one.

A thread that blocks for an answer reads the socket itself, which spares it the way through another thread. Otherwise, and
for the answers to others, the reactor's thread reads. One of them at a time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotDone
from dataclasses import dataclass
from enum import Enum, auto
from time import monotonic
from typing import Any, Protocol

from callboard_core.calls.envelopes import read_result
from callboard_core.calls.roads import Driven, Result
from callboard_core.errors import CallboardError, Failed, TimedOut
from callboard_core.lane import frames
from callboard_core.lane.frames import Decoder, Kind, Welcome
from callboard_core.lane.sender import Sender
from callboard_core.lane.wires import Wire
from callboard_core.link.lane import Timer
from callboard_core.messages import Reply, parse
from callboard_core.view import Entry

__all__ = ["OUTSTANDING", "Line", "Sent"]

_log = logging.getLogger("callboard.lane")

#: Calls that may be on a lane at a time; more go through the broker.
OUTSTANDING = 1024
#: Seconds between two looks of a thread that reads for itself whether its call has ended otherwise.
TICK = 0.05
#: Seconds without a sign of life before a ping, while there are calls and while there are none.
PING_BUSY, PING_IDLE = 1.0, 5.0
#: Seconds within which a ping is answered by whoever lives.
PONG = 3.0
#: Seconds without a call after which a lane is closed.
UNUSED = 300.0
#: Share of the ticket's time after which another one is asked for.
_RENEW = 0.5


class _Reader(Enum):
    NOBODY = auto()
    CALLER = auto()
    REACTOR = auto()


#: Looked up once: in Python 3.11 that takes longer than what is done with them.
_NOBODY, _CALLER, _REACTOR = _Reader


@dataclass(slots=True, eq=False)
class Sent:
    """A call on a lane. One that a thread waits for has no future until it needs one, and mostly gets its result before."""

    id: str
    entry: Entry
    args: Mapping[str, Any]
    deadline: float
    timeout: float
    on_progress: Callable[[float], None] | None = None
    future: Future[Any] | None = None
    timer: Timer | None = None
    result: Result | None = None

    def late(self) -> TimedOut:
        """What is said when its time is over."""
        return TimedOut(f"{self.entry.node} did not answer within {round(self.timeout, 2):g} s")

    def succeed(self, result: Any) -> None:
        """End it with a result."""
        if self._ends():
            self.future.set_result(result)  # type: ignore[union-attr]

    def fail(self, error: BaseException) -> None:
        """End it with an error."""
        if self._ends():
            self.future.set_exception(error)  # type: ignore[union-attr]

    def _ends(self) -> bool:
        if self.timer is not None:
            self.timer.cancel()
        future = self.future
        return future is not None and not future.done() and future.set_running_or_notify_cancel()


class Answered(Driven):
    """A call's future whose waiter reads the answer itself."""

    def __init__(self, line: Line, sent: Sent) -> None:
        super().__init__()
        self._line, self._sent = line, sent

    def drive(self, until: Future[Any]) -> None:
        """See :class:`Driven`."""
        self._line.wait(self._sent, until)


class Reactor(Protocol):
    """Reads for those who don't themselves."""

    def arm(self, line: Line) -> None:
        """Have what comes read."""

    def disarm(self, line: Line) -> None:
        """Leave it to others."""


class Line:
    """One connection, on which calls may be made. Thread-safe.

    Args:
        wire: the connection.
        decoder: what is left of the greeting.
        welcome: what the other side said.
        reactor: reads when nobody else does.
        lost: told, once, that it is over, why, and which calls had no answer.
    """

    def __init__(
        self,
        wire: Wire,
        decoder: Decoder,
        welcome: Welcome,
        reactor: Reactor,
        lost: Callable[[Line, str, list[Sent]], None],
    ) -> None:
        self.instance = welcome.instance
        self.node = ""
        self.over = False
        self.late = 0
        self._wire, self._decoder, self._reactor, self._lost = wire, decoder, reactor, lost
        self._sender = Sender(wire, self.lose)
        self._pending: dict[str, Sent] = {}
        self._lock = threading.Lock()
        self._reader = _NOBODY
        self._news = True  # something was read since the last look
        self._heard = self._used = monotonic()
        self._pinged: float | None = None
        self._lease = welcome.lease
        self._renew_at = self._due()

    def fileno(self) -> int:
        """What the reactor waits on."""
        return self._wire.fileno()

    @property
    def full(self) -> bool:
        """True while it takes no more calls."""
        return self.over or len(self._pending) >= OUTSTANDING

    # -- calling ---------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """True while somebody reads, or may not."""
        return self._reader is not _NOBODY or self.over

    def call(self, sent: Sent, worker: bytes, envelope: bytes) -> bool:
        """Send a call whose answer the reactor's thread reads; False if it surely was not sent.

        Args:
            sent: the call.
            worker: name of the worker.
            envelope: the call as it is written.
        """
        frame = frames.encode_call(worker, envelope)
        self._pending[sent.id] = sent  # before the answer can come
        if self.over:
            return self._pending.pop(sent.id, None) is None
        self._let_reactor_read()
        self._sender.send(frame)
        return True  # if it broke the call is handed back with the others

    def ask(self, sent: Sent, worker: bytes, envelope: bytes) -> bool:
        """Send a call and read its answer, which is then its ``result`` or, if it is unusual, in its ``future``.

        Returns without either when the answer takes long, or the lane is lost; see :meth:`keep`. False: it was not sent.
        """
        frame = frames.encode_call(worker, envelope)
        if not self._begin_reading():
            return False
        self._pending[sent.id] = sent
        try:
            self._sender.send(frame)
            left = patience = min(TICK, sent.timeout)
            until = monotonic() + patience
            while sent.id in self._pending and left > 0 and self._read(left):
                left = until - monotonic()
        finally:
            self._stop_reading()
        return True

    def keep(self, sent: Sent, answer: Future[Any]) -> bool:
        """Give a call that was asked a future; False if it is too late for that: answered, or lost."""
        with self._lock:
            if sent.id not in self._pending:
                return False
            sent.future = answer
            return True

    def send_cancel(self, worker: bytes, envelope: bytes) -> None:
        """Send a call for whose answer nobody waits."""
        self._sender.send(frames.encode_call(worker, envelope))

    def expire(self, call_id: str) -> None:
        """End a call whose time is over."""
        sent = self._pending.pop(call_id, None)
        if sent is not None:
            sent.fail(sent.late())

    def wait(self, sent: Sent, until: Future[Any]) -> None:
        """Wait for the answer to a call, reading it oneself if nobody else reads.

        Returns when the answer is there, when ``until`` is done for another reason, when the call's time is over, or the
        lane.
        """
        while sent.id in self._pending and not until.done():
            left = sent.deadline - monotonic()
            if left <= 0:
                self.expire(sent.id)
            elif self._begin_reading():
                try:
                    self._read_for(sent, until)
                finally:
                    self._stop_reading()
            else:
                _await(until, left)

    # -- reading ---------------------------------------------------------------------------------------------

    def read_ready(self) -> None:
        """Read what is there (the reactor's thread)."""
        with self._lock:
            if self._reader is _CALLER:
                return
            self._reader = _REACTOR
        while self._read(0.0):
            pass
        with self._lock:
            if not self._pending and self._pinged is None and not self.over:
                self._reader = _NOBODY
                self._reactor.disarm(self)

    def _begin_reading(self) -> bool:
        with self._lock:
            if self._reader is not _NOBODY or self.over:
                return False
            self._reader = _CALLER
            return True

    def _stop_reading(self) -> None:
        with self._lock:
            self._reader = _NOBODY
            if (not self._pending and self._pinged is None) or self.over:
                return
            self._reader = _REACTOR
            self._reactor.arm(self)

    def _let_reactor_read(self) -> None:
        with self._lock:
            if self._reader is _NOBODY and not self.over:
                self._reader = _REACTOR
                self._reactor.arm(self)

    def _read_for(self, sent: Sent, until: Future[Any]) -> None:
        while sent.id in self._pending:
            left = sent.deadline - monotonic()
            if left <= 0 or (not self._read(min(left, TICK)) and (until.done() or self.over)):
                return

    def _read(self, timeout: float) -> bool:
        """Read and handle something; False if there was nothing."""
        try:
            data = self._wire.read(timeout)
            if data is None:
                return False
            if data:
                self._news = True
                for kind, body in self._decoder.feed(data):
                    self._handle(kind, body)
                return True
            self.lose("the worker's process has closed it")
        except (OSError, ValueError, CallboardError) as error:
            self.lose(str(error))
        return False

    def _handle(self, kind: Kind, body: bytes) -> None:
        if kind is Kind.ANSWER:
            found = read_result(body)
            if isinstance(found, dict):
                self._succeed(found["id"], found["result"])
            else:
                self._take(found)
        elif kind is Kind.PONG:
            self._pinged = None
        elif kind is Kind.WELCOME:
            self._lease = parse(Welcome, body).lease
            self._renew_at = self._due()
        else:
            self.lose(f"the worker's process says {kind.name.lower()}")

    def _succeed(self, call_id: str, result: Any) -> None:
        with self._lock:
            sent = self._pending.pop(call_id, None)
            if sent is None:
                self.late += 1
                return
            if sent.future is None:
                sent.result = Result(result)
                return
        sent.succeed(result)

    def _take(self, reply: Reply) -> None:
        if reply.ok is None:
            self._take_progress(reply)
            return
        with self._lock:
            sent = self._pending.pop(reply.id, None)
            if sent is None:
                self.late += 1
                return
            sent.future = sent.future or Future()
        if reply.ok:
            sent.succeed(reply.result)
        else:
            body = reply.error
            sent.fail(body.to_exception() if body else Failed("the callee gave no reason"))

    def _take_progress(self, reply: Reply) -> None:
        sent = self._pending.get(reply.id)
        if sent is not None and reply.progress is not None and sent.on_progress is not None:
            sent.on_progress(reply.progress)

    # -- life ------------------------------------------------------------------------------------------------

    def look(self, now: float, renew: Callable[[Line], None]) -> None:
        """Look whether the other side lives, and stay welcome (the reactor's thread, every so often)."""
        if self._news:
            self._news, self._heard, self._pinged = False, now, None
        if self._pending:
            self._used = now
        if self._pinged is not None:
            if now - self._pinged > PONG:
                self.lose("the worker's process gives no sign of life")
        elif now - self._heard > (PING_BUSY if self._pending else PING_IDLE):
            self._pinged = now
            self._sender.send(frames.encode(Kind.PING))
            self._let_reactor_read()
        if self._renew_at is not None and now > self._renew_at:
            self._renew_at = self._due()
            renew(self)
        if now - self._used > UNUSED:
            self.close()

    def renew(self, hello: frames.Hello) -> None:
        """Show another ticket."""
        self._sender.send(frames.encode(Kind.RENEW, hello.encode()))
        self._let_reactor_read()

    def close(self) -> None:
        """End it on purpose."""
        self._sender.send(frames.encode(Kind.BYE))
        self.lose("closed")

    def lose(self, reason: str) -> None:
        """End it; calls without an answer are handed back."""
        with self._lock:
            if self.over:
                return
            self.over = True
            left = [self._pending.pop(call_id, None) for call_id in list(self._pending)]
            sent = [one for one in left if one is not None and one.future is not None]
        _log.debug("a lane has ended: %s", reason)
        self._wire.close()
        self._lost(self, reason, sent)

    def _due(self) -> float | None:
        return None if self._lease is None else monotonic() + self._lease * _RENEW


def _await(future: Future[Any], timeout: float) -> None:
    try:
        future.exception(timeout)
    except NotDone:
        return
    except BaseException:  # noqa: BLE001 - it was cancelled; what came of it is not our business
        return
