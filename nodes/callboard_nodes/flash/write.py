"""Writing an image's stream into a file or onto a device, and reading it back. Zeros stay holes where a file allows."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from callboard_core.errors import Failed
from callboard_nodes.flash.partition import FIRST_BLOCK
from callboard_nodes.flash.source import Readable

__all__ = ["Written", "copy_stream", "replaced", "verify"]

#: Bytes that are read and written together, and the least that becomes a hole.
_CHUNK, _HOLE = 1 << 22, 1 << 16
_ZEROS = bytes(_HOLE)

Progress = Callable[[int], None]


@dataclass
class Written:
    """What has been written: its size, where there is data, and the SHA-256 of all of it.

    Attributes:
        size: bytes of the image, with its holes.
        first: its first block, which a device does not have yet.
        extents: where data lies, as offset and length; elsewhere there are holes.
    """

    size: int = 0
    first: bytes = b""
    extents: list[tuple[int, int]] = field(default_factory=list)
    digest: hashlib._Hash = field(default_factory=hashlib.sha256, repr=False)

    def note(self, offset: int, data: memoryview) -> None:
        """Take in data."""
        self.digest.update(data)
        if self.extents and sum(self.extents[-1]) == offset:
            begin, length = self.extents.pop()
            self.extents.append((begin, length + len(data)))
        else:
            self.extents.append((offset, len(data)))


def copy_stream(
    stream: Readable, descriptor: int, *, device: bool = False, progress: Progress = lambda _done: None
) -> Written:
    """Write a stream to an open file or device.

    Args:
        stream: the image.
        descriptor: where to, from its start; a file must be empty.
        device: write zeros as well, as something else may be there, and hold the first block back.
        progress: told the number of bytes so far.

    Raises:
        OSError: the disk is full, or refuses.
    """
    written, buffer = Written(), bytearray(_CHUNK)
    view = memoryview(buffer)
    while count := _fill(stream, view):
        runs = [(0, count)] if device else _data_runs(buffer, count)
        if not written.first:
            written.first = bytes(view[: min(FIRST_BLOCK, count)])
            # All but the first block, which is as good as a hole for now.
            runs = [(max(begin, FIRST_BLOCK), end) for begin, end in runs] if device else runs
        for begin, end in runs:
            _write(descriptor, view[begin:end], written.size + begin)
            written.note(written.size + begin, view[begin:end])
        written.size += count
        progress(written.size)
    if not device:
        os.ftruncate(descriptor, written.size)
    return written


def _fill(stream: Readable, view: memoryview) -> int:
    """Fill the buffer as far as the stream goes."""
    count = 0
    while count < len(view) and (more := stream.readinto(view[count:])):
        count += more
    return count


def _data_runs(buffer: bytearray, count: int) -> Iterator[tuple[int, int]]:
    """Return the parts of a buffer between holes."""
    begin = None
    for at in range(0, count, _HOLE):
        # Compares where the bytes are, without a copy.
        empty = at + _HOLE <= count and buffer.startswith(_ZEROS, at)
        if empty and begin is not None:
            yield begin, at
            begin = None
        elif not empty and begin is None:
            begin = at
    if begin is not None:
        yield begin, count


def _write(descriptor: int, data: memoryview, at: int) -> None:
    while data:
        done = os.pwrite(descriptor, data, at)
        data, at = data[done:], at + done


def verify(
    path: Path, written: Written, *, device: bool = False, progress: Progress = lambda _done: None
) -> None:
    """Read back what has been written.

    Args:
        path: the file or device.
        written: what should be there.
        device: read from the medium itself, not from memory.
        progress: told the number of bytes so far.

    Raises:
        Failed: something else is there.
    """
    digest, done = hashlib.sha256(), 0
    with _reading(path, direct=device) as descriptor, mmap.mmap(-1, _CHUNK) as buffer:
        for begin, length in written.extents:
            for at in range(begin, begin + length, _CHUNK):
                size = min(_CHUNK, begin + length - at)
                digest.update(_read(descriptor, buffer, at, size))
                done += size
                progress(done)
    if digest.digest() != written.digest.digest():
        what = "the card is bad, take another one" if device else "the disk is bad"
        raise Failed(f"{path} does not read back what was written to it; {what}")


@contextlib.contextmanager
def _reading(path: Path, *, direct: bool) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if direct:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            with contextlib.suppress(OSError):  # not every file system can
                direct_one = os.open(path, os.O_RDONLY | os.O_DIRECT)
                os.close(descriptor)
                descriptor = direct_one
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int, buffer: mmap.mmap, at: int, size: int) -> bytes:
    """Read through a buffer that lies at a page, as direct reading wants."""
    count = os.preadv(descriptor, [buffer], at)
    return buffer[: min(count, size)]


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[int]:
    """Open a new file that takes its name only when it is complete; after an error, nothing of it is left."""
    part = path.with_name(f".{path.name}.part")
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        yield descriptor
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
