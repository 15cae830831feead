"""What a backup says about itself, and under which names it holds its parts. Pure."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from callboard_broker.errors import BadBackup
from callboard_core.errors import Conflict

__all__ = [
    "DATABASE",
    "FORMAT",
    "MANIFEST",
    "SETTINGS",
    "STATE",
    "Manifest",
    "Part",
    "is_kept",
    "parse_manifest",
]

#: The layout of a backup; one that is higher was made by a newer Callboard.
FORMAT = 1
MANIFEST = "manifest.json"
#: Always SQLite, whatever the board uses, so that a backup can be restored to either.
DATABASE = "database.sqlite3"
SETTINGS = "callboard.toml"
#: In front of the names of files of the state folder.
STATE = "state/"

#: What belongs to one run, or can be made again.
_LEFT_OUT = tuple(
    re.compile(pattern)
    for pattern in (
        r"run/",
        r"log/",
        r"runtime\.json$",
        r"before-restore-",
        r"artifacts/(parts|damaged)/",
        r"nodes/[^/]+/farm/[^/]+/",
        r"(.*/)?(lock|[^/]*\.lock)$",
        r"(.*/)?\.",
        r".*(-wal|-shm|-journal|\.new|\.corrupt-\d+|\.damaged(-[^/]*)?)$",
    )
)
_LONGEST = 1_000


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Part(_Model):
    """One file in the backup; ``size`` in bytes."""

    name: str
    size: int = Field(ge=0)
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(_Model):
    """The content of ``manifest.json``; ``made`` in Unix seconds.

    Attributes:
        callboard: the version that made it.
        engine: the board's broker; of one that is not ours nothing is in the backup.
        database: what the board used; in the backup it is SQLite.
        revision: of the tables.
        artifacts: whether they are in it.
    """

    format: int
    callboard: str
    made: float
    site: str
    engine: str
    database: str
    revision: str | None
    artifacts: bool
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(part.size for part in self.parts)


class _Format(_Model):
    format: int
    callboard: str = "?"


def is_kept(path: str, *, artifacts: bool = True) -> bool:
    """Tell whether a file of the state folder, by its path in there, belongs in a backup."""
    if path.startswith("artifacts/") and not artifacts:
        return False
    return not any(pattern.match(path) for pattern in _LEFT_OUT)


def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest.

    Raises:
        Conflict: a newer Callboard made it.
        BadBackup: it is none, or names what no backup of ours holds.
    """
    try:
        seen = _Format.model_validate_json(data)
        if seen.format > FORMAT:
            raise Conflict(
                f"the backup was made by Callboard {seen.callboard}, in format {seen.format}; this version reads up "
                f"to {FORMAT}: install the newer one"
            )
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        raise BadBackup(f"{MANIFEST} is damaged ({error.error_count()} errors); use another backup") from None
    _check_names(manifest)
    return manifest


def _check_names(manifest: Manifest) -> None:
    names = [part.name for part in manifest.parts]
    if len(set(names)) != len(names):
        raise BadBackup("the backup names a part twice; nothing is restored from it")
    for name in names:
        if not _is_allowed(name):
            raise BadBackup(
                f"the backup holds {name[:200]!r}, which no backup does; nothing is restored from it"
            )


def _is_allowed(name: str) -> bool:
    if name in {DATABASE, SETTINGS}:
        return True
    inside = name.removeprefix(STATE)
    plain = inside.isprintable() and "\\" not in inside and 0 < len(inside) <= _LONGEST
    # str() of a pure path leaves out "//", "." and a "/" at the end: only what is unchanged is what it seems.
    path = PurePosixPath(inside)
    straight = str(path) == inside and not path.is_absolute() and ".." not in path.parts
    return name.startswith(STATE) and plain and straight and is_kept(inside)
