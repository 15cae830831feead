"""The epoch: a counter on disk that a node raises at every start."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

__all__ = ["next_epoch"]

_log = logging.getLogger("callboard.epoch")


def next_epoch(path: Path) -> int:
    """Raise the counter in ``path`` durably and return it.

    A file that cannot be understood is set aside as ``NAME.corrupt-N`` and the counter starts afresh from the
    Unix time, which is far above every counter of starts. Missing folders are made.

    Raises:
        OSError: the folder is not writable or the disk is full; the old counter is then still in place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    epoch = _read(path) + 1
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="ascii") as file:
            file.write(f"{epoch}\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return epoch


def _read(path: Path) -> int:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return 0
    try:
        value = int(text.decode("ascii"))
        if 0 <= value < 2**53:  # what survives JSON everywhere
            return value
    except ValueError as error:
        _log.debug("%s: %s", path, error)
    return _set_aside(path)


def _set_aside(path: Path) -> int:
    number = 1
    while (aside := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    path.replace(aside)
    _log.warning("%s was unreadable; it is now %s and the epoch starts from the clock", path, aside.name)
    return int(time.time())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
