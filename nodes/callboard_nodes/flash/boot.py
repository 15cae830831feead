"""The boot partition as files, wherever it is: within an image or a device, or mounted in a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from callboard_core.errors import BadRequest
from callboard_nodes.flash.fat32 import Fat32

__all__ = ["BootPartition", "FatBoot", "FolderBoot"]


class BootPartition(Protocol):
    """What seeding needs. Paths have slashes; names differ in more than case."""

    def names(self, folder: str = "") -> list[str]:
        """Return the names in a folder; none when there is no such folder."""

    def read(self, path: str) -> bytes:
        """Return a file's content."""

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write or replace files, each of them whole or not at all, and have them on the disk."""

    def remove(self, paths: Sequence[str]) -> None:
        """Remove files."""


class FatBoot:
    """A FAT32 file system that is not mounted."""

    def __init__(self, volume: Fat32) -> None:
        self._volume = volume

    def names(self, folder: str = "") -> list[str]:
        """Return the names in a folder; none when there is no such folder."""
        if folder and not self._volume.exists(folder):
            return []
        return [entry.name for entry in self._volume.entries(folder)]

    def read(self, path: str) -> bytes:
        """Return a file's content."""
        return self._volume.read(path)

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write or replace files."""
        self._volume.write(files)

    def remove(self, paths: Sequence[str]) -> None:
        """Remove files."""
        for path in paths:
            self._volume.remove(path)


class FolderBoot:
    """A folder, where somebody has mounted the boot partition of a card."""

    def __init__(self, folder: Path) -> None:
        """Take a folder.

        Raises:
            BadRequest: it is none.
        """
        if not folder.is_dir():
            raise BadRequest(
                f"{folder} is not a folder; name the one in which the card's boot partition is mounted"
            )
        self._folder = folder

    def names(self, folder: str = "") -> list[str]:
        """Return the names in a folder; none when there is no such folder."""
        here = self._folder / folder
        return [each.name for each in here.iterdir()] if here.is_dir() else []

    def read(self, path: str) -> bytes:
        """Return a file's content."""
        return (self._folder / path).read_bytes()

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write or replace files, by way of another name."""
        for path, data in files.items():
            file = self._folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            new = file.with_name(f"{file.name}.new")
            with new.open("wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            new.replace(file)
        self._sync({(self._folder / path).parent for path in files})

    def remove(self, paths: Sequence[str]) -> None:
        """Remove files."""
        for path in paths:
            (self._folder / path).unlink(missing_ok=True)
        self._sync({(self._folder / path).parent for path in paths})

    def _sync(self, changed: set[Path]) -> None:
        """Have folders on the disk, and those in which new ones among them lie."""
        for folder in sorted(changed | {above for one in changed for above in one.parents}, reverse=True):
            if folder.is_relative_to(self._folder) and folder.is_dir():
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
