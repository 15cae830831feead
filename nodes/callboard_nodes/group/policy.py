"""When a member that ended is started again. Pure: figures in, a decision out; and the states a member goes through."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["TRANSITIONS", "Happening", "Policy", "Restart", "State"]


class State(StrEnum):
    """Where a member stands."""

    IDLE = "idle"
    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Happening(StrEnum):
    """What moves a member from one state to the next."""

    SPAWN = "spawn"
    READY = "ready"
    EXIT = "exit"
    STOP = "stop"


TRANSITIONS: dict[tuple[State, Happening], State] = {
    (State.IDLE, Happening.SPAWN): State.STARTING,
    (State.IDLE, Happening.STOP): State.STOPPED,
    (State.STARTING, Happening.READY): State.READY,
    (State.STARTING, Happening.EXIT): State.WAITING,
    (State.STARTING, Happening.STOP): State.STOPPING,
    (State.READY, Happening.EXIT): State.WAITING,
    (State.READY, Happening.STOP): State.STOPPING,
    (State.WAITING, Happening.SPAWN): State.STARTING,
    (State.WAITING, Happening.STOP): State.STOPPED,
    (State.STOPPING, Happening.EXIT): State.STOPPED,
    (State.STOPPING, Happening.READY): State.STOPPING,
    (State.STOPPING, Happening.STOP): State.STOPPING,
    (State.STOPPED, Happening.STOP): State.STOPPED,
}


@dataclass(frozen=True, slots=True)
class Restart:
    """What to do about a member that ended.

    Attributes:
        delay: seconds until it is started again.
        failures: how often it has ended in a row without a settled run in between.
        looping: it ends again and again; a person should look.
    """

    delay: float
    failures: int
    looping: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Back-off: the delay doubles with every failure in a row and starts afresh after a settled run.

    Attributes:
        first: seconds before the first restart.
        longest: seconds no delay goes beyond.
        settled: a run of this many seconds makes earlier failures forgotten.
        loop: failures in a row that count as a crash loop.
        give_up: failures in a row, before a member was ever ready, after which its start has failed.
    """

    first: float = 0.1
    longest: float = 10.0
    settled: float = 10.0
    loop: int = 5
    give_up: int = 3

    def after(self, failures: int, ran_for: float) -> Restart:
        """Decide after a member ended.

        Args:
            failures: failures in a row before this one.
            ran_for: seconds this run lasted.
        """
        failures = 1 if ran_for >= self.settled else failures + 1
        # The exponent is capped so that a member that fails for a year does not overflow a float.
        delay = min(self.longest, self.first * 2.0 ** min(failures - 1, 60))
        return Restart(delay, failures, looping=failures >= self.loop)
