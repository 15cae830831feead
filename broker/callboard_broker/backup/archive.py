"""The zip file of a backup: parts go in with their hash noted, and come out only as the manifest says."""

from __future__ import annotations

import hashlib
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self

from callboard_broker.backup.manifest import MANIFEST, Manifest, Part, parse_manifest
from callboard_broker.errors import BadBackup

__all__ = ["Reader", "Told", "Writer"]

#: Told how many bytes more are done.
Told = Callable[[int], None]

_BLOCK = 1024 * 1024
#: Bytes of the largest manifest: a million artifacts have one of 200 MB.
_MANIFEST_LIMIT = 256 * 1024 * 1024
#: Parts that do not get smaller: pictures and videos.
_STORED = "state/artifacts/"


class Writer:
    """Writes a backup into a file that is open; :meth:`finish` makes it whole."""

    def __init__(self, file: BinaryIO, told: Told) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        self._told = told
        self.parts: list[Part] = []

    def add(self, name: str, source: BinaryIO) -> Part:
        """Add what ``source`` holds until its end.

        Raises:
            OSError: it cannot be read or written.
        """
        found, size = hashlib.sha256(), 0
        with self._zip.open(_info(name), "w", force_zip64=True) as into:
            while block := source.read(_BLOCK):
                found.update(block)
                size += len(block)
                into.write(block)
                self._told(len(block))
        part = Part(name=name, size=size, sha256=found.hexdigest())
        self.parts.append(part)
        return part

    def finish(self, manifest: Manifest) -> None:
        """Add the manifest, and close the archive (not the file)."""
        self._zip.writestr(_info(MANIFEST), manifest.model_dump_json(indent=1) + "\n")
        self._zip.close()


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, time.localtime()[:6])
    info.compress_type = zipfile.ZIP_STORED if name.startswith(_STORED) else zipfile.ZIP_DEFLATED
    info.external_attr = 0o600 << 16
    return info


class Reader:
    """Reads a backup; whatever is not exactly as its manifest says is refused.

    Raises:
        BadBackup: it is no backup, or a damaged one.
        Conflict: a newer Callboard made it.
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with _explained(path):
            self._zip = zipfile.ZipFile(path)
        try:
            self.manifest = self._read_manifest()
            self._check_members()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def extract(self, part: Part, target: Path, told: Told) -> None:
        """Write one part to ``target`` (0600).

        Raises:
            BadBackup: it is not what the manifest says; ``target`` is then to be thrown away.
            OSError: it cannot be written.
        """
        found, left = hashlib.sha256(), part.size
        with _explained(self._path), self._zip.open(part.name) as source, _private(target) as into:
            while block := source.read(min(_BLOCK, left + 1)):
                left -= len(block)
                if left < 0:
                    break
                found.update(block)
                into.write(block)
                told(len(block))
        if left or found.hexdigest() != part.sha256:
            raise BadBackup(f"{part.name} in {self._path} is not what was backed up; use another backup")

    def _read_manifest(self) -> Manifest:
        with _explained(self._path):
            try:
                info = self._zip.getinfo(MANIFEST)
            except KeyError:
                raise BadBackup(
                    f"{self._path} has no {MANIFEST}; it is not a backup, or not a whole one"
                ) from None
            if info.file_size > _MANIFEST_LIMIT:
                raise BadBackup(f"{MANIFEST} in {self._path} is too large to be one; use another backup")
            with self._zip.open(info) as source:
                return parse_manifest(source.read(_MANIFEST_LIMIT))

    def _check_members(self) -> None:
        there = [info.filename for info in self._zip.infolist()]
        told = [part.name for part in self.manifest.parts] + [MANIFEST]
        if sorted(there) != sorted(told):
            odd = sorted(set(there) ^ set(told)) or ["a part twice"]
            raise BadBackup(
                f"{self._path} does not hold what its manifest says: {odd[0][:200]!r}; use another backup"
            )
        for part in self.manifest.parts:
            if self._zip.getinfo(part.name).file_size != part.size:
                raise BadBackup(
                    f"{part.name} in {self._path} has another size than it had; use another backup"
                )


@contextmanager
def _private(target: Path) -> Iterator[BinaryIO]:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with target.open("xb") as into:
        target.chmod(0o600)
        yield into


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BadBackup(f"{path} is not a whole backup ({error}); use another one") from None
