"""The calls of a pool on their way: assigned as the policy says, answered, repeated, timed out; each ends once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from functools import partial
from time import monotonic
from typing import Any, Protocol

from callboard_core.calls import artifacts
from callboard_core.calls.attempts import Pending, outcome_of, settle
from callboard_core.calls.figures import MemberInfo, Stats
from callboard_core.calls.member import Traits
from callboard_core.calls.place import Nearness
from callboard_core.calls.policy import Assign, Effect, Limits, Outcome, Policy
from callboard_core.calls.roads import Driven, Result, Road
from callboard_core.calls.waiters import Waiters
from callboard_core.cards import WorkerCard
from callboard_core.errors import BadRequest, CallboardError, TimedOut, Unavailable
from callboard_core.link.calls import LONGEST, new_id
from callboard_core.link.lane import Timer
from callboard_core.view import Entry, Key

__all__ = ["Dispatcher"]


class Clock(Protocol):
    """What is needed of a link besides the road."""

    @property
    def artifacts(self) -> artifacts.ArtifactStore | None:
        """Where results are that are larger than a message."""

    def later(self, delay: float, work: Callable[[], object]) -> Timer:
        """Run something later."""


class Dispatcher:
    """The calls and members of one pool. Thread-safe; a listener of its roster.

    Args:
        service: what people call it.
        clock: keeps the time.
        road: how calls travel.
        limits: what the pool puts up with.
        fetch: have results fetched that are larger than a message.
        patience: returns how many seconds a call waits for a first member.
    """

    def __init__(
        self,
        service: str,
        clock: Clock,
        road: Road,
        limits: Limits,
        patience: Callable[[], float],
        *,
        fetch: bool = True,
    ) -> None:
        self.service = service
        self.closed = False
        self._link, self._road, self._patience, self._fetches = clock, road, patience, fetch
        self._policy = Policy(limits)
        self._lock = threading.Lock()
        self._entries: dict[Key, Entry] = {}
        self._newest: WorkerCard | None = None
        self._pending: dict[str, Pending] = {}
        self._waiters = Waiters(service, clock.later, self._enough)
        self._work = threading.local()

    def submit(
        self, args: Mapping[str, Any], timeout: float, on_progress: Callable[[float], None] | None
    ) -> Future[Any]:
        """Take a call.

        Raises:
            BadRequest: the time-out is no time-out.
            Unavailable: the pool was closed.
        """
        self._check(timeout)
        now = monotonic()
        future: Future[Any] = Future()
        pending = Pending(new_id(), args, now + timeout, timeout, future, on_progress)
        with self._lock:
            self._pending[pending.id] = pending
            effects = self._policy.submit(pending.id, now, wait=self._patience())
        future.add_done_callback(partial(self._on_done, pending))
        self._carry_out(effects)
        if pending.entry is None:
            self._keep_time(pending)
        return future

    def call(self, args: Mapping[str, Any], timeout: float, begun: Callable[[], object]) -> Any:
        """Take a call and wait for its end, reading the answer on this thread where that is possible.

        Args:
            args: what the worker is given.
            timeout: seconds.
            begun: called when the call is under way and not answered at once.

        Raises:
            CallboardError: as :meth:`submit`, or what came of the call.
        """
        pending = self._assign_now(args, timeout)
        if pending is None or pending.entry is None:
            future = self.submit(args, timeout, None)
            begun()
            return future.result()
        found = self._road.ask(pending.entry, args, timeout=timeout, call_id=pending.id)
        if isinstance(found, Result):
            if self._succeeds(pending):
                return found.value
            answer: Future[Any] = Future()
            answer.set_result(found.value)
            return self._wait(pending, pending.entry, answer)
        begun()
        return self._wait(pending, pending.entry, found)

    def _assign_now(self, args: Mapping[str, Any], timeout: float) -> Pending | None:
        """Take a call for a member that is free; None if there is none."""
        self._check(timeout)
        now = monotonic()
        pending = Pending(new_id(), args, now + timeout, timeout, None, None)
        with self._lock:
            key = self._policy.seize(pending.id, now)
            if key is None:
                return None
            pending.attempt, pending.entry = 1, self._entries[key]  # type: ignore[index]
            self._pending[pending.id] = pending
        return pending

    def _succeeds(self, pending: Pending) -> bool:
        """End a call that has succeeded at once; False if it is somewhere else meanwhile."""
        with self._lock:
            if pending.attempt != 1 or self._pending.pop(pending.id, None) is None:
                return False
            effects = self._policy.finish(pending.id, Outcome.DONE, monotonic())
        if effects:
            self._carry_out(effects)
        if pending.timer is not None:
            pending.timer.cancel()
        return True

    def _wait(self, pending: Pending, entry: Entry | None, answer: Future[Any]) -> Any:
        """Wait for a call that is under way, with a future like others."""
        with self._lock:
            if pending.outcome is None:
                pending.future = Future()
        if pending.outcome is not None:
            result, error = pending.outcome
            if error is not None:
                raise error
            return result
        future: Any = pending.future
        answer.add_done_callback(partial(self._on_answer, pending, entry, 1))
        if isinstance(answer, Driven):
            answer.drive(future)
        return future.result()

    def _check(self, timeout: float) -> None:
        if not 0 < timeout <= LONGEST:
            raise BadRequest(f"timeout {timeout}: use more than 0 and at most {LONGEST:g} seconds")
        if self.closed:
            raise Unavailable(f"{self.service}: the pool was closed")

    def close(self) -> None:
        """End every call, and the waiting for members."""
        with self._lock:
            self.closed = True
            pending = list(self._pending.values())
        for one in pending:
            self._end(one, error=Unavailable(f"{self.service}: the pool was closed"))
        self._waiters.close()

    def choose(self) -> Entry | None:
        """A member for a message that is not answered."""
        with self._lock:
            key = self._policy.choose(monotonic())
            return self._entries.get(key) if key is not None else None  # type: ignore[call-overload]

    def ready(self) -> list[Entry]:
        """The members that may be called, in the order of nodes and names."""
        with self._lock:
            ready = [self._entries[member.key] for member in self._policy.ready()]  # type: ignore[index]
        return sorted(ready, key=lambda entry: (entry.node, entry.name))

    def wait_ready(self, members: int | None, timeout: float) -> Future[None]:
        """A future that is done when so many members can be called, and fails after so many seconds.

        Without a number: when everybody can who is announced together with the first.
        """
        return self._waiters.wait(members, timeout)

    def card(self) -> WorkerCard | None:
        """The card that was announced last among the members'."""
        return self._newest

    def members(self) -> list[MemberInfo]:
        """The members and how they stand."""
        with self._lock:
            members = self._policy.members.values()
            return [MemberInfo.of(self._entries[one.key], one) for one in members if one.key in self._entries]

    def stats(self) -> Stats:
        """The figures."""
        with self._lock:
            outstanding = sum(len(one.outstanding) for one in self._policy.members.values())
            policy = self._policy
            return Stats(len(self._entries), outstanding, policy.waiting, policy.refused)

    # -- one call --------------------------------------------------------------------------------------------

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
                pending.attempt, pending.entry, pending.doubtful = effect.attempt, entry, False
        if isinstance(effect, Assign):
            self._send(pending, entry, effect.attempt)
        else:
            error = type(effect.error)(f"{self.service}: {effect.error.message}")
            self._end(pending, error=error)

    def _send(self, pending: Pending, entry: Entry, attempt: int) -> None:
        answer = self._road.call(
            entry,
            pending.args,
            timeout=max(0.001, pending.deadline - monotonic()),
            call_id=pending.attempt_id(attempt),
            on_progress=pending.on_progress,
        )
        answer.add_done_callback(partial(self._on_answer, pending, entry, attempt))

    def _on_answer(self, pending: Pending, entry: Entry | None, attempt: int, answer: Future[Any]) -> None:
        error = answer.exception()
        outcome = outcome_of(error)
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
            if entry is not None and isinstance(error, TimedOut) and monotonic() >= pending.deadline:
                self._road.cancel(entry, pending.attempt_id(attempt))
        else:
            self._keep_time(pending)
        self._carry_out(effects)

    def _take(self, pending: Pending, result: Any) -> None:
        """End a call with its result, which may be somewhere else for its size."""
        store = self._link.artifacts if self._fetches else None
        if artifacts.resolve(store, result, partial(self._fetched, pending)):
            self._keep_time(pending)
        else:
            self._end(pending, result)

    def _fetched(self, pending: Pending, result: Any, error: BaseException | None) -> None:
        self._end(pending, result, error=error)

    def _keep_time(self, pending: Pending) -> None:
        """See to it that a call that is perhaps with no member ends in time; on the road, the road does."""
        left = max(0.0, pending.deadline - monotonic())
        with self._lock:
            if pending.timer is not None or pending.id not in self._pending:
                return
            pending.timer = self._link.later(left, partial(self._expire, pending))
        self._link.later(min(left, self._patience()), self._expire_waiting)

    def _expire(self, pending: Pending) -> None:
        late = TimedOut(f"{self.service}: no answer within {pending.timeout:g} s")
        with self._lock:
            effects = self._policy.finish(pending.id, Outcome.ABANDONED, monotonic())
        self._end(pending, error=late)
        self._carry_out(effects)

    def _expire_waiting(self) -> None:
        with self._lock:
            effects = self._policy.expire(monotonic())
        self._carry_out(effects)

    def _end(self, pending: Pending, result: Any = None, *, error: BaseException | None = None) -> None:
        with self._lock:
            ours = self._pending.pop(pending.id, None) is not None
            if ours and pending.future is None:
                pending.outcome = (result, error)
        if pending.timer is not None:
            pending.timer.cancel()
        if ours and pending.future is not None:
            settle(pending.future, result, error=error)

    def _on_done(self, pending: Pending, future: Future[Any]) -> None:
        if not future.cancelled():
            return
        with self._lock:
            self._pending.pop(pending.id, None)
            effects = self._policy.finish(pending.id, Outcome.ABANDONED, monotonic())
            entry = pending.entry
        if pending.timer is not None:
            pending.timer.cancel()
        if entry is not None:
            self._road.cancel(entry, pending.attempt_id())
        self._carry_out(effects)

    # -- what the roster tells -------------------------------------------------------------------------------

    def joined(self, entry: Entry, near: Nearness) -> None:
        """A member is there, or its card has changed."""
        if not isinstance(entry.card, WorkerCard):
            return
        card = entry.card
        traits = Traits(near, card.concurrency, card.idempotent, card.draining, card.heartbeat is not None)
        with self._lock:
            self._forget(entry.key)
            self._entries[entry.key], self._newest = entry, card  # the newest last
            effects = self._policy.join(entry.key, traits, monotonic())
        self._waiters.tell()
        self._carry_out(effects)

    def retired(self, key: Key) -> None:
        """A member is no longer announced; what it has it may still answer."""
        with self._lock:
            self._forget(key)
            effects = self._policy.retire(key, monotonic())
        self._rescued(effects)

    def left(self, key: Key, reason: str) -> None:
        """A member's process is gone."""
        with self._lock:
            self._forget(key)
            effects = self._policy.leave(key, reason, monotonic())
        self._rescued(effects)

    def doubted(self, keys: Collection[Key]) -> None:
        """Members are about to leave or hang; what one of them has must not go to the next."""
        with self._lock:
            self._policy.doubt(keys)

    def hung(self, key: Key, reason: str) -> None:
        """A member makes no progress."""
        with self._lock:
            effects = self._policy.hang(key, reason, monotonic())
        self._rescued(effects)

    def woke(self, key: Key, instance: str | None) -> None:
        """A member that hung, or was not heard of since a reconnect, makes progress."""
        with self._lock:
            effects = self._policy.wake(key, monotonic())
            unsure = [one for one in self._pending.values() if one.doubtful and _is_on(one, key)]
            for pending in unsure:
                pending.doubtful = False
        for pending in unsure:
            if instance is not None and pending.entry is not None:
                self._road.ask_again(pending.entry, pending.attempt_id(), instance)
        self._waiters.tell()
        self._carry_out(effects)

    def reconnected(self) -> None:
        """Answers may have been lost while there was no connection; members may be gone.

        What may be repeated is. Of what must not be, the member is asked again once it is heard of.
        """
        with self._lock:
            self._policy.doubt()
            for pending in self._pending.values():
                pending.doubtful = True
            effects = self._policy.retry(monotonic(), "the connection to the broker was lost")
        self._rescued(effects)

    def _forget(self, key: Key) -> None:
        self._entries.pop(key, None)
        newest = next(reversed(self._entries.values()), None)
        self._newest = newest.card if newest is not None and isinstance(newest.card, WorkerCard) else None

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

    def _enough(self, members: int | None) -> bool:
        with self._lock:
            return len(self._policy.ready()) >= (self._together() if members is None else members)

    def _together(self) -> int:
        cards = (entry.card for entry in self._entries.values())
        return max((card.together for card in cards if isinstance(card, WorkerCard)), default=1)


def _is_on(pending: Pending, key: Key) -> bool:
    return pending.entry is not None and pending.entry.key == key
