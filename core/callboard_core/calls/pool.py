"""A pool: every worker of some services, called as one.

Here is what users touch; who belongs to it is the roster's business, what becomes of each call the dispatcher's.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Self

from callboard_core.calls.arguments import checker
from callboard_core.calls.codec import clean
from callboard_core.calls.dispatcher import Dispatcher
from callboard_core.calls.fetching import followed
from callboard_core.calls.figures import MemberInfo, Stats
from callboard_core.calls.gather import Answer, gather
from callboard_core.calls.names import service_filter
from callboard_core.calls.policy import Limits
from callboard_core.calls.roads import Road, road_of
from callboard_core.calls.roster import Cards, Roster
from callboard_core.calls.waiting import running_loop, wait_here
from callboard_core.cards import WorkerCard
from callboard_core.errors import BadPayload, CallboardError, TimedOut, Unavailable
from callboard_core.link.calls import new_id
from callboard_core.link.link import Link

__all__ = ["Answer", "MemberInfo", "Pool", "Stats"]

#: Seconds a call may take unless it says otherwise.
TIMEOUT = 30.0
#: Seconds a call waits for the directory to be complete before it finds that nobody offers the service.
ARRIVING = 2.0


class Pool:
    """All live workers whose service matches, called as one. Thread-safe.

    A call goes to the nearest members first (this process, this host, anywhere), among these to the one with the
    fewest calls outstanding, then to the quickest. When a member is lost, or misses three heartbeats, its calls are
    given to others at once if they may be repeated; otherwise they fail with ``unavailable``. No call takes longer
    than its time-out.

    Args:
        directory: started by the caller.
        link: how the workers are called; the directory's.
        service: a name, a glob (``render:*``) or a compiled regular expression.
        queue: most calls that wait for a member; then calls are ``overloaded``.
        responsiveness: seconds; while answers take longer on average, calls that would have to wait are
            ``overloaded``. None: they always wait.
        pass_share: share of these that pass all the same, 0 to 1.
        wait: seconds a call waits for a first member while there is none; then it is ``unavailable``.
        attempts: to how many members one call is given at most.
        fetch: have results fetched that are larger than a message; otherwise the result is the reference to it.
        road: how calls travel; by default the link's usual one.
    """

    def __init__(
        self,
        directory: Cards,
        link: Link,
        service: str | re.Pattern[str],
        *,
        queue: int = 1000,
        responsiveness: float | None = 5.0,
        pass_share: float = 0.1,
        wait: float = 0.0,
        attempts: int = 5,
        fetch: bool = True,
        road: Road | None = None,
    ) -> None:
        self.service = service if isinstance(service, str) else service.pattern
        self._directory, self._wait, self._link, self._fetch = directory, wait, link, fetch
        self._road: Road = road or road_of(link)
        limits = Limits(queue, responsiveness, pass_share, attempts)
        self._calls = Dispatcher(self.service, link, self._road, limits, self._patience, fetch=fetch)
        self._checker: tuple[WorkerCard | None, Callable[[Mapping[str, Any]], None]] = (None, _anything)
        self._roster = Roster(directory, link, service_filter(service), self._calls, on_stop=self.close)
        self._roster.start()
        if link.stopped:  # and its hooks have run already
            self.close()

    @property
    def closed(self) -> bool:
        """True once it follows no more."""
        return self._calls.closed

    # -- calling ---------------------------------------------------------------------------------------------

    def call(self, args: Mapping[str, Any] | None = None, /, *, timeout: float = TIMEOUT, **more: Any) -> Any:
        """Call one member.

        Args:
            args: arguments, if some have names that cannot be given otherwise.
            timeout: seconds for everything.
            more: arguments.

        Returns:
            The result; on an event loop's thread, where blocking would stop the loop, something to await.

        Raises:
            BadRequest: an argument is wrong; the message names it.
            Overloaded: too many calls wait already.
            Unavailable: nobody offers the service, or who did was lost and the call must not be repeated.
            TimedOut: there was no answer in time.
            CallboardError: what the worker raised; ``type`` and ``traceback`` tell more.
        """
        if running_loop() is not None:
            return wait_here(self.submit(args, timeout=timeout, **more))
        self._roster.glance()
        return self._calls.call(self._check({**args, **more} if args else more), timeout, self._roster.watch)

    async def acall(
        self,
        args: Mapping[str, Any] | None = None,
        /,
        *,
        timeout: float = TIMEOUT,  # noqa: ASYNC109 - the callee is told too
        **more: Any,
    ) -> Any:
        """Call one member from a coroutine; cancelling it asks the member to interrupt the work."""
        return await wait_here(self.submit(args, timeout=timeout, **more))

    def submit(
        self,
        args: Mapping[str, Any] | None = None,
        /,
        *,
        timeout: float = TIMEOUT,
        on_progress: Callable[[float], None] | None = None,
        **more: Any,
    ) -> Future[Any]:
        """Call one member and return at once.

        Returns:
            A future that fails with what :meth:`call` raises. Cancelling it asks the member to interrupt the work.
        """
        self._roster.glance()
        try:
            future = self._calls.submit(self._check({**(args or {}), **more}), timeout, on_progress)
        except CallboardError as error:
            refused: Future[Any] = Future()
            refused.set_exception(error)
            return refused
        self._roster.watch()
        return future

    def cast(
        self, args: Mapping[str, Any] | None = None, /, *, timeout: float = TIMEOUT, **more: Any
    ) -> Future[None]:
        """Send one member a call without wanting an answer.

        Args:
            args: as for :meth:`call`.
            timeout: seconds after which the call must not begin any more.
            more: arguments.

        Returns:
            A future that is done when the broker has taken it.

        Raises:
            Unavailable: nobody offers the service, or there is no connection.
        """
        self._roster.glance()
        entry = self._calls.choose()
        if entry is None:
            raise Unavailable(f"{self.service}: nobody offers it at the moment")
        return self._road.tell(entry, self._check({**(args or {}), **more}), timeout=timeout)

    def scatter(
        self, args: Mapping[str, Any] | None = None, /, *, timeout: float = TIMEOUT, **more: Any
    ) -> Any:
        """Call every member.

        Returns:
            One :class:`Answer` each, in the order of nodes and services; on an event loop's thread, something to
            await.
        """
        return wait_here(self.submit_to_all({**(args or {}), **more}, timeout=timeout))

    def submit_to_all(self, args: Mapping[str, Any], *, timeout: float = TIMEOUT) -> Future[list[Answer]]:
        """Call every member and return at once, with a future of what :meth:`scatter` returns.

        Raises:
            BadRequest: an argument is wrong; the message names it.
        """
        given = self._check(args)
        self._roster.glance()
        entries = self._calls.ready()
        futures = [
            self._whole(
                self._road.call(entry, given, timeout=timeout, call_id=new_id(), on_progress=None), timeout
            )
            for entry in entries
        ]
        return gather(entries, futures)

    # -- members ---------------------------------------------------------------------------------------------

    def members(self) -> list[MemberInfo]:
        """The members and how they stand."""
        return self._calls.members()

    def card(self) -> WorkerCard | None:
        """The card that was announced last among the members'."""
        return self._calls.card()

    def stats(self) -> Stats:
        """The pool's figures."""
        return self._calls.stats()

    def wait_ready(self, timeout: float, *, members: int | None = 1) -> Any:
        """Wait until so many members can be called; on an event loop's thread, await what it returns.

        Args:
            timeout: seconds.
            members: how many; None: all that are announced together, as the parts of an agent are.

        Raises:
            TimedOut: there were fewer.
            Unavailable: the pool, or its link, was closed.
        """
        return wait_here(self._calls.wait_ready(members, timeout))

    def close(self) -> None:
        """Follow no more; what is outstanding fails with ``unavailable``."""
        self._roster.close()
        self._calls.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check(self, args: Mapping[str, Any]) -> Mapping[str, Any]:
        card, (known, check) = self._calls.card(), self._checker
        if card is not known:
            check = _anything if card is None else checker(card.parameters)
            self._checker = (card, check)
        try:
            check(args)
        except BadPayload:
            args = _as_sent(args)
            check(args)
        return args

    def _whole(self, answer: Future[Any], timeout: float) -> Future[Any]:
        """A future of the result itself, wherever it is kept."""
        if not self._fetch:
            return answer
        late = TimedOut(f"{self.service}: no answer within {timeout:g} s")
        return followed(self._link, answer, timeout, late)

    def _patience(self) -> float:
        """How long a call waits for a first member."""
        return self._wait if self._directory.complete else max(self._wait, ARRIVING)


def _as_sent(args: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments with models, dates and the like in the form in which they travel; the others as they are."""
    sent = dict(args)
    for name, value in args.items():
        with contextlib.suppress(BadPayload):  # what does not travel is wrong as it is
            sent[name] = clean(value, name)
    return sent


def _anything(_: Mapping[str, Any]) -> None:
    """Check arguments that nobody has described."""
