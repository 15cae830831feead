"""Which engines this machine has, and their versions; a program is asked once, and again when it has changed."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["PROGRAMS", "USUAL", "Detector", "Found", "parse_version", "usual_memory"]

_log = logging.getLogger("callboard.slots")

#: Engine → the program it needs. ``command`` and ``simulated`` need none.
PROGRAMS: Mapping[str, str] = {
    "blender": "blender",
    "blender-persistent": "blender",
    "povray": "povray",
    "ffmpeg": "ffmpeg",
}
#: Slots that are offered unless others are configured, in this order, and their engines: a Blender that stays open pays
#: its start once, so that tasks can be small.
USUAL: Mapping[str, str] = {"blender": "blender-persistent", "povray": "povray", "ffmpeg": "ffmpeg"}

#: How a program tells its version, and where in what it prints.
_ASKED: Mapping[str, tuple[str, re.Pattern[str]]] = {
    "blender": ("--version", re.compile(r"^Blender (\d+\.\d+(?:\.\d+)?(?: LTS)?)", re.MULTILINE)),
    "povray": ("--version", re.compile(r"^POV-Ray (\d+(?:\.\d+)*)", re.MULTILINE)),
    "ffmpeg": ("-version", re.compile(r"^ffmpeg version (\S+)", re.MULTILINE)),
}
#: Seconds a program may take to tell its version; Blender's first start from a slow disk takes some.
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Found:
    """A program that is there. ``stamp`` changes when it is replaced."""

    path: str
    version: str
    stamp: str


def usual_memory() -> Path:
    """``$XDG_CACHE_HOME/callboard/engines.json`` or ``~/.cache/callboard/engines.json``: for all nodes of a user."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "callboard" / "engines.json"


def parse_version(program: str, printed: str) -> str | None:
    """Return the version in what a program prints when it is asked for it."""
    found = _ASKED[program][1].search(printed)
    return found[1] if found else None


class Detector:
    """Finds programs on the path.

    Args:
        memory: a file where it is kept what was found.
        search: the path to search; the environment's when None.
    """

    def __init__(self, memory: Path, *, search: str | None = None) -> None:
        self._memory, self._search = memory, search
        self._known = self._load()

    def known(self, program: str, path: str | None = None) -> Found | None:
        """Return a program that was asked before and has not changed; does not start it.

        Args:
            program: one of the values of :data:`PROGRAMS`.
            path: where it is; searched when None.
        """
        place = self._place(program, path)
        found = self._known.get(f"{program} {place}") if place else None
        return found if found is not None and place and found.stamp == _stamp(place) else None

    def is_there(self, program: str, path: str | None = None) -> bool:
        """Tell whether there is such a program at all; does not start it."""
        return self._place(program, path) is not None

    def find(self, program: str, path: str | None = None) -> Found | None:
        """Return a program and its version, asking it if need be; may take seconds."""
        if (found := self.known(program, path)) is not None:
            return found
        place = self._place(program, path)
        version = _ask(program, place) if place else None
        if place is None or version is None:
            return None
        found = Found(place, version, _stamp(place))
        self._known[f"{program} {place}"] = found
        self._save()
        return found

    def _place(self, program: str, path: str | None) -> str | None:
        found = shutil.which(path or program, path=self._search)
        return os.path.realpath(found) if found else None

    def _load(self) -> dict[str, Found]:
        try:
            found = json.loads(self._memory.read_text("utf-8"))
            return {key: Found(**value) for key, value in found.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def _save(self) -> None:
        fresh = self._memory.with_name(f"{self._memory.name}.{os.getpid()}")
        try:
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(json.dumps({key: asdict(one) for key, one in self._known.items()}), "utf-8")
            fresh.replace(self._memory)
        except OSError as error:
            _log.warning("what engines there are cannot be kept in %s: %s", self._memory, error)


def _stamp(place: str) -> str:
    found = os.stat(place)  # noqa: PTH116 - a text all the way
    return f"{found.st_mtime_ns}-{found.st_size}"


def _ask(program: str, place: str) -> str | None:
    try:
        done = subprocess.run(
            [place, _ASKED[program][0]],
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        _log.warning("%s is there and does not tell its version: %s", place, error)
        return None
    version = parse_version(program, (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace"))
    if version is None:
        _log.warning("%s is there and prints no version; exit code %d", place, done.returncode)
    return version
