"""Calls while they are with a callee: the request a handler sees, the thing it is for, and how it stands."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

from pydantic import JsonValue

from callboard_core.link.lane import Timer
from callboard_core.messages import Call
from callboard_core.topics import Kind, client_of

__all__ = ["CALLERS", "Cancellation", "Handler", "Job", "Request", "Tally", "Thing"]

#: Response times from which a thing's percentiles are told.
SAMPLES = 256
#: Clients that are counted apart.
CALLERS = 100


_making = threading.Lock()


class Cancellation(threading.Event):
    """Set when a call is interrupted or took too long; then what was asked for with :meth:`then` is run."""

    def __init__(self) -> None:
        # Nearly nobody waits for it, so what is needed for waiting is made when somebody does.
        self._flag = False
        self._hooks: list[Callable[[], object]] = []

    @property
    def _cond(self) -> threading.Condition:
        with _making:
            found: threading.Condition | None = self.__dict__.get("made")
            if found is None:
                found = self.__dict__["made"] = threading.Condition()
            return found

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


@dataclass(slots=True, eq=False)
class Request:
    """One call, as its handler sees it.

    Attributes:
        id: the call's.
        kind: of the thing that is called.
        name: of the thing that is called.
        args: what the caller gave.
        caller: topic of the caller's answers; None if it wants none.
        cancelled: set when the call is interrupted or took too long.
        progress: tells the caller how far the work is, 0 to 1.
        reply: answers the call now; the handler may go on working, and what it returns is dropped.
    """

    id: str
    kind: Kind
    name: str
    args: Mapping[str, JsonValue]
    caller: str | None
    cancelled: Cancellation
    progress: Callable[[float], None]
    reply: Callable[[Any], None]


#: Returns the result, or an awaitable or future of it; what it raises is answered as an error.
Handler = Callable[[Request], Any | Awaitable[Any]]


@dataclass(slots=True, eq=False)
class Tally:
    """What a thing has done so far; times in seconds from arrival to answer.

    ``callers`` counts the calls of each client since somebody last took the counts.
    """

    done: int = 0
    failed: int = 0
    refused: int = 0
    times: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    callers: dict[str, int] = field(default_factory=dict)

    def note_caller(self, reply_to: str | None) -> None:
        """Count a call; of more than a hundred clients, as one of many others."""
        client = "" if reply_to is None else client_of(reply_to)
        if client not in self.callers and len(self.callers) >= CALLERS:
            client = "*"
        self.callers[client] = self.callers.get(client, 0) + 1

    def take_callers(self) -> dict[str, int]:
        """Return the counts and begin anew."""
        taken, self.callers = self.callers, {}
        return taken

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


@dataclass(slots=True, eq=False)
class Job:
    """A call that was taken."""

    call: Call
    thing: Thing
    request: Request
    answer: Callable[[bytes], None]
    arrived: float
    began: float | None = None
    timers: list[Timer] = field(default_factory=list)
    expiry: Timer | None = None
    task: Future[Any] | None = None
    acknowledged: bool = False
    answered: bool = False
    reported: float = 0.0

    @property
    def key(self) -> tuple[str | None, str]:
        """What tells it from every other: ids of two callers may be equal."""
        return (self.call.reply_to, self.call.id)
