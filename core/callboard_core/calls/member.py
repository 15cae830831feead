"""A member of a pool: what its card says, how it stands, what it has and how quick it was lately. Pure."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum, auto

from callboard_core.calls.place import Nearness

__all__ = ["SILENT", "STALE", "Key", "Member", "Standing", "Token", "Traits"]

Key = Hashable
Token = Hashable

#: Seconds. A member that answers faster may have more calls on it than it works on at a time, so that it need
#: not wait for the network in between.
BRISK = 0.05
#: Most calls on a brisk member beyond its concurrency.
AHEAD = 64
#: Seconds without a response after which what was measured counts no more.
STALE = 30.0
#: Weight of the newest response in a member's recent response time.
_NEWEST = 0.2
#: Seconds; response times are told apart by factors of two from here on, so that equals take turns.
_FINEST = 0.001


class Standing(Enum):
    """How a member of the pool stands."""

    READY = auto()
    HUNG = auto()
    DRAINING = auto()
    DOUBTFUL = auto()  # not heard of since the connection was lost
    RETIRED = auto()  # offers it no more and finishes what it has


#: Those that end with a sign of life.
SILENT = frozenset({Standing.HUNG, Standing.DOUBTFUL})


@dataclass(frozen=True, slots=True)
class Traits:
    """What a member's card says."""

    nearness: Nearness = Nearness.SITE
    concurrency: int = 1
    idempotent: bool = False
    draining: bool = False
    beats: bool = False


@dataclass(slots=True, eq=False)
class Member:
    """One member and what is known of it."""

    key: Key
    traits: Traits
    order: int
    standing: Standing = Standing.READY
    outstanding: dict[Token, float] = field(default_factory=dict)
    recent: float | None = None
    pace: int = 0
    answered: float = -math.inf
    done: int = 0
    failed: int = 0
    broken: int = 0

    @property
    def free(self) -> bool:
        """True while it works on fewer calls than it can."""
        return len(self.outstanding) < self.traits.concurrency

    @property
    def open(self) -> bool:
        """True while it should be given another call."""
        if self.free:
            return True
        brisk = self.recent is not None and self.recent <= BRISK
        return brisk and len(self.outstanding) < self.traits.concurrency + AHEAD

    def load(self, now: float) -> tuple[Nearness, float, int, int]:
        """What the member with the least of it is chosen by."""
        return (
            self.traits.nearness,
            len(self.outstanding) / self.traits.concurrency,
            self.pace if now - self.answered <= STALE else 0,
            self.order,
        )

    def note(self, response: float, now: float) -> None:
        """Take in a response time, in seconds."""
        before = self.recent
        fresh = before is None or now - self.answered > STALE
        recent = response if fresh else before + _NEWEST * (response - before)  # type: ignore[operator]
        self.pace = 0 if recent <= _FINEST else math.ceil(math.log2(recent / _FINEST))
        self.recent, self.answered = recent, now
