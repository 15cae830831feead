"""One content on its way into the store: written to a part file, hashed, and checked at the end."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from callboard_broker.errors import WrongOffset
from callboard_core.calls.artifacts import ArtifactRef
from callboard_core.errors import BadRequest, TooLarge, Unavailable

__all__ = ["BLOCK", "Upload"]

#: Bytes read or written at a time.
BLOCK = 1024 * 1024
#: Seconds without a byte after which somebody else may go on with the part.
STALLED = 2.0
#: Bytes between two looks at the room on the disk.
_LOOK = 16 * BLOCK


class Upload:
    """Blocks where the disk does. ``finish`` or ``cut`` ends it; both may come twice.

    Args:
        part: the file that takes the bytes.
        sha256: what the content is to have; None to take what it has.
        offset: bytes of the part that stand already.
        length: what the whole will have, if it is known.
        largest: most bytes.
        check_room: raises when so many bytes have no room.
        keep: takes the finished part.
        leave: told of the end.
    """

    def __init__(
        self,
        part: Path,
        *,
        sha256: str | None,
        offset: int,
        length: int | None,
        largest: int,
        check_room: Callable[[int], None],
        keep: Callable[[Upload, str], ArtifactRef],
        leave: Callable[[Upload], None],
    ) -> None:
        self.part, self.sha256, self.length = part, sha256, length
        self.size = offset
        self._largest, self._check_room, self._keep, self._leave = largest, check_room, keep, leave
        self._lock = threading.Lock()
        self._last = time.monotonic()
        self._looked = offset
        self._done = False
        self._file = part.open("r+b" if offset else "wb")
        try:
            self._hash = self._start(offset)
        except BaseException:
            self._file.close()
            raise

    @property
    def stalled(self) -> bool:
        """True when no byte has come for a while."""
        return time.monotonic() - self._last > STALLED

    @property
    def complete(self) -> bool:
        """True when all of a known length is there."""
        return self.length is not None and self.size == self.length

    def write(self, data: bytes) -> None:
        """Add bytes.

        Raises:
            BadRequest: there are more than were announced.
            TooLarge: there are more than are allowed.
            NoRoom: the disk is full; the part is gone.
            Conflict: somebody else goes on with this upload.
        """
        with self._lock:
            self._check_size(self.size + len(data))
            self._check_open()
            if self.size - self._looked >= _LOOK:
                self._looked = self.size
                self._check_room(len(data))
            self._file.write(data)
            self._hash.update(data)
            self.size += len(data)
            self._last = time.monotonic()

    def finish(self) -> ArtifactRef:
        """Check what has come, and keep it.

        Raises:
            BadRequest: it is not what it was said to be; the part is gone.
            Conflict: somebody else goes on with this upload.
        """
        with self._lock:
            self._check_open()
            self._done = True
            try:
                return self._finish()
            except BaseException:
                self.part.unlink(missing_ok=True)
                raise
            finally:
                self._leave(self)

    def cut(self, *, discard: bool = False) -> None:
        """End it unfinished; what has come is kept to be continued, or discarded."""
        with self._lock:
            if self._done:
                return
            self._done = True
            try:
                self._file.close()  # writes what waits; there may be no room for it
            except OSError:
                discard = True
        if discard:
            self.part.unlink(missing_ok=True)
        self._leave(self)

    def _finish(self) -> ArtifactRef:
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        found = self._hash.hexdigest()
        if self.sha256 not in {None, found}:
            raise BadRequest(f"the content has the SHA-256 {found}, not {self.sha256}; send it again")
        return self._keep(self, found)

    def _start(self, offset: int) -> hashlib._Hash:
        """Hash what stands already."""
        found = hashlib.sha256()
        left = offset
        while left:
            block = self._file.read(min(BLOCK, left))
            if not block:
                raise Unavailable(f"{self.part} cannot be read; send the content again")
            found.update(block)
            left -= len(block)
        self._file.seek(offset)
        self._file.truncate()
        return found

    def _check_open(self) -> None:
        if self._done:
            raise WrongOffset("somebody else is sending this content; ask how far it is", 0)

    def _check_size(self, size: int) -> None:
        if self.length is not None and size > self.length:
            raise BadRequest(f"{size} bytes or more have come, and {self.length} were announced")
        if size > self._largest:
            raise TooLarge(f"{size} bytes or more are over the limit of {self._largest} for an artifact")
