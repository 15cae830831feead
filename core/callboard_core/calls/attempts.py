"""A call until its future is done, the ids of its attempts, and what the end of one means. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from callboard_core.calls.policy import Outcome
from callboard_core.calls.roads import NotSent
from callboard_core.errors import CallboardError, Unavailable
from callboard_core.link.lane import Timer
from callboard_core.view import Entry

__all__ = ["Pending", "outcome_of", "settle"]

#: What a member says that did not begin a call.
_DECLINED = frozenset({"overloaded", "not_found", "expired"})


@dataclass(slots=True, eq=False)
class Pending:
    """A call until its future is done; times are of the monotonic clock, in seconds."""

    id: str
    args: Mapping[str, Any]
    deadline: float
    timeout: float
    future: Future[Any] | None  # none while a thread waits for it without
    on_progress: Callable[[float], None] | None
    attempt: int = 0
    entry: Entry | None = None
    timer: Timer | None = None
    doubtful: bool = False  # under way while the connection was lost
    outcome: tuple[Any, BaseException | None] | None = None  # of one without a future

    def attempt_id(self, attempt: int | None = None) -> str:
        """Every attempt has an id of its own, so that a member that gets a call twice runs the second, too."""
        number = self.attempt if attempt is None else attempt
        return self.id if number == 1 else f"{self.id}.{number}"


def outcome_of(error: BaseException | None) -> Outcome:
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


def settle(future: Future[Any], result: Any = None, *, error: BaseException | None = None) -> None:
    """End a future, unless it has ended."""
    if future.done() or not future.set_running_or_notify_cancel():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
