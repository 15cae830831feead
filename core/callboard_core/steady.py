"""Loops in the background that one failure must not end: it is logged, once while it lasts, and the loop goes on."""

from __future__ import annotations

import logging
from types import TracebackType

from callboard_core.errors import CallboardError

__all__ = ["Steady"]


class Steady:
    """Put around one round of a loop: ``with steady:`` swallows and logs what goes wrong in it.

    What is raised to end the loop (cancellation, exit, interrupt) passes. An error of ours is one line, any
    other a traceback; the same error in successive rounds is logged only the first time.

    Args:
        log: where to.
        what: what fails, as a line begins with it.
    """

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log, self._what = log, what
        self._last = ""

    @property
    def failing(self) -> bool:
        """True when the last round failed."""
        return bool(self._last)

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            self._last = ""
            return False
        if not isinstance(error, Exception):
            return False
        text = repr(error)
        if text != self._last:
            self._tell(error)
        self._last = text
        return True

    def _tell(self, error: Exception) -> None:
        if isinstance(error, CallboardError):
            self._log.warning("%s: %s; going on", self._what, error.message)
        else:
            self._log.error("%s failed; going on", self._what, exc_info=error)
