"""Hooks: what is to be run when something happens, until it is cancelled. No I/O."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Hook", "Hooks"]


class Hook:
    """One of them; calling it runs it, unless it was cancelled."""

    __slots__ = ("_forget", "_run")

    def __init__(self, run: Callable[..., object], forget: Callable[[Hook], None]) -> None:
        self._run: Callable[..., object] | None = run
        self._forget = forget

    def __call__(self, *args: Any) -> None:
        """Run it."""
        run = self._run
        if run is not None:
            run(*args)

    def cancel(self) -> None:
        """Run it no more; one that is running is not interrupted."""
        self._run = None
        self._forget(self)


class Hooks:
    """Hooks in the order of their registration. Thread-safe; who iterates sees those of that moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: tuple[Hook, ...] = ()

    def add(self, run: Callable[..., object]) -> Hook:
        """Add one."""
        hook = Hook(run, self._forget)
        with self._lock:
            self._all = (*self._all, hook)
        return hook

    def __iter__(self) -> Iterator[Hook]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def _forget(self, hook: Hook) -> None:
        with self._lock:
            self._all = tuple(one for one in self._all if one is not hook)
