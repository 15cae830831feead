"""Puts a backup in place: everything is read and checked in a folder of its own before anything is touched."""

from __future__ import annotations

import os
import shutil
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from callboard_broker.backup import tables
from callboard_broker.backup.archive import Reader
from callboard_broker.backup.manifest import DATABASE, SETTINGS, STATE, Manifest
from callboard_broker.errors import BadBackup, NoRoom
from callboard_broker.store.database import Database
from callboard_core.errors import Conflict
from callboard_core.runtime import hold_state

__all__ = ["Restored", "restore"]

_STAGE = ".restore-"
#: What the lock of the state folder is called; it stays where it is.
_LOCK = "up.lock"
#: Bytes of the disk that are left free.
_SPARE = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored, the settings file that goes with it, and where what was there before lies now."""

    manifest: Manifest
    settings: Path
    before: Path | None


def restore(
    file: Path,
    state: Path,
    *,
    database: str = "",
    replace: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _size: None,
) -> Restored:
    """Restore a backup into a state folder.

    Args:
        file: the backup.
        state: where to; made if it is missing.
        database: the URL of another database than the one in the state folder.
        replace: whether there may be something; it is put aside, and rows of another database are replaced.
        progress: told how many bytes of how many are done.

    Raises:
        BadBackup: the backup is damaged or was tampered with.
        Conflict: a newer Callboard made it, a board runs there, or there is something.
        NoRoom: the disk has no room for it.
        OSError: something cannot be read or written.
    """
    with Reader(file) as reader:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with hold_state(state):
            _check_empty(state, replace=replace)
            _check_room(reader.manifest, state)
            with _staging(state) as stage:
                _extract(reader, stage, progress)
                _prepare_database(stage)
                settings = _write_settings(stage, database)
                before = _settle(stage, state, database, replace=replace)
    return Restored(reader.manifest, state / settings, before)


def _check_empty(state: Path, *, replace: bool) -> None:
    for left in state.glob(f"{_STAGE}*"):
        shutil.rmtree(left)
    if _entries(state) and not replace:
        raise Conflict(
            f"{state} is not empty; give another folder with --state, or put what is there aside with --yes"
        )


def _entries(state: Path) -> list[Path]:
    return [path for path in state.iterdir() if path.name != _LOCK and not path.name.startswith(_STAGE)]


def _check_room(manifest: Manifest, state: Path) -> None:
    free = shutil.disk_usage(state).free
    # The database may be written twice, to be brought to this version.
    wanted = manifest.size + sum(part.size for part in manifest.parts if part.name == DATABASE) + _SPARE
    if wanted > free:
        raise NoRoom(
            f"the backup needs {wanted >> 20} MiB and the disk of {state} has {free >> 20}; make room"
        )


@contextmanager
def _staging(state: Path) -> Iterator[Path]:
    stage = state / f"{_STAGE}{os.getpid()}"
    stage.mkdir(mode=0o700)
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _extract(reader: Reader, stage: Path, progress: Callable[[int, int], None]) -> None:
    done = 0

    def told(more: int) -> None:
        nonlocal done
        done += more
        progress(done, reader.manifest.size)

    names = {DATABASE: "board.db", SETTINGS: SETTINGS}
    for part in reader.manifest.parts:
        reader.extract(part, stage / names.get(part.name, part.name.removeprefix(STATE)), told)


def _prepare_database(stage: Path) -> None:
    """Check the database, and bring it to this version.

    Raises:
        BadBackup: it is damaged.
        NewerDatabase: it belongs to a newer Callboard.
    """
    file = stage / "board.db"
    if not file.exists():
        raise BadBackup("the backup has no database; use another backup")
    tables.check(file)
    database = Database(f"sqlite:///{file}")
    try:
        database.open()
    finally:
        database.close()


def _write_settings(stage: Path, database: str) -> str:
    file = stage / SETTINGS
    try:
        told = tomllib.loads(file.read_text()) if file.exists() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadBackup(f"{SETTINGS} in the backup is damaged ({error}); use another backup") from None
    # The board's old database may be in use: where the data went now is what counts.
    told.pop("database", None)
    if database:
        told["database"] = {"url": database}
    file.write_text(tomli_w.dumps(told))
    file.chmod(0o600)
    return SETTINGS


def _settle(stage: Path, state: Path, database: str, *, replace: bool) -> Path | None:
    """Put what is ready in place of what is there."""
    if not database:
        return _move(stage, state)
    moved: list[Path | None] = []
    source = stage.parent / f"{_STAGE}database.{os.getpid()}"
    (stage / "board.db").rename(source)
    try:
        tables.fill(
            database, source, replace=replace, before_commit=lambda: moved.append(_move(stage, state))
        )
    finally:
        for file in state.glob(f"{source.name}*"):
            file.unlink()
    return moved[0]


def _move(stage: Path, state: Path) -> Path | None:
    before = None
    there = _entries(state)
    if there:
        before = state / time.strftime("before-restore-%Y%m%d-%H%M%S")
        before.mkdir(mode=0o700)
        for path in there:
            path.rename(before / path.name)
    _give_to_owner(stage, state)
    for path in stage.iterdir():
        path.rename(state / path.name)
    return before


def _give_to_owner(stage: Path, state: Path) -> None:
    """Restored by root for the user who runs the board: his are the folder and all in it."""
    owner = state.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        for path in (stage, *stage.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
