"""The store of artifacts: a folder of files named by their SHA-256, what may be in it, and what has to go."""

from __future__ import annotations

import errno
import io
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from callboard_broker.errors import Damaged, NoRoom, StoreUnavailable
from callboard_broker.services import disk
from callboard_broker.services.artifacts.files import Files, sync
from callboard_broker.services.artifacts.index import Index, Record
from callboard_broker.services.artifacts.intake import Intake
from callboard_broker.services.artifacts.upload import BLOCK, Upload
from callboard_core.calls.artifacts import BYTES, ArtifactRef
from callboard_core.errors import BadRequest, CallboardError, Conflict, NotFound, TooLarge
from callboard_core.settings import Artifacts as Settings

__all__ = ["Artifacts", "Limits"]

_log = logging.getLogger(__name__)

_TYPE = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}( ?; ?[\w-]+=[\w.-]+)*", re.ASCII)
_DAY = 86_400.0
_MIB = 1024 * 1024
#: Seconds that what was just used stays, whatever the room: its user may still be about to fetch it, or to pin it.
_GRACE = 600.0
#: Seconds between two notes that one artifact is used, between two rounds of tidying, and that parts are kept.
_TOUCH_EVERY = 60.0
_TIDY_EVERY = 60.0
_PART_KEPT = _DAY
#: Artifacts removed at a time.
_STEP = 1000
#: Threads that wait for the disk.
_THREADS = 4
_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be kept: bytes of one artifact and of all, seconds unused, and bytes of disk that stay free."""

    largest: int = 1024 * _MIB
    total: int = 20_480 * _MIB
    seconds: float = 30 * _DAY
    min_free: int = 1024 * _MIB

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Read the settings."""
        return cls(
            settings.limit_mb * _MIB,
            settings.keep_mb * _MIB,
            settings.keep_days * _DAY,
            int(settings.min_free_mb * _MIB),
        )


class Artifacts:
    """Keeps content by its SHA-256. Safe from any thread; everything may wait for the disk.

    It is an :class:`~callboard_core.calls.artifacts.ArtifactStore` for the board's own process.

    Args:
        folder: where; made if it is missing.
        limits: what may be kept.
        clock: Unix seconds.

    Attributes:
        threads: for those who must not wait themselves.
        damaged: how many artifacts were found damaged since the start.
    """

    def __init__(
        self, folder: Path, limits: Limits | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.limits = limits or Limits()
        self.threads = ThreadPoolExecutor(_THREADS, "artifacts")
        self.damaged = 0
        self._folder, self._clock = folder, clock
        self._lock = threading.Lock()
        self._files = Files(folder)
        self._intake = Intake(
            self._files,
            self._lock,
            largest=self.limits.largest,
            check_room=self._check_room,
            keep=self._keep,
        )
        self._tidied = 0.0
        self._touched: dict[str, float] = {}
        self._index: Index | None = None

    def load(self) -> Self:
        """Open the store, and compare what is noted with what is there.

        Raises:
            StoreUnavailable: the folder cannot be used.
        """
        try:
            self._files.make()
            self._index = Index(self._folder / "index.db")
            self._reconcile()
        except OSError as error:
            raise StoreUnavailable(
                f"cannot use {self._folder}: {error.strerror or error}; make room, or give yourself the folder"
            ) from error
        return self

    def close(self) -> None:
        """Cut what is on its way, and close."""
        self._intake.close()
        self.threads.shutdown(wait=True, cancel_futures=True)
        if self._index is not None:
            self._index.close()

    # -- looking ---------------------------------------------------------------------------------------------

    def has(self, sha256: str) -> bool:
        """Tell whether a content is here, all of it."""
        return self.find(sha256) is not None

    def find(self, sha256: str) -> Record | None:
        """Return what is known of an artifact; None if it is not here.

        Raises:
            BadRequest: that is no SHA-256 in lower-case hex.
        """
        path = self._files.path(sha256)
        with self._lock:
            record = self._known.find(sha256)
            if record is None:
                return None
            with suppress(OSError):
                if path.stat().st_size == record.size:
                    return record
        self._set_aside(record, Damaged(f"artifact {sha256} is not on the disk as it was stored"))
        return None

    def record(self, sha256: str) -> Record:
        """Return what is known of an artifact, which counts as a use of it.

        Raises:
            NotFound: it is not here.
        """
        record = self.find(sha256)
        if record is None:
            raise NotFound(f"there is no artifact {sha256} (any more)")
        self._touch(record)
        return record

    def ref(self, sha256: str) -> ArtifactRef:
        """Return how messages refer to an artifact.

        Raises:
            NotFound: it is not here.
        """
        return _refer(self.record(sha256))

    def path(self, sha256: str) -> Path:
        """Return the file of an artifact, to be read only. Whoever reads it by itself does not notice damage.

        Raises:
            NotFound: it is not here.
        """
        return self._files.path(self.record(sha256).sha256)

    def open(self, sha256: str) -> BinaryIO:
        """Open the file of an artifact; as :meth:`path`."""
        return self.path(sha256).open("rb")

    def read(self, sha256: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Return the content in blocks.

        The hash of a whole content is checked before its last block is handed out.

        Raises:
            NotFound: it is not here.
            Damaged: it is not what was stored; it has been set aside.
        """
        record = self.record(sha256)
        if start or (stop is not None and stop < record.size):
            stop = record.size if stop is None else min(stop, record.size)
            return self._watched(record, self._files.between(sha256, start, stop))
        return self._watched(record, self._files.whole(sha256))

    def get(self, ref: ArtifactRef) -> bytes:
        """Return a content.

        Raises:
            NotFound: it is not here, or damaged.
        """
        return b"".join(self.read(ref.sha256))

    def listing(self, after: str = "", limit: int = 1000) -> list[tuple[Record, list[str]]]:
        """Return artifacts in the order of their hashes, from behind ``after`` on, and who needs each."""
        return [(record, self._known.owners(record.sha256)) for record in self._known.after(after, limit)]

    def owners(self, sha256: str) -> list[str]:
        """Return who needs an artifact."""
        return self._known.owners(sha256)

    def total(self) -> tuple[int, int]:
        """Return how many artifacts there are, and their bytes."""
        return self._known.total()

    def verify(self, sha256: str | None = None) -> list[str]:
        """Read one artifact or all, and return which are damaged; those are set aside."""
        wanted = self._known.names() if sha256 is None else {sha256}
        return sorted(name for name in wanted if not self._is_sound(name))

    # -- storing ---------------------------------------------------------------------------------------------

    def put(
        self,
        data: bytes | BinaryIO,
        *,
        type: str = BYTES,  # noqa: A002 - the field's name
    ) -> ArtifactRef:
        """Store a content.

        Raises:
            TooLarge: it is over the limit.
            NoRoom: there is no room for it.
        """
        content_type = check_type(type)
        stream = io.BytesIO(data) if isinstance(data, bytes) else data
        length = len(data) if isinstance(data, bytes) else None
        self.check(length or 0)
        upload = self._intake.make(self._files.private("new"), None, 0, length, content_type)
        try:
            while block := stream.read(BLOCK):
                upload.write(block)
            return upload.finish()
        except OSError as error:
            raise self.explain(error) from error
        finally:
            upload.cut(discard=True)

    def begin(
        self,
        sha256: str,
        *,
        offset: int = 0,
        length: int | None = None,
        type: str = BYTES,  # noqa: A002 - the field's name
    ) -> Upload:
        """Begin to take in a content, or go on where an earlier upload of it was cut.

        Two who send the same content do not disturb each other; only a stalled upload is taken over.

        Raises:
            BadRequest: the hash or type is none.
            TooLarge: it is over the limit.
            NoRoom: there is no room for it.
            WrongOffset: this is not where the earlier one ended.
            Overloaded: too many uploads are on their way.
        """
        self._files.path(sha256)
        content_type = check_type(type)
        self.check(length or offset, offset)
        try:
            return self._intake.begin(sha256, offset, length, content_type)
        except OSError as error:
            raise self.explain(error) from error

    def offset(self, sha256: str) -> int:
        """Return from which byte on an upload goes on."""
        self._files.path(sha256)
        return self._intake.offset(sha256)

    def check(self, size: int, there: int = 0) -> None:
        """Check that a content of so many bytes would be taken, of which some are there already.

        Raises:
            TooLarge: it is over the limit.
            NoRoom: there is no room for it.
        """
        if size > self.limits.largest:
            raise TooLarge(
                f"{size} bytes are over the limit of {self.limits.largest} for an artifact (artifacts.limit_mb)"
            )
        self._check_room(size - there)

    def explain(self, error: OSError) -> CallboardError:
        """Return what to tell of an error of the disk."""
        if error.errno in _FULL:
            return NoRoom(f"the disk of {self._folder} is full; make room")
        return StoreUnavailable(f"{self._folder}: {error.strerror or error}")

    # -- keeping and removing --------------------------------------------------------------------------------

    def pin(self, owner: str, sha256s: Iterable[str]) -> None:
        """Keep artifacts for as long as their owner needs them, also such as have yet to come."""
        names = list(sha256s)
        for name in names:
            self._files.path(name)
        self._known.pin(owner, names)

    def unpin(self, owner: str) -> None:
        """Forget everything an owner needed."""
        self._known.unpin(owner)

    def remove(self, sha256: str, *, force: bool = False) -> None:
        """Remove an artifact.

        Raises:
            NotFound: it is not here.
            Conflict: somebody needs it, and it is not forced.
        """
        if self.find(sha256) is None:
            raise NotFound(f"there is no artifact {sha256} (any more)")
        owners = self._known.owners(sha256)
        if owners and not force:
            raise Conflict(f"artifact {sha256} is needed by {', '.join(owners[:5])}; remove that first")
        self._drop(sha256)

    def tidy(self) -> int:
        """Remove what has not been used for long, or has no room; return how many. Does nothing most of the time."""
        now = self._clock()
        if now - self._tidied < _TIDY_EVERY:
            return 0
        self._tidied = now
        self._touched = {name: t for name, t in self._touched.items() if now - t < _TOUCH_EVERY}
        self._tidy_files(now, _PART_KEPT)
        removed = 0
        while old := self._known.unused(now - max(self.limits.seconds, _GRACE), _STEP):
            for record in old:
                self._drop(record.sha256)
            removed += len(old)
        return removed + self._evict(0)

    # -- inside ----------------------------------------------------------------------------------------------

    @property
    def _known(self) -> Index:
        assert self._index is not None, "load() comes first"  # noqa: S101 - a mistake of ours
        return self._index

    def _keep(self, upload: Upload, sha256: str, content_type: str) -> ArtifactRef:
        now = self._clock()
        self._evict(upload.size)
        path = self._files.prepare(sha256)
        with self._lock:
            upload.part.replace(path)
            record = self._known.add(Record(sha256, upload.size, content_type, now, now))
        self._intake.forget(sha256, upload)
        sync(path.parent)
        return _refer(record)

    def _watched(self, record: Record, blocks: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from blocks
        except Damaged as error:
            self._set_aside(record, error)
            raise

    def _is_sound(self, sha256: str) -> bool:
        record = self.find(sha256)
        if record is None:
            return False
        try:
            for _ in self._watched(record, self._files.whole(sha256)):
                pass
        except Damaged:
            return False
        return True

    def _set_aside(self, record: Record, error: Damaged) -> None:
        with self._lock:
            self._files.put_aside(record.sha256)
            self._known.remove(record.sha256)
            self.damaged += 1
        _log.error("%s (%d bytes, %s); it was set aside", error.message, record.size, record.type)

    def _touch(self, record: Record) -> None:
        now = self._clock()
        if now - max(record.used, self._touched.get(record.sha256, 0.0)) >= _TOUCH_EVERY:
            self._touched[record.sha256] = now
            self._known.touch(record.sha256, now)

    def _check_room(self, size: int) -> None:
        least = disk.minimum(self._files.parts, self.limits.min_free) + size
        if disk.room(self._files.parts) < least:
            self._tidy_files(self._clock(), _GRACE)
        if disk.room(self._files.parts) < least:
            raise NoRoom(f"the disk of {self._folder} is full; make room (artifacts.min_free_mb)")
        if size:
            self._evict(size)

    def _evict(self, size: int) -> int:
        """Make room among the artifacts for one of so many bytes; return how many had to go.

        Raises:
            NoRoom: what is left is needed.
        """
        excess = self.total()[1] + size - self.limits.total
        removed = 0
        while excess > 0:
            unused = self._known.unused(self._clock() - _GRACE, _STEP)
            if not unused and size:
                raise NoRoom(
                    f"artifacts may take {self.limits.total // _MIB} MiB, and all that are here are in use; "
                    "raise artifacts.keep_mb, or remove what needs them"
                )
            if not unused:
                return removed
            for record in unused:
                if excess > 0:
                    self._drop(record.sha256)
                    excess -= record.size
                    removed += 1
        return removed

    def _drop(self, sha256: str) -> None:
        with self._lock:
            self._known.remove(sha256)
            self._files.path(sha256).unlink(missing_ok=True)

    def _tidy_files(self, now: float, kept: float) -> None:
        """Remove parts that nobody has continued, and damaged files, for so many seconds."""
        for folder in (self._files.parts, self._files.aside):
            for file in folder.iterdir():
                with self._lock, suppress(FileNotFoundError):
                    if not self._intake.holds(file) and now - file.stat().st_mtime > kept:
                        file.unlink()

    def _reconcile(self) -> None:
        """A crash may have left a file that is not noted, or a note without a file."""
        known, there = self._known.names(), dict(self._files.all())
        for name in known - there.keys():
            self._known.remove(name)
        for name in there.keys() - known:
            stat = there[name].stat()
            self._known.add(Record(name, stat.st_size, BYTES, stat.st_mtime, stat.st_mtime))


def check_type(value: str) -> str:
    """Return a content type if it is one.

    Raises:
        BadRequest: it is none.
    """
    if not _TYPE.fullmatch(value):
        raise BadRequest(f"{value[:80]!r} is no content type, such as image/png")
    return value


def _refer(record: Record) -> ArtifactRef:
    url = f"/api/v1/artifacts/{record.sha256}"
    return ArtifactRef(sha256=record.sha256, size=record.size, type=record.type, url=url)
