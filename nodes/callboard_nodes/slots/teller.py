"""Tells a state as it changes: at once, but not again at once; and always the last one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["QUICK", "Teller"]

#: Least seconds between two states.
QUICK = 0.1


class Teller:
    """Calls ``tell`` on the event loop, after the turn in which it was asked to.

    Args:
        tell: tells the state as it is then.
    """

    def __init__(self, tell: Callable[[], object]) -> None:
        self._tell = tell
        self._told = 0.0
        self._handle: asyncio.Handle | None = None
        self._due = 0.0

    def show(self, *, now: bool = False, calm: float = QUICK) -> None:
        """Ask for the state to be told.

        Args:
            now: whether it must not wait.
            calm: least seconds since it was last told.
        """
        loop = asyncio.get_running_loop()
        due = loop.time() if now else max(loop.time(), self._told + calm)
        if self._handle is not None:
            if self._due <= due:
                return
            self._handle.cancel()
        self._due, self._handle = due, loop.call_at(due, self._run)

    def close(self) -> None:
        """Tell no more."""
        if self._handle is not None:
            self._handle.cancel()

    def _run(self) -> None:
        self._handle = None
        self._told = asyncio.get_running_loop().time()
        self._tell()
