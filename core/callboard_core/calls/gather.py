"""Answers to a call that went to everybody."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from callboard_core.cards import WorkerCard
from callboard_core.errors import CallboardError, Failed
from callboard_core.view import Entry

__all__ = ["Answer", "gather"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one member answered to a call that went to all; ``error`` is None when it has succeeded."""

    node: str
    service: str
    result: Any
    error: CallboardError | None


def gather(entries: list[Entry], futures: list[Future[Any]]) -> Future[list[Answer]]:
    """A future of all answers; it is done when the last one has come, failed or timed out."""
    gathered: Future[list[Answer]] = Future()
    left = len(futures)
    lock = threading.Lock()

    def count(_: object) -> None:
        nonlocal left
        with lock:
            left -= 1
            last = left == 0
        if last and gathered.set_running_or_notify_cancel():
            gathered.set_result([_as_answer(*pair) for pair in zip(entries, futures, strict=True)])

    for future in futures:
        future.add_done_callback(count)
    if not futures:
        gathered.set_result([])
    return gathered


def _as_answer(entry: Entry, future: Future[Any]) -> Answer:
    service = entry.card.service if isinstance(entry.card, WorkerCard) else ""
    error = future.exception()
    if error is None:
        return Answer(entry.node, service, future.result(), None)
    told = error if isinstance(error, CallboardError) else Failed(str(error))
    return Answer(entry.node, service, None, told)
