"""Waiting for a call at a terminal: a progress bar while it lasts, and Ctrl-C to end it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Bar", "wait"]

#: Seconds after which a person is shown that the call is being worked on.
SHOWN_AFTER = 1.0
#: Seconds an interrupted call has to come to an end.
CANCEL_TIMEOUT = 5.0


class Bar:
    """A progress bar that appears when a call is being worked on, if a person watches."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self) -> None:
        """Appear, without saying how far the work is."""
        if self._bar is None and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self._title, total=None)
            self._bar.start()

    def progress(self, done: float) -> None:
        """Say how far the work is, 0 to 1."""
        self.show()
        if self._bar is not None:
            self._bar.update(self._task, total=1.0, completed=done)


def wait(start: Callable[[], Future[Any]], bar: Bar, interrupt: Callable[[], object] | None = None) -> Any:
    """Make a call and wait for its result.

    Args:
        start: makes the call; Ctrl-C waits until it has, so that there always is something to interrupt.
        bar: shown if it takes longer.
        interrupt: asks for the call's end, by cancelling the future when missing; run at Ctrl-C, after which the end
            is waited for, but not for long.

    Raises:
        CallboardError: what the call failed with.
    """
    future: Future[Any] | None = None
    try:
        with _held_back():
            future = start()
        try:
            return future.result(SHOWN_AFTER)
        except TimeoutError:
            bar.show()
            return future.result()
    except KeyboardInterrupt:
        if future is None:
            raise
        (interrupt or future.cancel)()
        return _interrupted(future)


@contextmanager
def _held_back() -> Iterator[None]:
    """Hold Ctrl-C back, and let it through at the end."""
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def _interrupted(future: Future[Any]) -> Any:
    """Wait for the end of a call that was asked to stop; a second Ctrl-C does not wait."""
    from callboard_core.errors import Failed, TimedOut

    if future.cancelled():
        raise Failed("asked the worker to interrupt the call, which nobody waits for any more") from None
    print("asked the node to interrupt it; waiting for the end …", file=sys.stderr)
    try:
        return future.result(CANCEL_TIMEOUT)
    except TimeoutError:
        raise TimedOut("the node has not ended the call; it may still be running there") from None
