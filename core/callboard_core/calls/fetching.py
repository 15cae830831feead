"""Answers that are somewhere else for their size: followed to where they are, in time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from callboard_core.calls.artifacts import ArtifactStore, resolve
from callboard_core.link.lane import Timer

__all__ = ["followed"]


class Keeper(Protocol):
    """What is needed of a link."""

    artifacts: ArtifactStore | None

    def later(self, delay: float, work: Callable[[], object]) -> Timer:
        """Run something later."""


def followed(link: Keeper, answer: Future[Any], timeout: float, late: BaseException) -> Future[Any]:
    """Return a future of what was answered, or of the result that the answer refers to.

    Args:
        link: knows where artifacts are, and keeps the time.
        answer: what was answered.
        timeout: seconds.
        late: what the future fails with when the result is not here by then.
    """
    found: Future[Any] = Future()
    timer = link.later(timeout, partial(_settle, found, None, late))
    found.add_done_callback(lambda _: timer.cancel())

    def take(answered: Future[Any]) -> None:
        error = answered.exception()
        result = None if error else answered.result()
        if error or not resolve(link.artifacts, result, partial(_settle, found)):
            _settle(found, result, error)

    answer.add_done_callback(take)
    return found


def _settle(future: Future[Any], result: Any, error: BaseException | None) -> None:
    with suppress(InvalidStateError):  # it was late
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
