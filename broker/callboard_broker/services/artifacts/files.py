"""The folder of artifacts: where each file is, reading it with its hash checked, and putting damaged ones aside."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from callboard_broker.errors import Damaged
from callboard_broker.services.artifacts.upload import BLOCK
from callboard_core.errors import BadRequest

__all__ = ["Files"]

_HASH = re.compile(r"[0-9a-f]{64}")


class Files:
    """``ab/abcdef…`` holds a content, ``parts/`` what is on its way, ``damaged/`` what is not what it was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts, self.aside = folder / "parts", folder / "damaged"

    def make(self) -> None:
        """Make the folders, and remove what nobody can go on with."""
        for folder in (self.parts, self.aside):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for part in self.parts.iterdir():
            if not _HASH.fullmatch(part.name):
                part.unlink()

    def path(self, sha256: str) -> Path:
        """Return where a content is. The only place where a path is made of what somebody sent.

        Raises:
            BadRequest: that is no hash.
        """
        if not _HASH.fullmatch(sha256):
            raise BadRequest(f"{sha256[:80]!r} is no SHA-256: 64 digits of 0-9 and a-f")
        return self.folder / sha256[:2] / sha256

    def part(self, sha256: str) -> Path:
        """Return where a content is while it comes."""
        return self.parts / self.path(sha256).name

    def private(self, name: str) -> Path:
        """Return a part's name that nobody else has."""
        return self.parts / f"{name}.{secrets.token_hex(8)}"

    def prepare(self, sha256: str) -> Path:
        """Return where a content is to be, in a folder that is there."""
        path = self.path(sha256)
        if not path.parent.exists():
            path.parent.mkdir(exist_ok=True, mode=0o700)
            sync(self.folder)
        return path

    def put_aside(self, sha256: str) -> None:
        """Put a damaged file where it does no harm."""
        path = self.path(sha256)
        if path.exists():
            path.replace(self.aside / sha256)

    def all(self) -> Iterator[tuple[str, Path]]:
        """Return every content's hash and file."""
        for folder in self.folder.iterdir():
            if len(folder.name) == 2:  # noqa: PLR2004 - hex digits
                for file in folder.iterdir():
                    if _HASH.fullmatch(file.name):
                        yield file.name, file

    def whole(self, sha256: str) -> Iterator[bytes]:
        """Return a content in blocks; the last one only once the hash of all was found right.

        Raises:
            Damaged: it is not what was stored.
        """
        found = hashlib.sha256()
        held = b""
        for block in self.between(sha256, 0, None):
            found.update(block)
            if held:
                yield held
            held = block
        if found.hexdigest() != sha256:
            raise Damaged(f"artifact {sha256} is damaged: its bytes have changed on the disk; store it again")
        if held:
            yield held

    def between(self, sha256: str, start: int, stop: int | None) -> Iterator[bytes]:
        """Return a part of a content in blocks.

        Raises:
            Damaged: it cannot be read.
        """
        left = -1 if stop is None else stop - start
        try:
            with self.path(sha256).open("rb") as file:
                file.seek(start)
                while left and (block := _read(file, left)):
                    left -= len(block) if left > 0 else 0
                    yield block
        except OSError as error:
            raise Damaged(
                f"artifact {sha256} cannot be read: {error.strerror or error}; store it again"
            ) from error


def sync(folder: Path) -> None:
    """Have the disk remember a file's name."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(file: Any, left: int) -> bytes:
    block: bytes = file.read(BLOCK if left < 0 else min(BLOCK, left))
    return block
