"""Makes a backup of a board, running or not: every part as it was at one moment, renamed into place when it is whole."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import tomli_w

from callboard_broker.access import users_file
from callboard_broker.backup import tables
from callboard_broker.backup.archive import Told, Writer
from callboard_broker.backup.manifest import DATABASE, FORMAT, SETTINGS, STATE, Manifest, is_kept
from callboard_core.errors import Conflict, NotFound
from callboard_core.settings import Settings

__all__ = ["back_up", "in_force"]

#: The first bytes of every SQLite file.
_SQLITE = b"SQLite format 3\0"
_TRIES = 20


def in_force(settings: Settings) -> Settings:
    """Return what the board on this state folder runs with, or last ran with: also what came from flags."""
    try:
        text = (settings.state / "run" / "settings.json").read_text()
    except FileNotFoundError:
        return settings
    return Settings.model_validate_json(text).model_copy(update={"state": settings.state})


def back_up(
    settings: Settings,
    file: Path,
    *,
    artifacts: bool = True,
    replace: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _size: None,
) -> Manifest:
    """Write a backup of a board to ``file`` (0600).

    Args:
        settings: what the board runs with.
        file: where to.
        artifacts: whether they belong in it.
        replace: whether ``file`` may be there.
        progress: told how many bytes of about how many are done.

    Raises:
        NotFound: no board has run there.
        Conflict: the file is there.
        StoreUnavailable: the database cannot be read.
        OSError: something cannot be read or written.
    """
    if not users_file(settings.state).exists():
        raise NotFound(f"no board has ever run on {settings.state}; name its state folder with --state")
    if file.exists() and not replace:
        raise Conflict(f"{file} is there; choose another name, or replace it with --yes")
    with _scratch(file) as folder:
        draft = folder / "backup.zip"
        with draft.open("xb") as into:
            draft.chmod(0o600)
            manifest = _write(settings, into, folder, progress, artifacts=artifacts)
            into.flush()
            os.fsync(into.fileno())
        draft.replace(file)
    _sync(file.parent)
    return manifest


@contextmanager
def _scratch(file: Path) -> Iterator[Path]:
    """A folder beside the file that only we can read."""
    folder = Path(tempfile.mkdtemp(dir=file.absolute().parent, prefix=f".{file.name}."))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(
    settings: Settings, into: BinaryIO, folder: Path, progress: Callable[[int, int], None], *, artifacts: bool
) -> Manifest:
    # The database first: what it refers to then is on the disk already, and comes after it.
    database = folder / DATABASE
    tables.snapshot(settings.database.url, database)
    files = list(_files(settings, artifacts=artifacts))
    writer = Writer(into, _counted(progress, database.stat().st_size + sum(_size(file) for file in files)))
    _add(writer, DATABASE, database)
    revision = tables.revision_of(database)
    database.unlink()
    for path in files:
        _add_file(writer, f"{STATE}{path.relative_to(settings.state)}", path, folder)
    _add_settings(writer, settings, folder)
    kind = "sqlite" if settings.database.url.startswith("sqlite") else "postgresql"
    engine = settings.mqtt.engine
    manifest = Manifest(
        format=FORMAT,
        callboard=version("callboard"),
        made=time.time(),
        site=settings.site,
        engine=engine if "://" not in engine else "external",
        database=kind,
        revision=revision,
        artifacts=artifacts,
        parts=tuple(writer.parts),
    )
    writer.finish(manifest)
    return manifest


def _counted(progress: Callable[[int, int], None], total: int) -> Told:
    done = 0

    def told(more: int) -> None:
        nonlocal done
        done += more
        progress(done, max(done, total))

    return told


def _files(settings: Settings, *, artifacts: bool) -> Iterator[Path]:
    """Every file of the state folder that belongs in the backup; of the journal there is one, see ``_add_journal``."""
    own = settings.database.url.removeprefix("sqlite:///")
    for folder, _, names in os.walk(settings.state):
        for name in sorted(names):
            path = Path(folder, name)
            relative = path.relative_to(settings.state).as_posix()
            wanted = is_kept(relative, artifacts=artifacts) and str(path) != own
            if wanted and path.is_file() and not path.is_symlink():
                yield path


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _add_file(writer: Writer, name: str, path: Path, folder: Path) -> None:
    """Add a file as it is at this moment; one that is gone by now is left out."""
    if path.parent.name == "broker" and path.match("journal-*.log"):
        _add_journal(writer, path.parent)
        return
    try:
        if _is_sqlite(path):
            copy = folder / "copy.sqlite3"
            _copy_index(path, copy)
            _add(writer, name, copy)
            copy.unlink()
        else:
            _add(writer, name, path)
    except FileNotFoundError:
        return


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def _copy_index(path: Path, copy: Path) -> None:
    try:
        tables.copy_sqlite(path, copy)
    except sqlite3.Error as error:
        raise OSError(f"{path} cannot be read: {error}") from error


def _add_journal(writer: Writer, folder: Path) -> None:
    """Add the broker's newest journal: whole from its first byte on, and what it lacks at its end was never acknowledged."""
    for _ in range(_TRIES):
        newest = max(folder.glob("journal-*.log"), default=None)
        name = f"{STATE}broker/{newest.name}" if newest is not None else ""
        if newest is None or name in {part.name for part in writer.parts}:
            return
        try:
            _add(writer, name, newest)
        except FileNotFoundError:  # rewritten just now
            continue
        return
    raise OSError(f"{folder} changes all the time; try again")


def _add(writer: Writer, name: str, path: Path) -> None:
    with path.open("rb") as source:
        writer.add(name, source)


def _add_settings(writer: Writer, settings: Settings, folder: Path) -> None:
    draft = folder / SETTINGS
    draft.write_text(as_toml(settings))
    _add(writer, SETTINGS, draft)


def as_toml(settings: Settings) -> str:
    """Return what differs from the defaults as a settings file; the state folder and what lies in it are left out."""
    told = settings.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    told.pop("state", None)  # not there when it is the default one
    for section, key in (("database", "url"), ("node", "state")):
        if str(settings.state) in str(told.get(section, {}).get(key, "")):
            del told[section][key]
    for key in ("sensors", "controls", "slots", "commands"):
        if key in told:
            told[key.removesuffix("s")] = told.pop(key)
    return tomli_w.dumps(_without_empty(told))


def _without_empty(table: dict[str, Any]) -> dict[str, Any]:
    cleared = {
        key: _without_empty(value) if isinstance(value, dict) else value for key, value in table.items()
    }
    return {key: value for key, value in cleared.items() if value not in ({}, [])}


def _sync(folder: Path) -> None:
    handle = os.open(folder.absolute(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
