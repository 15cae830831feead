"""Which member of a pool gets which call, and what becomes of its calls when it is lost. Pure; no I/O, no clock.

The caller tells what happened and carries out the :class:`Assign` and :class:`Refuse` that come back. Every call
is assigned or refused in the end, or the caller ends it with :meth:`Policy.finish`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from statistics import fmean

from callboard_core.calls.member import SILENT, STALE, Key, Member, Standing, Token, Traits
from callboard_core.errors import BadRequest, CallboardError, Overloaded, Unavailable

__all__ = ["Assign", "Effect", "Limits", "Outcome", "Policy", "Refuse"]

#: Responses whose mean is held against the responsiveness.
WINDOW = 32
#: Calls at the head of the queue that are looked at for one that somebody can take.
LOOK_PAST = 16


class Outcome(Enum):
    """How a call has ended on a member."""

    DONE = auto()  # answered with a result
    FAILED = auto()  # answered with an error of the function's own
    DECLINED = auto()  # the member did not begin it; another may
    BROKEN = auto()  # whether it was done is unknown
    ABANDONED = auto()  # the caller waits no more


#: Those after which a call is not over yet.
_UNFINISHED = (Outcome.DECLINED, Outcome.BROKEN)
#: Looked up once: in Python 3.11 that takes longer than to compare with them.
_DONE, _READY, _RETIRED = Outcome.DONE, Standing.READY, Standing.RETIRED


@dataclass(frozen=True, slots=True)
class Limits:
    """What a pool puts up with.

    Attributes:
        queue: most calls that wait for a member.
        responsiveness: seconds; None: any. While the mean of the last responses is above it, a call that would
            have to wait for its turn is refused, except for the share that passes.
        pass_share: 0 to 1.
        attempts: how many members one call is given to, at most.
    """

    queue: int = 1000
    responsiveness: float | None = 5.0
    pass_share: float = 0.1
    attempts: int = 5

    def __post_init__(self) -> None:
        """Check the limits.

        Raises:
            BadRequest: one is none; the message names it.
        """
        if self.queue < 0:
            raise BadRequest(f"queue: {self.queue} is not 0 or more")
        if self.responsiveness is not None and not self.responsiveness > 0:
            raise BadRequest(f"responsiveness: {self.responsiveness:g} is not more than 0 seconds")
        if not 0 <= self.pass_share <= 1:
            raise BadRequest(f"pass_share: {self.pass_share:g} is not within 0 and 1")
        if self.attempts < 1:
            raise BadRequest(f"attempts: {self.attempts} is not 1 or more")


@dataclass(frozen=True, slots=True)
class Assign:
    """Send a call to a member. ``attempt`` counts from 1."""

    token: Token
    member: Key
    attempt: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """End a call with an error."""

    token: Token
    error: CallboardError


Effect = Assign | Refuse


@dataclass(slots=True, eq=False)
class _Call:
    token: Token
    idempotent: bool | None
    until: float  # how long it waits for a first member
    member: Member | None = None
    attempt: int = 0
    tried: frozenset[Key] = frozenset()
    declined: frozenset[Key] = frozenset()

    @property
    def repeatable(self) -> bool:
        if self.idempotent is not None or self.member is None:
            return bool(self.idempotent)
        return self.member.traits.idempotent


class Policy:
    """The members and calls of one pool. Times are seconds of any steady clock. Not thread-safe."""

    def __init__(self, limits: Limits = Limits()) -> None:
        self.limits = limits
        self.members: dict[Key, Member] = {}
        self._calls: dict[Token, _Call] = {}
        self._queue: dict[Token, _Call] = {}
        self._responses: deque[float] = deque(maxlen=WINDOW)
        self._last_response = -math.inf
        self._turns = 0
        self._credit = 0.0
        self.refused = 0

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def waiting(self) -> int:
        """Calls that wait for a member."""
        return len(self._queue)

    # -- members ---------------------------------------------------------------------------------------------

    def join(self, key: Key, traits: Traits, now: float) -> list[Effect]:
        """Take in a member, or what its card says now."""
        member = self.members.get(key)
        standing = Standing.DRAINING if traits.draining else Standing.READY
        if member is None:
            self.members[key] = Member(key, traits, self._turn(), standing)
        else:
            member.traits = traits
            if member.standing not in SILENT:
                member.standing = standing
        return [*self._pull(now), *self.expire(now)]

    def leave(self, key: Key, reason: str, now: float) -> list[Effect]:
        """Forget a member that is lost; its calls go elsewhere, or end."""
        member = self.members.pop(key, None)
        if member is None:
            return []
        return self._rescue(member, reason, now)

    def retire(self, key: Key, now: float) -> list[Effect]:
        """Give a member nothing more, and forget it once it has answered what it has."""
        member = self.members.get(key)
        if member is None:
            return []
        member.standing = Standing.RETIRED
        self._dismiss(member)
        return self.expire(now)

    def hang(self, key: Key, reason: str, now: float) -> list[Effect]:
        """Note that a member makes no progress; its calls go elsewhere, or end."""
        member = self.members.get(key)
        if member is None or member.standing in {Standing.HUNG, Standing.RETIRED}:
            return []
        member.standing = Standing.HUNG
        return self._rescue(member, reason, now)

    def doubt(self, keys: Iterable[Key] | None = None) -> None:
        """Give members (all of them by default) whose heartbeat can be heard nothing until it is.

        Calls for them wait meanwhile.
        """
        found = self.members if keys is None else [key for key in keys if key in self.members]
        for member in [self.members[key] for key in found]:
            if member.traits.beats and member.standing is not Standing.RETIRED:
                member.standing = Standing.DOUBTFUL

    def wake(self, key: Key, now: float) -> list[Effect]:
        """Note that a member makes progress (again)."""
        member = self.members.get(key)
        if member is None or member.standing not in SILENT:
            return []
        member.standing = Standing.DRAINING if member.traits.draining else Standing.READY
        return self._pull(now)

    def ready(self) -> list[Member]:
        """Members that may be given calls."""
        return [one for one in self.members.values() if one.standing is _READY]

    # -- calls -----------------------------------------------------------------------------------------------

    def submit(
        self, token: Token, now: float, *, idempotent: bool | None = None, wait: float = 0.0
    ) -> list[Effect]:
        """Take a call.

        Args:
            token: names the call.
            now: the time.
            idempotent: whether it may be repeated; by default what the member's card says.
            wait: seconds it waits for a first member while there is none.
        """
        call = _Call(token, idempotent, now + wait)
        if not self._queue and (member := self._free_and_best(now)) is not None:
            self._calls[token] = call
            return [self._assign(call, member, now)]
        if (error := self._objection(now)) is not None:
            self.refused += 1
            return [Refuse(token, error)]
        self._calls[token] = call
        return self._place(call, now)

    def seize(self, token: Token, now: float) -> Key | None:
        """Take a call if there is a member to give it to at once; returns that member, or None."""
        member = None if self._queue else self._free_and_best(now)
        if member is None:
            return None
        self._calls[token] = _Call(token, None, now, member, 1)
        member.outstanding[token] = now
        member.order = self._turn()
        return member.key

    def finish(
        self, token: Token, outcome: Outcome, now: float, error: CallboardError | None = None
    ) -> list[Effect]:
        """Note that a call has ended where it was; returns what follows for it and for those that wait.

        Args:
            token: the call.
            outcome: what became of it.
            now: the time.
            error: of a call that was declined or broken; what its caller gets if it cannot go elsewhere.
        """
        call = self._calls.get(token)
        if call is None:
            return []
        if call.member is not None:
            self._release(call, call.member, outcome, now)
        if outcome not in _UNFINISHED:
            del self._calls[token]
            self._queue.pop(token, None)
            return self._pull(now) if self._queue else []
        error = error or Unavailable("the call did not get through")
        return [*self._again_or_end(call, outcome, error, now), *self._pull(now)]

    def retry(self, now: float, reason: str) -> list[Effect]:
        """Give every outstanding call that may be repeated to a member anew: answers may have been lost."""
        effects: list[Effect] = []
        for call in [one for one in self._calls.values() if one.member is not None and one.repeatable]:
            effects += self.finish(call.token, Outcome.BROKEN, now, Unavailable(reason))
        return effects

    def expire(self, now: float) -> list[Effect]:
        """End the calls that have waited for a first member long enough."""
        if self.ready() or self._doubtful():
            return []
        late = [call for call in self._queue.values() if call.until <= now]
        return [self._refuse(call, _nobody(self.members.values())) for call in late]

    def choose(self, now: float) -> Key | None:
        """Choose a member for a message that is not answered; None when there is none."""
        found = self._best(self.ready(), now)
        if found is None:
            return None
        found.order = self._turn()
        return found.key

    # -- inside ----------------------------------------------------------------------------------------------

    def _free_and_best(self, now: float) -> Member | None:
        """The member for a call that comes while none wait, if anybody is free."""
        ready = self.ready()
        if len(ready) == 1:
            return ready[0] if ready[0].free else None
        if not any(member.free for member in ready):
            return None
        return self._best([member for member in ready if member.open], now)

    def _objection(self, now: float) -> CallboardError | None:
        ready = self.ready()
        if not ready or any(member.free for member in ready):
            return None
        if len(self._queue) >= self.limits.queue:
            return Overloaded(f"{len(self._queue)} calls already wait; try again later")
        return self._sluggish(now)

    def _sluggish(self, now: float) -> CallboardError | None:
        limit = self.limits.responsiveness
        if now - self._last_response > STALE:
            self._responses.clear()
        mean = fmean(self._responses) if self._responses else 0.0
        if limit is None or mean <= limit:
            return None
        self._credit += self.limits.pass_share
        if self._credit >= 1.0:
            self._credit -= 1.0
            return None
        return Overloaded(f"answers take {mean:.1f} s, more than {limit:g} s; try again later")

    def _place(self, call: _Call, now: float) -> list[Effect]:
        """Assign, queue or refuse a call."""
        if call.until <= now and not self.ready() and not self._doubtful():
            return [self._refuse(call, _nobody(self.members.values()))]
        chosen = self._candidate(call, now)
        if chosen is not None:
            return [self._assign(call, chosen, now)]
        if len(self._queue) >= self.limits.queue:
            return [self._refuse(call, Overloaded(f"{len(self._queue)} calls already wait; try again later"))]
        self._queue[call.token] = call
        return []

    def _doubtful(self) -> bool:
        return any(member.standing is Standing.DOUBTFUL for member in self.members.values())

    def _candidate(self, call: _Call, now: float) -> Member | None:
        """The member to give a call to now: one that did not have it yet; never one that declined it for another."""
        ready = self.ready()
        willing = [one for one in ready if one.key not in call.declined] if call.declined else ready
        able = [member for member in willing or ready if member.open]
        fresh = [member for member in able if member.key not in call.tried] if call.tried else able
        return self._best(fresh or able, now)

    def _assign(self, call: _Call, member: Member, now: float) -> Assign:
        self._queue.pop(call.token, None)
        call.member = member
        call.attempt += 1
        member.outstanding[call.token] = now
        member.order = self._turn()
        return Assign(call.token, member.key, call.attempt)

    def _release(self, call: _Call, member: Member, outcome: Outcome, now: float) -> None:
        response = now - member.outstanding.pop(call.token, now)
        if member.standing is _RETIRED:
            self._dismiss(member)
        if outcome is _DONE:
            member.done += 1
            member.note(response, now)
            self._responses.append(response)
            self._last_response = now
        elif outcome is Outcome.FAILED:
            member.failed += 1  # its pace does not count: what fails at once must not draw all calls
        elif outcome is Outcome.BROKEN:
            member.broken += 1

    def _dismiss(self, member: Member) -> None:
        if member.standing is Standing.RETIRED and not member.outstanding:
            self.members.pop(member.key, None)

    def _rescue(self, member: Member, reason: str, now: float) -> list[Effect]:
        effects: list[Effect] = []
        tokens, error = list(member.outstanding), Unavailable(reason)
        member.outstanding.clear()
        member.broken += len(tokens)
        for token in tokens:
            effects += self._again_or_end(self._calls[token], Outcome.BROKEN, error, now)
        return [*effects, *self.expire(now)]

    def _again_or_end(self, call: _Call, outcome: Outcome, error: CallboardError, now: float) -> list[Effect]:
        if outcome is Outcome.BROKEN and not call.repeatable:
            unknown = f"{error.message}; whether the call was done is not known"
            return [self._refuse(call, Unavailable(unknown))]
        if call.member is not None:
            call.tried |= {call.member.key}
            if outcome is Outcome.DECLINED:
                call.declined |= {call.member.key}
        everybody = all(member.key in call.declined for member in self.ready())
        if call.attempt >= self.limits.attempts or (outcome is Outcome.DECLINED and everybody):
            return [self._refuse(call, error)]
        call.member = None
        return self._place(call, now)

    def _pull(self, now: float) -> list[Effect]:
        """Give calls that wait to the members that can take them."""
        effects: list[Effect] = []
        while (found := self._next(now)) is not None:
            effects.append(self._assign(*found, now))
        return effects

    def _next(self, now: float) -> tuple[_Call, Member] | None:
        """The first call that waits and can be given to somebody; one that was declined holds up nobody behind it."""
        for call in islice(self._queue.values(), LOOK_PAST):
            member = self._candidate(call, now)
            if member is not None:
                return call, member
            if not call.declined:
                break  # everybody is full
        return None

    @staticmethod
    def _best(members: Iterable[Member], now: float) -> Member | None:
        return min(members, key=lambda member: member.load(now), default=None)

    def _refuse(self, call: _Call, error: CallboardError) -> Refuse:
        self._forget(call)
        self.refused += 1
        return Refuse(call.token, error)

    def _forget(self, call: _Call) -> None:
        self._calls.pop(call.token, None)
        self._queue.pop(call.token, None)

    def _turn(self) -> int:
        self._turns += 1
        return self._turns


def _nobody(members: Iterable[Member]) -> Unavailable:
    standings = {member.standing for member in members}
    if not standings:
        return Unavailable("nobody offers it at the moment")
    words = " or ".join(sorted(one.name.lower() for one in standings))
    return Unavailable(f"everybody who offers it is {words}")
