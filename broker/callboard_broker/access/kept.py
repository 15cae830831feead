"""A private JSON file that several processes share: written atomically under a lock, read again whenever it changes."""

from __future__ import annotations

import fcntl
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from callboard_core.errors import Failed
from callboard_core.runtime import write_private

__all__ = ["Kept"]

_T = TypeVar("_T")


class Kept(Generic[_T]):
    """One file (0600) and what was read from it last.

    Args:
        path: need not exist yet.
        parse: makes something of the file's object; may raise ValueError, TypeError, KeyError and AttributeError.
        what: what is in it, for error messages.
        remedy: what to do about a damaged one.
    """

    def __init__(
        self, path: Path, parse: Callable[[Mapping[str, Any]], _T], *, what: str, remedy: str
    ) -> None:
        self.path = path
        self._parse, self._what, self._remedy = parse, what, remedy
        self._seen: tuple[int, int, int] | None = None
        self._read = parse({})
        self._guard = threading.RLock()
        self._lock_depth = 0

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the file against other threads and processes (may be nested)."""
        with self._guard:
            if self._lock_depth:
                yield
                return
            with self.path.with_suffix(".lock").open("w") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                self._lock_depth += 1
                try:
                    yield
                finally:
                    self._lock_depth -= 1

    def load(self) -> _T:
        """Return what is in the file now.

        Raises:
            Failed: it is damaged.
        """
        with self._guard:
            seen = _stamp(self.path)
            if seen != self._seen:
                self._read = self._parsed(seen)
                self._seen = seen
            return self._read

    def save(self, rows: Mapping[str, Any]) -> None:
        """Replace what is in the file."""
        # One line each: read and compared with ease, and ten times as fast to write as an indented one.
        lines = [f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in sorted(rows.items())]
        write_private(self.path, "{\n" + ",\n".join(lines) + "\n}\n")

    def _parsed(self, seen: object) -> _T:
        try:
            return self._parse({} if seen is None else json.loads(self.path.read_bytes()))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise Failed(f"the {self._what} file {self.path} is damaged ({error}); {self._remedy}") from None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
