"""Progress bars of files that are sent or fetched, if a person watches."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Self

__all__ = ["Transfers"]


class Transfers:
    """One bar for each file, in bytes; with ``total`` one bar for all files, counted."""

    def __init__(self, what: str, *, total: int | None = None) -> None:
        self._what, self._total = what, total
        self._bars: Any = None
        self._all: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )

            counted = (
                (MofNCompleteColumn(),)
                if self._total is not None
                else (DownloadColumn(), TransferSpeedColumn())
            )
            columns = (TextColumn("{task.description}"), BarColumn(), *counted, TimeRemainingColumn())
            self._bars = Progress(*columns, console=Console(stderr=True), transient=True)
            if self._total is not None:
                self._all = self._bars.add_task(self._what, total=self._total)
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def of(self, name: str) -> Callable[[int, int], None]:
        """Return what is told how many bytes of how many of a file are there."""
        if self._bars is None:
            return lambda done, size: None  # noqa: ARG005
        task = self._bars.add_task(f"{self._what} {name}", total=None)
        return lambda done, size: self._bars.update(task, completed=done, total=size)

    def one_more(self) -> None:
        """Count a file that is complete."""
        if self._bars is not None:
            self._bars.advance(self._all)
