"""The bytes that a file system lies on: a part of an image file or of a device."""

from __future__ import annotations

import os
from typing import Protocol

from callboard_core.errors import Failed

__all__ = ["Disk", "FileDisk"]


class Disk(Protocol):
    """What the file system needs; offsets and sizes in bytes, from the file system's own start."""

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes."""

    def write(self, offset: int, data: bytes) -> None:
        """Write; a sector of 512 bytes gets there whole or not at all."""

    def barrier(self) -> None:
        """Return when everything written so far would survive a power cut."""


class FileDisk:
    """A part of an open file or device, which starts at an offset."""

    def __init__(self, descriptor: int, start: int = 0, *, durable: bool = True) -> None:
        """Take an open descriptor.

        Args:
            descriptor: open for reading and writing; not closed here.
            start: where the file system begins, in bytes.
            durable: whether barriers reach the disk; not needed for a file that nobody uses before it is complete.
        """
        self._descriptor = descriptor
        self._start = start
        self._durable = durable

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes.

        Raises:
            Failed: the disk ends before.
        """
        data = os.pread(self._descriptor, size, self._start + offset)
        if len(data) != size:
            raise Failed(
                f"the disk ends at byte {self._start + offset + len(data)}, within its file system; it is cut"
            )
        return data

    def write(self, offset: int, data: bytes) -> None:
        """Write all of it."""
        view, at = memoryview(data), self._start + offset
        while view:
            done = os.pwrite(self._descriptor, view, at)
            view, at = view[done:], at + done

    def barrier(self) -> None:
        """Wait for the disk, if that matters."""
        if self._durable:
            os.fdatasync(self._descriptor)
