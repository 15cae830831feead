"""Results and logs as people take them away: all files of a job as one zip, an attempt's log as text."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from callboard_broker.services.farm.files import input_of
from callboard_broker.services.farm.model import Job
from callboard_core.farm.logs import of_frame
from callboard_core.farm.messages import Input

__all__ = ["Reader", "log_text", "outcomes", "zip_of"]

#: Zip knows no earlier year.
_EPOCH = (1980, 1, 1, 0, 0, 0)


class Reader(Protocol):
    """Where files are read."""

    def read(self, sha256: str) -> Iterator[bytes]:
        """Return a content in blocks; raises if it is damaged or gone."""


class _Sink:
    """Takes what the archive writes, and hands it on."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []

    def write(self, data: bytes, /) -> int:
        """Take some bytes."""
        self._blocks.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def close(self) -> None:
        """Do nothing: what was written is still to be taken."""

    def take(self) -> bytes:
        """Return what was written since."""
        data = b"".join(self._blocks)
        self._blocks.clear()
        return data


def outcomes(job: Job, rows: Iterable[Any]) -> list[tuple[str, Input]]:
    """Return a job's files with their paths in an archive: a folder a step where there are several."""
    found: list[tuple[str, Input]] = []
    taken: set[str] = set()
    for row in rows:
        step = job.steps[row.step]
        made = input_of(step, row)
        if made is None:
            continue
        path = made.name if len(job.steps) == 1 else f"{step.spec.name}/{made.name}"
        if path in taken:
            path = f"{step.spec.name}/{row.frame}-{made.name.rpartition('/')[2]}"
        taken.add(path)
        found.append((path, made))
    return found


def zip_of(files: Iterable[tuple[str, Input]], store: Reader) -> Iterator[bytes]:
    """Yield a zip of files, piece by piece. Images do not shrink, so nothing is compressed."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for path, made in files:
            if made.artifact is None:
                continue
            info = zipfile.ZipInfo(path, _EPOCH)
            info.external_attr = 0o644 << 16
            with archive.open(info, "w", force_zip64=True) as entry:
                for block in store.read(made.artifact.sha256):
                    entry.write(block)
                    yield sink.take()
            yield sink.take()
    yield sink.take()


def log_text(parts: Iterable[Any], frame: int | None = None) -> Iterator[bytes]:
    """Yield an attempt's log, or what of it concerns a frame."""
    if frame is None:
        for part in parts:
            yield zlib.decompress(part.data)
        return
    for line in of_frame(_lines(parts), frame):
        yield f"{line}\n".encode()


def _lines(parts: Iterable[Any]) -> Iterator[str]:
    for part in parts:
        yield from zlib.decompress(part.data).decode("utf-8", "replace").rstrip("\n").split("\n")
