"""A pool: every worker of some services, called as one.

It follows the directory and the heartbeats, asks :mod:`~callboard_core.calls.policy` what to do, and does it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, Self

from pydantic import JsonValue

from callboard_core.calls import artifacts
from callboard_core.calls.arguments import check_arguments
from callboard_core.calls.names import service_filter
from callboard_core.calls.place import Nearness
from callboard_core.calls.policy import Assign, Effect, Limits, Member, Outcome, Policy, Traits
from callboard_core.calls.roads import Broker, NotSent, Road
from callboard_core.calls.roster import Cards, Roster
from callboard_core.calls.waiting import wait_here
from callboard_core.cards import WorkerCard
from callboard_core.errors import BadRequest, CallboardError, Failed, TimedOut, Unavailable
from callboard_core.link.calls import LONGEST, new_id
from callboard_core.link.lane import Timer
from callboard_core.link.link import Link
from callboard_core.view import Entry, Key

__all__ = ["Answer", "MemberInfo", "Pool", "Stats"]

#: Seconds a call may take unless it says otherwise.
TIMEOUT = 30.0
#: Seconds a call waits for the directory to be complete before it finds that nobody offers the service.
ARRIVING = 2.0
#: What a member says that did not begin a call.
_DECLINED = frozenset({"overloaded", "not_found", "expired"})


@dataclass(frozen=True, slots=True)
class MemberInfo:
    """One member of a pool, for people; times in seconds."""

    node: str
    name: str
    service: str
    standing: str
    nearness: str
    outstanding: int
    response: float | None
    done: int
    failed: int
    broken: int


@dataclass(frozen=True, slots=True)
class Stats:
    """A pool's figures: calls on members, calls that wait for one, and calls that were refused."""

    members: int
    outstanding: int
    waiting: int
    refused: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What one member answered to a call that went to all; ``error`` is None when it has succeeded."""

    node: str
    service: str
    result: JsonValue
    error: CallboardError | None


@dataclass(slots=True, eq=False)
class _Pending:
    """A call until its future is done."""

    id: str
    args: Mapping[str, JsonValue]
    deadline: float
    timeout: float
    future: Future[JsonValue]
    on_progress: Callable[[float], None] | None
    attempt: int = 0
    entry: Entry | None = None
    timer: Timer | None = None


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
        road: how calls travel; by default through the broker.
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
        road: Road | None = None,
    ) -> None:
        self.service = service if isinstance(service, str) else service.pattern
        self._wanted = service_filter(service)
        self._directory, self._link, self._wait = directory, link, wait
        self._road: Road = road or Broker(link)
        self._policy = Policy(Limits(queue, responsiveness, pass_share, attempts))
        self._lock = threading.Lock()
        self._entries: dict[Key, Entry] = {}
        self._pending: dict[str, _Pending] = {}
        self._waiters: list[tuple[int, Future[None]]] = []
        self._work = threading.local()
        self._closed = False
        link.on_stop(self.close)
        self._roster = Roster(directory, link, self._wanted, self)

    @property
    def closed(self) -> bool:
        """True once it follows no more."""
        return self._closed

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
        return wait_here(self.submit(args, timeout=timeout, **more))

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
    ) -> Future[JsonValue]:
        """Call one member and return at once.

        Returns:
            A future that fails with what :meth:`call` raises. Cancelling it asks the member to interrupt the work.
        """
        future: Future[JsonValue] = Future()
        try:
            pending = self._make({**(args or {}), **more}, timeout, future, on_progress)
        except CallboardError as error:
            future.set_exception(error)
            return future
        now = monotonic()
        with self._lock:
            self._pending[pending.id] = pending
            effects = self._policy.submit(pending.id, now, wait=self._patience())
        future.add_done_callback(partial(self._on_done, pending))
        self._roster.watch()
        self._carry_out(effects)
        if pending.entry is None:
            self._keep_time(pending)
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
        with self._lock:
            key = self._policy.choose(monotonic())
            entry = self._entries.get(key) if key is not None else None  # type: ignore[call-overload]
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
        given = self._check({**(args or {}), **more})
        with self._lock:
            ready = [self._entries[member.key] for member in self._policy.ready()]  # type: ignore[index]
        entries = sorted(ready, key=lambda entry: entry.key)
        futures = [
            self._road.call(entry, given, timeout=timeout, call_id=new_id(), on_progress=None)
            for entry in entries
        ]
        return wait_here(_gather(entries, futures))

    # -- members ---------------------------------------------------------------------------------------------

    def members(self) -> list[MemberInfo]:
        """The members and how they stand."""
        with self._lock:
            members = self._policy.members.values()
            return [self._describe(one) for one in members if one.key in self._entries]

    def card(self) -> WorkerCard | None:
        """The card that was announced last among the members'."""
        with self._lock:
            newest = next(reversed(self._entries.values()), None)
        return newest.card if newest is not None and isinstance(newest.card, WorkerCard) else None

    def stats(self) -> Stats:
        """The pool's figures."""
        with self._lock:
            outstanding = sum(len(one.outstanding) for one in self._policy.members.values())
            policy = self._policy
            return Stats(len(policy.members), outstanding, policy.waiting, policy.refused)

    def wait_ready(self, timeout: float, *, members: int = 1) -> Any:
        """Wait until so many members can be called; on an event loop's thread, await what it returns.

        Args:
            timeout: seconds.
            members: how many.

        Raises:
            TimedOut: there were fewer.
        """
        ready: Future[None] = Future()
        late = TimedOut(f"{self.service}: not {members} to call within {timeout:g} s")
        with self._lock:
            self._waiters.append((members, ready))
        self._tell_waiters()
        self._link.later(timeout, partial(_settle, ready, error=late))
        return wait_here(ready)

    def close(self) -> None:
        """Follow no more; what is outstanding fails with ``unavailable``."""
        self._roster.close()
        with self._lock:
            self._closed = True
            pending = list(self._pending.values())
        for one in pending:
            self._end(one, error=Unavailable(f"{self.service}: the pool was closed"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- one call --------------------------------------------------------------------------------------------

    def _make(
        self,
        args: Mapping[str, Any],
        timeout: float,
        future: Future[JsonValue],
        on_progress: Callable[[float], None] | None,
    ) -> _Pending:
        if not 0 < timeout <= LONGEST:
            raise BadRequest(f"timeout {timeout}: use more than 0 and at most {LONGEST:g} seconds")
        if self._closed:
            raise Unavailable(f"{self.service}: the pool was closed")
        return _Pending(new_id(), self._check(args), monotonic() + timeout, timeout, future, on_progress)

    def _check(self, args: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
        card = self.card()
        if card is not None:
            check_arguments(card.parameters, args)
        return args

    def _patience(self) -> float:
        """How long a call waits for a first member."""
        return self._wait if self._directory.complete else max(self._wait, ARRIVING)

    def _carry_out(self, effects: list[Effect]) -> None:
        """Do what the policy says; what follows from it is done after it, not inside it."""
        if not effects:
            return
        work: list[Effect] | None = getattr(self._work, "queue", None)
        if work is not None:
            work.extend(effects)
            return
        self._work.queue = work = list(effects)
        try:
            for effect in work:
                self._do(effect)
        finally:
            self._work.queue = None

    def _do(self, effect: Effect) -> None:
        with self._lock:
            pending = self._pending.get(effect.token)  # type: ignore[call-overload]
            if pending is None:
                return
            if isinstance(effect, Assign):
                entry = self._entries.get(effect.member)  # type: ignore[call-overload]
                if entry is None or effect.attempt <= pending.attempt:
                    return  # it has left meanwhile, and the call is somewhere else
                pending.attempt, pending.entry = effect.attempt, entry
        if isinstance(effect, Assign):
            self._send(pending, entry, effect.attempt)
        else:
            error = type(effect.error)(f"{self.service}: {effect.error.message}")
            self._end(pending, error=error)

    def _send(self, pending: _Pending, entry: Entry, attempt: int) -> None:
        answer = self._road.call(
            entry,
            pending.args,
            timeout=max(0.001, pending.deadline - monotonic()),
            call_id=_attempt_id(pending.id, attempt),
            on_progress=pending.on_progress,
        )
        answer.add_done_callback(partial(self._on_answer, pending, entry, attempt))

    def _on_answer(self, pending: _Pending, entry: Entry, attempt: int, answer: Future[JsonValue]) -> None:
        error = answer.exception()
        outcome = _outcome(error)
        with self._lock:
            if pending.id not in self._pending:
                return
            superseded = pending.attempt != attempt
            if superseded and outcome is not Outcome.DONE:
                return
            told = error if isinstance(error, CallboardError) else None
            ending = Outcome.ABANDONED if superseded else outcome
            effects = self._policy.finish(pending.id, ending, monotonic(), told)
        if outcome is Outcome.DONE:
            self._take(pending, answer.result())
        elif outcome is Outcome.FAILED:
            self._end(pending, error=error)
            if isinstance(error, TimedOut) and monotonic() >= pending.deadline:
                self._road.cancel(entry, _attempt_id(pending.id, attempt))
        else:
            self._keep_time(pending)
        self._carry_out(effects)

    def _take(self, pending: _Pending, result: Any) -> None:
        """End a call with its result, which may be somewhere else for its size."""
        keep = self._link.artifacts
        if keep is None or not isinstance(result, dict):
            self._end(pending, result)
            return
        try:
            ref = artifacts.reference(result)
        except CallboardError as error:
            self._end(pending, error=error)
            return
        if ref is None:
            self._end(pending, result)
            return
        self._keep_time(pending)
        threading.Thread(target=self._fetch, args=(pending, keep, ref), daemon=True).start()

    def _fetch(self, pending: _Pending, keep: artifacts.ArtifactStore, ref: artifacts.ArtifactRef) -> None:
        try:
            result = artifacts.fetch(keep, ref)
        except Exception as error:  # noqa: BLE001 - it is the caller's
            self._end(pending, error=error)
        else:
            self._end(pending, result)

    def _keep_time(self, pending: _Pending) -> None:
        """See to it that a call that is perhaps with no member ends in time; on the road, the road does."""
        left = max(0.0, pending.deadline - monotonic())
        with self._lock:
            if pending.timer is not None or pending.id not in self._pending:
                return
            pending.timer = self._link.later(left, partial(self._expire, pending))
        self._link.later(min(left, self._patience()), self._expire_waiting)

    def _expire(self, pending: _Pending) -> None:
        late = TimedOut(f"{self.service}: no answer within {pending.timeout:g} s")
        with self._lock:
            effects = self._policy.finish(pending.id, Outcome.ABANDONED, monotonic())
        self._end(pending, error=late)
        self._carry_out(effects)

    def _expire_waiting(self) -> None:
        with self._lock:
            effects = self._policy.expire(monotonic())
        self._carry_out(effects)

    def _end(
        self, pending: _Pending, result: JsonValue = None, *, error: BaseException | None = None
    ) -> None:
        with self._lock:
            ours = self._pending.pop(pending.id, None) is not None
        if pending.timer is not None:
            pending.timer.cancel()
        if ours:
            _settle(pending.future, result, error=error)

    def _on_done(self, pending: _Pending, future: Future[JsonValue]) -> None:
        if not future.cancelled():
            return
        with self._lock:
            self._pending.pop(pending.id, None)
            effects = self._policy.finish(pending.id, Outcome.ABANDONED, monotonic())
            entry = pending.entry
        if pending.timer is not None:
            pending.timer.cancel()
        if entry is not None:
            self._road.cancel(entry, _attempt_id(pending.id, pending.attempt))
        self._carry_out(effects)

    # -- what the roster tells -------------------------------------------------------------------------------

    def joined(self, entry: Entry, near: Nearness) -> None:
        """A member is there, or its card has changed."""
        if not isinstance(entry.card, WorkerCard):
            return
        card = entry.card
        traits = Traits(near, card.concurrency, card.idempotent, card.draining, card.heartbeat is not None)
        with self._lock:
            self._entries.pop(entry.key, None)
            self._entries[entry.key] = entry  # the newest last
            effects = self._policy.join(entry.key, traits, monotonic())
        self._tell_waiters()
        self._carry_out(effects)

    def retired(self, key: Key) -> None:
        """A member is no longer announced; what it has it may still answer."""
        with self._lock:
            self._entries.pop(key, None)
            effects = self._policy.retire(key, monotonic())
        self._rescued(effects)

    def left(self, key: Key, reason: str) -> None:
        """A member's process is gone."""
        with self._lock:
            self._entries.pop(key, None)
            effects = self._policy.leave(key, reason, monotonic())
        self._rescued(effects)

    def hung(self, key: Key, reason: str) -> None:
        """A member makes no progress."""
        with self._lock:
            effects = self._policy.hang(key, reason, monotonic())
        self._rescued(effects)

    def woke(self, key: Key) -> None:
        """A member that hung makes progress."""
        with self._lock:
            effects = self._policy.wake(key, monotonic())
        self._tell_waiters()
        self._carry_out(effects)

    def reconnected(self) -> None:
        """Answers may have been lost while there was no connection; members may be gone."""
        with self._lock:
            self._policy.doubt()
            effects = self._policy.retry(monotonic(), "the connection to the broker was lost")
        self._rescued(effects)

    def busy(self) -> bool:
        """Tell whether there are calls on members."""
        return bool(self._pending)

    def _rescued(self, effects: list[Effect]) -> None:
        """Calls of a member have gone elsewhere, perhaps to where nothing keeps their time."""
        self._carry_out(effects)
        with self._lock:
            waiting = [one for one in self._pending.values() if one.timer is None]
        for pending in waiting:
            self._keep_time(pending)

    def _tell_waiters(self) -> None:
        with self._lock:
            ready = len(self._policy.ready())
            told = [future for wanted, future in self._waiters if wanted <= ready]
            self._waiters = [(wanted, future) for wanted, future in self._waiters if wanted > ready]
        for future in told:
            _settle(future)

    def _describe(self, member: Member) -> MemberInfo:
        entry = self._entries[member.key]  # type: ignore[index]
        card = entry.card
        return MemberInfo(
            node=entry.node,
            name=entry.name,
            service=card.service if isinstance(card, WorkerCard) else "",
            standing=member.standing.name.lower(),
            nearness=member.traits.nearness.name.lower(),
            outstanding=len(member.outstanding),
            response=member.recent,
            done=member.done,
            failed=member.failed,
            broken=member.broken,
        )


def _attempt_id(call_id: str, attempt: int) -> str:
    """Every attempt has an id of its own, so that a member that gets a call twice runs the second, too."""
    return call_id if attempt == 1 else f"{call_id}.{attempt}"


def _outcome(error: BaseException | None) -> Outcome:
    """What became of an attempt.

    An error with a ``type`` was raised by the worker's function; one without is about the call itself.
    """
    if error is None:
        return Outcome.DONE
    if isinstance(error, NotSent):
        return Outcome.DECLINED
    if not isinstance(error, CallboardError) or error.type is not None:
        return Outcome.FAILED
    if error.code in _DECLINED:
        return Outcome.DECLINED
    return Outcome.BROKEN if isinstance(error, Unavailable) else Outcome.FAILED


def _settle(future: Future[Any], result: Any = None, *, error: BaseException | None = None) -> None:
    if future.done() or not future.set_running_or_notify_cancel():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _gather(entries: list[Entry], futures: list[Future[JsonValue]]) -> Future[list[Answer]]:
    """A future of all answers; it is done when the last one has come, failed or timed out."""
    gathered: Future[list[Answer]] = Future()
    left = len(futures)
    lock = threading.Lock()

    def count(_: object) -> None:
        nonlocal left
        with lock:
            left -= 1
            last = left == 0
        if last:
            _settle(gathered, [_as_answer(*pair) for pair in zip(entries, futures, strict=True)])

    for future in futures:
        future.add_done_callback(count)
    if not futures:
        gathered.set_result([])
    return gathered


def _as_answer(entry: Entry, future: Future[JsonValue]) -> Answer:
    service = entry.card.service if isinstance(entry.card, WorkerCard) else ""
    error = future.exception()
    if error is None:
        return Answer(entry.node, service, future.result(), None)
    told = error if isinstance(error, CallboardError) else Failed(str(error))
    return Answer(entry.node, service, None, told)
