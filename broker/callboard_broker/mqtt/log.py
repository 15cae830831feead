"""The durability log: one append-only file of checksummed batches, rewritten when it holds too much of the past.

A batch is length, its checksum, the header's own checksum, records. A file ``journal-N.log`` is whole from its first
byte on: it is written under another name, synced, and only then renamed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import Final

from callboard_broker.errors import StoreBusy, StoreUnavailable

__all__ = ["Damaged", "Log", "Rewriter", "unusable"]

log = logging.getLogger("callboard.broker")

_MAGIC: Final = b"callboard journal 1\n"
_HEADER = Struct(">III")
#: Bytes of records put into one batch while a file is rewritten.
_CHUNK: Final = 1_048_576


class Damaged(Exception):
    """The file holds something that was never written so."""


def unusable(folder: Path, error: OSError) -> StoreUnavailable:
    """Return what to tell people when the log's folder cannot be used."""
    remedy = (
        "make room on its disk"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}
        else "look at its owner and its disk"
    )
    return StoreUnavailable(
        f"the broker cannot use {folder}: {error.strerror or error}; {remedy}, or choose another --state"
    )


class Log:
    """One folder's log.

    Args:
        folder: made if missing; held for this process alone until :meth:`close`.

    Raises:
        StoreBusy: another broker holds the folder.
        StoreUnavailable: it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise unusable(folder, error) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise StoreBusy(f"another broker uses {folder}; stop it or choose another --state") from None
        self._file = -1
        self._number = 0
        self._mark = 0
        self.size = 0
        self.base = 0

    # ---- reading

    def read(self) -> Iterator[bytes]:
        """Yield every batch of the newest file. What a crash cut off at its end is left out.

        Raises:
            Damaged: bytes before the end are not what was written; what was yielded so far is good.
        """
        found = self._newest()
        if found is None:
            return
        data = found.read_bytes()
        if not data.startswith(_MAGIC):
            raise Damaged(f"{found} does not begin as a journal does")
        position = len(_MAGIC)
        while position < len(data):
            batch = _batch_at(data, position)
            if batch is None:
                log.info("%s: %d bytes of an unfinished write are left out", found, len(data) - position)
                return
            yield batch
            position += _HEADER.size + len(batch)

    def set_aside(self) -> Path:
        """Rename the newest file so that it is kept for inspection and never read again."""
        found = self._newest()
        if found is None:
            raise FileNotFoundError(self.folder)
        kept = found.with_name(f"{found.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
        found.rename(kept)
        return kept

    def _newest(self) -> Path | None:
        files = sorted(self.folder.glob("journal-*.log"))
        if not files:
            return None
        self._number = max(self._number, int(files[-1].stem.rpartition("-")[2]))
        return files[-1]

    # ---- writing

    def append(self, records: bytes) -> None:
        """Write one batch at the end.

        Raises:
            OSError: it could not be written; the file is as it was before.
        """
        data = _pack_batch(records)
        try:
            _write(self._file, data)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self.size)
            raise
        self.size += len(data)

    def sync(self) -> None:
        """Wait until the disk has everything (survives a power cut, not only a crash)."""
        os.fdatasync(self._file)

    def rewriter(self, records: Iterator[bytes]) -> Rewriter:
        """Begin to write the next file from ``records``, which build today's state from nothing."""
        self._newest()
        self._number += 1
        self._mark = self.size
        return Rewriter(self.folder / f"journal-{self._number:08d}.log", records)

    def switch(self, rewriter: Rewriter, held: bytes = b"") -> None:
        """Go on in a file that was rewritten, after adding what was appended meanwhile; older ones are removed.

        Args:
            rewriter: one whose steps are all done.
            held: records that were told meanwhile and not appended.

        Raises:
            OSError: it could not be finished; the log goes on where it was, and the rewriter is to be abandoned.
        """
        # What was appended meanwhile may be of the past as well: only today's state counts as the base.
        base, replaced = rewriter.size, self._file
        if replaced >= 0:
            rewriter.add(replaced, self._mark, self.size)
        if held:
            rewriter.put(held)
        self._file, self.size = rewriter.finish()
        self.base = base
        if replaced >= 0:
            os.close(replaced)
        try:
            self._remove_all_but(rewriter.path)
        except OSError as error:  # the next switch tries again; until then the newest file counts
            log.error("old files of the journal are left behind: %s", error)  # noqa: TRY400 - the reason says all

    def _remove_all_but(self, path: Path) -> None:
        _sync_folder(self.folder)
        for old in self.folder.glob("journal-*.log*"):
            if ".damaged-" not in old.name and old != path:
                old.unlink(missing_ok=True)

    def close(self) -> None:
        """Sync, close and release the folder."""
        if self._file >= 0:
            self.sync()
            os.close(self._file)
            self._file = -1
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class Rewriter:
    """Writes a new file a step at a time, so that the broker goes on serving.

    Raises:
        OSError: it cannot be begun; nothing is left behind.
    """

    def __init__(self, path: Path, records: Iterator[bytes]) -> None:
        self.path = path
        self._temporary = path.with_suffix(".log.new")
        self._records = records
        self._file = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            self.size = _write(self._file, _MAGIC)
        except OSError:
            self.abandon()
            raise

    def step(self, count: int) -> bool:
        """Write about ``count`` records more. Return whether all are written."""
        batch: list[bytes] = []
        size = 0
        for record in self._records:
            batch.append(record)
            size += len(record)
            if len(batch) >= count or size >= _CHUNK:
                self.put(b"".join(batch))
                return False
        if batch:
            self.put(b"".join(batch))
        return True

    def add(self, file: int, start: int, end: int) -> None:
        """Copy whole batches from the file that is being replaced."""
        while start < end:
            data = os.pread(file, min(_CHUNK, end - start), start)
            if not data:
                raise OSError(errno.EIO, "the journal is shorter than what was written")
            self.size += _write(self._file, data)
            start += len(data)

    def finish(self) -> tuple[int, int]:
        """Give the file its name. Return its descriptor and size."""
        os.fdatasync(self._file)
        self._temporary.rename(self.path)
        return self._file, self.size

    def abandon(self) -> None:
        """Remove the unfinished file."""
        os.close(self._file)
        self._temporary.unlink(missing_ok=True)

    def put(self, records: bytes) -> None:
        """Write one batch."""
        self.size += _write(self._file, _pack_batch(records))


def _pack_batch(records: bytes) -> bytes:
    length, check = len(records), zlib.crc32(records)
    return _HEADER.pack(length, check, zlib.crc32(b"%d:%d" % (length, check))) + records


def _batch_at(data: bytes, position: int) -> bytes | None:
    """Return the batch at ``position``, or None where a crash cut it off."""
    start = position + _HEADER.size
    if start > len(data):
        return None
    length, check, own = _HEADER.unpack_from(data, position)
    if own != zlib.crc32(b"%d:%d" % (length, check)):
        # Looked at once and only here: at every batch it would make a start quadratic in the file's size.
        if data.count(0, position) == len(data) - position:
            return None
        raise Damaged(f"header at byte {position} does not add up")
    batch = data[start : start + length]
    if len(batch) < length:
        return None
    if zlib.crc32(batch) != check:
        if start + length == len(data):
            return None
        raise Damaged(f"batch at byte {position} does not add up")
    return batch


def _write(file: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        written = os.write(file, view)
        if not written:
            raise OSError(errno.EIO, "nothing was written")
        view = view[written:]
    return len(data)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
