"""Uploads on their way: who holds the part of which content, and who may go on with one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from callboard_broker.errors import WrongOffset
from callboard_broker.services.artifacts.files import Files
from callboard_broker.services.artifacts.upload import Upload
from callboard_core.calls.artifacts import ArtifactRef
from callboard_core.errors import BadRequest, Overloaded

__all__ = ["UPLOADS", "Intake"]

#: Uploads at a time.
UPLOADS = 256


class Intake:
    """One upload of a content writes its part; a second one at the same time writes a part of its own.

    Args:
        files: where parts are.
        lock: held while files get or lose their names.
        largest: most bytes of one.
        check_room: raises when so many bytes have no room.
        keep: takes a finished part, its hash and its content type.
    """

    def __init__(
        self,
        files: Files,
        lock: threading.Lock,
        *,
        largest: int,
        check_room: Callable[[int], None],
        keep: Callable[[Upload, str, str], ArtifactRef],
    ) -> None:
        self._files, self._lock = files, lock
        self._largest, self._check_room, self._keep = largest, check_room, keep
        self._uploads: set[Upload] = set()
        self._holders: dict[str, Upload] = {}
        self._opening: set[str] = set()

    def close(self) -> None:
        """Cut everything."""
        for upload in list(self._uploads):
            upload.cut()

    def offset(self, sha256: str) -> int:
        """Return from which byte on an upload goes on."""
        with self._lock:
            return self._offset(sha256)

    def forget(self, sha256: str, done: Upload) -> None:
        """A content is complete: what an earlier upload of it left is of no use any more."""
        with self._lock:
            if self._holders.get(sha256, done) is done and sha256 not in self._opening:
                self._files.part(sha256).unlink(missing_ok=True)

    def holds(self, part: Path) -> bool:
        """Tell whether a part is being written."""
        return part.name in self._holders or part.name in self._opening or "." in part.name

    def begin(self, sha256: str, offset: int, length: int | None, content_type: str) -> Upload:
        """Begin an upload, or go on with one; a stalled one is taken over.

        Raises:
            WrongOffset: this is not where the earlier one ended.
            BadRequest: the offset is beyond the length.
            Overloaded: too many are on their way.
        """
        self._end_stalled(sha256)
        with self._lock:
            there = self._offset(sha256)
            if offset not in {0, there}:
                raise WrongOffset(f"the part that is here has {there} bytes, not {offset}", there)
            if length is not None and offset > length:
                raise BadRequest(f"Upload-Offset {offset} is beyond Upload-Length {length}")
            alone = sha256 not in self._holders and sha256 not in self._opening
            if alone:
                self._opening.add(sha256)
        part = self._files.part(sha256) if alone else self._files.private(sha256)
        upload: Upload | None = None
        try:
            upload = self.make(part, sha256, offset, length, content_type)
        finally:
            with self._lock:
                if alone:
                    self._opening.discard(sha256)
                if alone and upload is not None:
                    self._holders[sha256] = upload
        return upload

    def make(
        self, part: Path, sha256: str | None, offset: int, length: int | None, content_type: str
    ) -> Upload:
        """Return an upload into a part.

        Raises:
            Overloaded: too many are on their way.
        """
        if len(self._uploads) >= UPLOADS:
            raise Overloaded(f"{UPLOADS} artifacts are being sent already; try again later")
        upload = Upload(
            part,
            sha256=sha256,
            offset=offset,
            length=length,
            largest=self._largest,
            check_room=self._check_room,
            keep=lambda done, found: self._keep(done, found, content_type),
            leave=self._leave,
        )
        self._uploads.add(upload)
        return upload

    def _end_stalled(self, sha256: str) -> None:
        with self._lock:
            holder = self._holders.get(sha256)
        if holder is not None and holder.stalled:
            holder.cut()

    def _offset(self, sha256: str) -> int:
        holder = self._holders.get(sha256)
        if holder is not None:
            return holder.size if holder.stalled else 0
        if sha256 in self._opening:
            return 0
        try:
            return self._files.part(sha256).stat().st_size
        except FileNotFoundError:
            return 0

    def _leave(self, upload: Upload) -> None:
        """An upload has ended; what a second one of its content leaves behind may be worth more than nothing."""
        with self._lock:
            self._uploads.discard(upload)
            sha256 = upload.sha256
            if sha256 is None:
                return
            if self._holders.get(sha256) is upload:
                del self._holders[sha256]
            if upload.part.name == sha256 or not upload.part.exists():
                return
            taken = sha256 in self._holders or sha256 in self._opening
            if not taken and upload.size > self._offset(sha256):
                upload.part.replace(self._files.part(sha256))
            else:
                upload.part.unlink()
