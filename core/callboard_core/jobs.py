"""Calls while they are with a callee: the request a handler sees, the thing it is for, and how it stands."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any, Protocol

from pydantic import JsonValue

from callboard_core.calls.envelopes import Asked
from callboard_core.link.lane import Timer
from callboard_core.topics import Kind, client_of

__all__ = ["CALLERS", "Cancellation", "Handler", "Job", "Request", "Tally", "Thing"]

#: Response times from which a thing's percentiles are told.
SAMPLES = 256
#: Clients that are counted apart.
CALLERS = 100
#: In whose place the others are.
_OTHERS = "*"

_making = threading.Lock()


class Cancellation(threading.Event):
    """Set when a call is interrupted or took too long; then what was asked for with :meth:`then` is run.

    True once it is set, so that ``if request.cancelled:`` asks what it seems to.
    """

    def __init__(self) -> None:
        super().__init__()
        self._hooks: list[Callable[[], object]] = []

    def __bool__(self) -> bool:
        return self.is_set()

    def then(self, hook: Callable[[], object]) -> None:
        """Run ``hook``, which must be quick, when set; at once if it is."""
        self._hooks.append(hook)
        if self.is_set():
            self._run()

    def set(self) -> None:
        """Interrupt the call."""
        super().set()
        self._run()

    def _run(self) -> None:
        while (hook := self._next()) is not None:
            hook()

    def _next(self) -> Callable[[], object] | None:
        try:
            return self._hooks.pop()  # two may run them at a time, each hook once
        except IndexError:
            return None


class Request:
    """One call, as its handler sees it.

    Attributes:
        id: the call's.
        kind: of the thing that is called.
        name: of the thing that is called.
        args: what the caller gave.
        caller: topic of the caller's answers; None if it wants none.
    """

    def __init__(
        self, call_id: str, kind: Kind, name: str, args: Mapping[str, JsonValue], caller: str | None
    ) -> None:
        self.id, self.kind, self.name, self.args, self.caller = call_id, kind, name, args, caller
        self._cancelled: Cancellation | None = None

    @property
    def cancelled(self) -> Cancellation:
        """Set when the call is interrupted or took too long."""
        if self._cancelled is None:  # nearly nobody asks for it
            with _making:
                if self._cancelled is None:
                    self._cancelled = Cancellation()
        return self._cancelled

    @property
    def interrupted(self) -> bool:
        """True once ``cancelled`` is set."""
        return self._cancelled is not None and self._cancelled.is_set()

    def progress(self, share: float) -> None:
        """Tell the caller how far the work is, 0 to 1."""
        raise NotImplementedError

    def reply(self, result: Any) -> None:
        """Answer the call now; the handler may go on working, and what it returns is dropped."""
        raise NotImplementedError


#: Returns the result, or an awaitable or future of it; what it raises is answered as an error.
Handler = Callable[[Request], Any | Awaitable[Any]]


@dataclass(slots=True, eq=False)
class Tally:
    """What a thing has done so far; times in seconds from arrival to answer.

    ``callers`` counts the calls by where the answers go, since somebody last took the counts.
    """

    done: int = 0
    failed: int = 0
    refused: int = 0
    times: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    callers: dict[str | None, int] = field(default_factory=dict)

    def note_caller(self, reply_to: str | None) -> None:
        """Count a call; of more than a hundred callers, as one of many others."""
        callers = self.callers
        if reply_to not in callers and len(callers) >= CALLERS:
            reply_to = _OTHERS
        callers[reply_to] = callers.get(reply_to, 0) + 1

    def take_callers(self, waiting: Iterable[str | None] = ()) -> dict[str, int]:
        """Return how often each client has called, and begin anew; "*" are many others, "" who does not say.

        Args:
            waiting: where the answers to calls go that are still worked on; who has not called since counts 0.
        """
        taken, self.callers = self.callers, {}
        for reply_to in waiting:
            if len(taken) < CALLERS:
                taken.setdefault(reply_to, 0)
        return {_client_of(reply_to): count for reply_to, count in taken.items()}

    def percentile(self, share: int) -> float | None:
        """The time within which ``share`` percent of the last calls were answered."""
        times = list(self.times)
        if len(times) < 2:  # noqa: PLR2004 - quantiles of one are undefined
            return times[0] if times else None
        return quantiles(times, n=100, method="inclusive")[share - 1]


@dataclass(slots=True, eq=False)
class Thing:
    """Something that can be called, and what waits for it.

    The handler of a ``direct`` one runs where the call arrives: it does not wait, or only starts the work.
    """

    handler: Handler
    timeout: float
    concurrency: int
    direct: bool
    backlog: int
    traceback: bool
    running: int = 0
    waiting: deque[Job] = field(default_factory=deque)
    tally: Tally = field(default_factory=Tally)


class Desk(Protocol):
    """What a job needs of whoever works on it."""

    def progress(self, job: Job, share: float) -> None:
        """Tell the caller how far the work is, 0 to 1."""

    def finish(self, job: Job, result: Any) -> None:
        """Send the final answer."""


class Job(Request):
    """A call that was taken, and how it stands.

    Attributes:
        call: what was asked.
        key: tells it from every other: ids of two callers may be equal.
        thing: what it is for.
        answer: takes what is to be sent to the caller.
        arrived: when it did; this and the other times are of the monotonic clock, in seconds.
        began: when its handler did.
        expiry: ends the waiting for its turn.
        timers: those of its acknowledgement and of its time-out, once it has any.
        task: its coroutine.
        reported: when progress was.
    """

    began: float | None = None
    expiry: Timer | None = None
    timers: tuple[Timer, ...] = ()
    task: Future[Any] | None = None
    acknowledged = False
    answered = False
    reported = 0.0

    def __init__(
        self,
        call: Asked,
        key: tuple[str | None, str],
        kind: Kind,
        name: str,
        thing: Thing,
        answer: Callable[[bytes], None],
        arrived: float,
        desk: Desk,
    ) -> None:
        self.id, self.kind, self.name, self.args, self.caller = call.id, kind, name, call.args, call.reply_to
        self._cancelled = None
        self.call, self.key, self.thing, self.answer, self.arrived = call, key, thing, answer, arrived
        self._desk = desk

    def progress(self, share: float) -> None:
        """See :class:`Request`."""
        self._desk.progress(self, share)

    def reply(self, result: Any) -> None:
        """See :class:`Request`."""
        self._desk.finish(self, result)


def _client_of(reply_to: str | None) -> str:
    if reply_to is None:
        return ""
    return reply_to if reply_to == _OTHERS else client_of(reply_to)
