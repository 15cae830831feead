"""One process per node on one machine: a lock on the node's state folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from callboard_core.errors import BadRequest, Conflict

__all__ = ["StateLock"]


class StateLock:
    """Held from creation to :meth:`release`, or to the end of the process however it ends.

    Raises:
        Conflict: another process holds it; the message names it.
        BadRequest: the folder cannot be written.
    """

    def __init__(self, folder: Path, node: str) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = (folder / "lock").open("a+", encoding="ascii")
        except OSError as error:
            raise BadRequest(f"the state folder {folder} of node {node!r} cannot be used: {error}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            pid = self._file.read().strip() or "?"
            self._file.close()
            raise Conflict(
                f"node {node!r} already runs on this machine (pid {pid}, state folder {folder}); "
                "stop that one or choose another id"
            ) from None
        with contextlib.suppress(OSError):  # the number only helps people; a full disk is told elsewhere
            self._file.truncate(0)
            os.write(self._file.fileno(), f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Let others have it."""
        self._file.close()
