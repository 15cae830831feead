"""What an attempt needs on this machine: inputs fetched once and linked into a folder, or found in shared folders."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from callboard_core.calls.artifacts import ArtifactRef
from callboard_core.errors import BadRequest, Forbidden, NotFound
from callboard_core.farm.messages import Input

__all__ = ["Fetcher", "InputCache", "SharedFolders", "Tree"]


class Fetcher(Protocol):
    """Where content comes from."""

    def get_file(self, ref: ArtifactRef, path: Path) -> Path:
        """Fetch content into a file that is there only once it is whole and checked."""


@dataclass(frozen=True)
class SharedFolders:
    """Folders that jobs may read and write, and what paths to them begin with on this machine.

    Attributes:
        allowed: nothing outside of these is touched.
        variables: this node's own; they win over a job's.
    """

    allowed: Sequence[Path] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def resolve(self, path: str, given: Mapping[str, Mapping[str, str]]) -> Path:
        """Return where a path leads on this machine.

        Args:
            path: absolute, or beginning with ``{variable}``.
            given: the job's variables: name → platform → path.

        Raises:
            BadRequest: a variable is unknown here, or the path is not absolute.
            Forbidden: it leads outside of the allowed folders.
        """
        if path.startswith("{"):
            name, _, rest = path[1:].partition("}")
            path = self._value(name, given) + rest
        found = Path(os.path.realpath(path)) if os.path.isabs(path) else None  # noqa: PTH117 - a text may be anything
        if found is None:
            raise BadRequest(f"path {path!r} is not absolute")
        if not any(found.is_relative_to(os.path.realpath(folder)) for folder in self.allowed):
            raise Forbidden(f"{found} is in none of this node's shared folders; add one to node.farm.shared")
        return found

    def _value(self, name: str, given: Mapping[str, Mapping[str, str]]) -> str:
        platform = "windows" if sys.platform == "win32" else sys.platform
        value = self.variables.get(name) or given.get(name, {}).get(platform)
        if value is None:
            raise BadRequest(f"path variable {name!r} has no value for {platform}")
        return value


@dataclass(eq=False)
class Tree:
    """The inputs of an attempt, ready to be opened; shared by all attempts that have the same ones."""

    folder: Path
    files: Mapping[str, Path]
    users: int = 0


class InputCache:
    """Fetched content by its hash, and folders of links to it. Bounded; thread-safe.

    Args:
        folder: where it lies.
        limit: bytes; beyond it what was used least lately goes.
        shared: for inputs that lie in shared folders.
    """

    def __init__(self, folder: Path, *, limit: int, shared: SharedFolders | None = None) -> None:
        self._content, self._trees = folder / "content", folder / "trees"
        self._limit, self._shared = limit, shared or SharedFolders()
        self._lock = threading.RLock()
        self._held: dict[str, Tree] = {}
        self._known: dict[str, tuple[int, int]] = {}  # what we have checked: size and time of change

    def hold(
        self,
        inputs: Sequence[Input],
        fetcher: Callable[[], Fetcher],
        variables: Mapping[str, Mapping[str, str]],
    ) -> Tree:
        """Have all inputs here, and keep them until they are released. Waits.

        Raises:
            NotFound: a shared file is missing, or the board does not have an artifact.
            Forbidden: a path is in no shared folder.
            OSError: the disk refuses.
            CallboardError: an artifact could not be fetched.
        """
        key = _key(inputs)
        with self._lock:
            tree = self._held.setdefault(key, Tree(self._trees / key, {}))
            tree.users += 1
        try:
            tree.files = {one.name: self._place(one, tree.folder, fetcher, variables) for one in inputs}
            tree.folder.mkdir(parents=True, exist_ok=True)
            os.utime(tree.folder)
        except BaseException:
            self.release(tree)
            raise
        self._make_room()
        return tree

    def release(self, tree: Tree) -> None:
        """Let go of inputs; they stay as long as there is room."""
        with self._lock:
            tree.users -= 1
            if tree.users <= 0:
                self._held.pop(tree.folder.name, None)

    def _place(
        self,
        one: Input,
        folder: Path,
        fetcher: Callable[[], Fetcher],
        variables: Mapping[str, Mapping[str, str]],
    ) -> Path:
        if one.artifact is None:
            found = self._shared.resolve(one.path or "", variables)
            if not found.exists():
                raise NotFound(f"input {one.name!r}: there is no {found}")
            return found
        place = folder / one.name
        content = self._fetch(one.artifact, fetcher)
        with self._lock:
            if not place.exists() or not place.samefile(content):
                place.parent.mkdir(parents=True, exist_ok=True)
                place.unlink(missing_ok=True)
                place.hardlink_to(content)
        return place

    def _fetch(self, ref: ArtifactRef, fetcher: Callable[[], Fetcher]) -> Path:
        path = self._content / ref.sha256[:2] / ref.sha256
        if self._is_whole(path, ref):
            os.utime(
                path, ns=(time.time_ns(), path.stat().st_mtime_ns)
            )  # the time of use, not that of change
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        fetcher().get_file(ref, path)
        path.chmod(0o444)  # what is linked here belongs to all attempts
        with self._lock:
            self._known[ref.sha256] = _stamp(path)
        return path

    def _is_whole(self, path: Path, ref: ArtifactRef) -> bool:
        """Tell whether content is here as it came; what an earlier process fetched is read once."""
        try:
            stamp = _stamp(path)
        except FileNotFoundError:
            return False
        if self._known.get(ref.sha256) == stamp:
            return True
        if stamp[0] != ref.size or ref.sha256 in self._known:
            return False
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != ref.sha256:
                return False
        self._known[ref.sha256] = stamp
        return True

    def _make_room(self) -> None:
        """Remove folders that nobody holds and content that nothing links to, the longest unused first."""
        with self._lock:
            files = [(path, path.stat()) for path in _files(self._content)]
            total = sum(found.st_size for _, found in files)
            if total <= self._limit:
                return
            for tree in _oldest_first(self._trees.iterdir() if self._trees.exists() else ()):
                if tree.name not in self._held:
                    shutil.rmtree(tree, ignore_errors=True)
            for path, found in sorted(files, key=lambda one: one[1].st_atime_ns):
                if total <= self._limit:
                    return
                if path.stat().st_nlink == 1:
                    path.unlink()
                    self._known.pop(path.name, None)
                    total -= found.st_size


def _key(inputs: Sequence[Input]) -> str:
    said = [[one.name, one.artifact.sha256 if one.artifact else one.path] for one in inputs]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _files(folder: Path) -> Iterable[Path]:
    return [path for path in folder.glob("*/*") if path.is_file()]


def _oldest_first(paths: Iterable[Path]) -> list[Path]:
    dated: list[tuple[float, Path]] = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            dated.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(dated)]
