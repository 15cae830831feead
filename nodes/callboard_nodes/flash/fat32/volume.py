"""A FAT32 file system: listing, reading and, in one ordered transaction for many files at once, writing."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from callboard_core.errors import BadRequest, NotFound
from callboard_nodes.flash.fat32.disk import Disk
from callboard_nodes.flash.fat32.folder import RECORD, Entry, entries, moved
from callboard_nodes.flash.fat32.folders import Folders
from callboard_nodes.flash.fat32.layout import DIRTY_AT, SECTOR, Layout
from callboard_nodes.flash.fat32.names import encode_long, same
from callboard_nodes.flash.fat32.table import Table

__all__ = ["Fat32"]

_LARGEST_FILE = 2**32 - 1
#: FSInfo: its two signatures, and where it keeps the free clusters' number and a hint for the next one.
_INFO_SIGNATURES = {0: b"RRaA", 484: b"rrAa"}
_INFO_AT = 488
_UNKNOWN = 0xFFFF_FFFF


@dataclass
class _Change:
    """A file whose data is on the disk, and whose record is not."""

    path: str
    first: int
    size: int
    old: list[int] = field(default_factory=list)


class Fat32:
    """An open file system. It must not be mounted or opened elsewhere meanwhile."""

    def __init__(self, disk: Disk) -> None:
        """Open it.

        Raises:
            BadRequest: there is no FAT32 file system.
            Failed: it is damaged or cut.
        """
        self._disk = disk
        self._layout = Layout.parse(disk.read(0, SECTOR))
        self._table = Table(disk, self._layout)
        self._folders = Folders(disk, self._layout, self._table)
        self._dirty = bool(disk.read(DIRTY_AT, 1)[0] & 1)

    @property
    def free(self) -> int:
        """Bytes for files that are free."""
        return self._table.free * self._layout.cluster_bytes

    def entries(self, path: str = "") -> list[Entry]:
        """Return what is in a folder.

        Raises:
            NotFound: there is no such folder.
        """
        return list(entries(self._folders.read(self._folder(path))))

    def exists(self, path: str) -> bool:
        """Tell whether there is a file or a folder."""
        return self._find(path) is not None

    def read(self, path: str) -> bytes:
        """Return a file's content.

        Raises:
            NotFound: there is no such file.
        """
        found = self._find(path)
        if found is None or found.folder:
            raise NotFound(f"there is no file {path} on the boot partition")
        return self._folders.read(found.first)[: found.size] if found.size else b""

    def mkdir(self, path: str) -> None:
        """Make a folder, and those above it; it may be there."""
        missing = self._missing(path)
        if not missing:
            return
        self._table.check_room(2 * len(missing))
        with self._changing():
            self._make_folders(path)

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write or replace files, and make their folders; each file is the old or the new one at every moment.

        Raises:
            TooLarge: there is no room for all of them beside what they replace; nothing has been written.
            BadRequest: a name is impossible, or a folder has it.
        """
        self._check(files)
        with self._changing():
            for folder in dict.fromkeys(path.rpartition("/")[0] for path in files):
                self._make_folders(folder)
            changes = [self._write_data(path, data) for path, data in files.items()]
            self._folders.commit_table()
            for change in changes:
                self._point(change)
            self._disk.barrier()
            for change in changes:
                self._table.release(change.old)
            self._folders.commit_table()

    def remove(self, path: str) -> None:
        """Remove a file or an empty folder.

        Raises:
            NotFound: there is none.
            BadRequest: the folder is not empty.
        """
        found = self._find(path)
        if found is None:
            raise NotFound(f"there is no {path} on the boot partition")
        if found.folder and self.entries(path):
            raise BadRequest(f"the folder {path} is not empty; remove what is in it first")
        with self._changing():
            self._folders.delete(self._folder(path.rpartition("/")[0]), range(found.begin, found.at + 1))
            self._disk.barrier()
            self._table.release(list(self._table.chain(found.first)) if found.first else [])
            self._folders.commit_table()

    # Looking.

    def _find(self, path: str) -> Entry | None:
        """Return the entry of a path; None when there is none. The top folder has no entry."""
        folder, found = self._layout.root, None
        for part in path.split("/"):
            if not folder:
                return None
            inside = entries(self._folders.read(folder))
            found = next((entry for entry in inside if same(entry.name, part)), None)
            if found is None:
                return None
            folder = found.first if found.folder else 0
        return found

    def _folder(self, path: str) -> int:
        """Return the first cluster of a folder."""
        found = self._find(path) if path else None
        if path and (found is None or not found.folder):
            raise NotFound(f"there is no folder {path} on the boot partition")
        return found.first if found is not None else self._layout.root

    def _missing(self, path: str) -> list[str]:
        """Return the folders of a path that are not there, from the top.

        Raises:
            BadRequest: a file has the name of one.
        """
        parts = path.split("/") if path else []
        missing = []
        for index in range(1, len(parts) + 1):
            part = "/".join(parts[:index])
            found = self._find(part)
            if found is None:
                missing.append(part)
            elif not found.folder:
                raise BadRequest(f"{part} on the boot partition is a file, and should be a folder; remove it")
        return missing

    # Writing.

    def _check(self, files: Mapping[str, bytes]) -> None:
        """Raise what would go wrong, before anything is written."""
        twice = len(files) - len({path.casefold() for path in files})
        if twice:
            raise BadRequest("two files have names that differ in case only; FAT takes them for the same one")
        folders: set[str] = set()
        for path, data in files.items():
            self._check_file(path, len(data))
            folders.update(self._missing(path.rpartition("/")[0]))
        # Every folder may have to grow: by its records, and by one cluster in which they do not fit together.
        size = self._layout.cluster_bytes
        records = sum(_records_of(path) for path in [*files, *folders]) * RECORD
        touched = {path.rpartition("/")[0] for path in [*files, *folders]}
        clusters = sum(-(-len(data) // size) for data in files.values())
        self._table.check_room(clusters + len(folders) + len(touched) + 2 * -(-records // size))

    def _check_file(self, path: str, size: int) -> None:
        found = self._find(path)
        if found is not None and found.folder:
            raise BadRequest(f"{path} on the boot partition is a folder, and should be a file; remove it")
        if size > _LARGEST_FILE:
            raise BadRequest(f"{path} is larger than 4 GiB, and no file of FAT32 is")
        for part in path.split("/"):
            encode_long(part, b"")

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Mark the file system as in use; at the end as it was, unless something went wrong."""
        before, self._dirty = self._dirty, True
        self._mark(dirty=True)
        self._write_info(_UNKNOWN)
        self._disk.barrier()
        yield
        self._write_info(self._table.free)
        self._disk.barrier()
        self._dirty = before
        self._mark(dirty=before)
        self._disk.barrier()

    def _mark(self, *, dirty: bool) -> None:
        boot = bytearray(self._disk.read(0, SECTOR))
        boot[DIRTY_AT] = boot[DIRTY_AT] & ~1 | dirty
        self._disk.write(0, bytes(boot))

    def _write_info(self, free: int) -> None:
        if not self._layout.info_at:
            return
        info = bytearray(self._disk.read(self._layout.info_at * SECTOR, SECTOR))
        if all(info[at : at + 4] == text for at, text in _INFO_SIGNATURES.items()):
            struct.pack_into("<II", info, _INFO_AT, free, min(self._table.next, self._layout.end - 1))
            self._disk.write(self._layout.info_at * SECTOR, bytes(info))

    def _write_data(self, path: str, data: bytes) -> _Change:
        clusters = self._table.allocate(-(-len(data) // self._layout.cluster_bytes))
        self._folders.fill(clusters, data)
        found = self._find(path)
        old = list(self._table.chain(found.first)) if found is not None and found.first else []
        return _Change(path, clusters[0] if clusters else 0, len(data), old)

    def _point(self, change: _Change) -> None:
        """Have the folder name the new content."""
        above, _, name = change.path.rpartition("/")
        folder, stamp = self._folder(above), _stamp()
        found = self._find(change.path)
        if found is None:
            self._folders.add(folder, name, first=change.first, size=change.size, stamp=stamp)
            return
        record = self._folders.records(folder, found.at, 1)
        new = moved(record, first=change.first, size=change.size, stamp=stamp)
        self._folders.write_records(folder, found.at, new)

    def _make_folders(self, path: str) -> None:
        for missing in self._missing(path):
            above, _, name = missing.rpartition("/")
            self._folders.make(self._folder(above), name, _stamp())


def _records_of(path: str) -> int:
    return 2 + len(path.rpartition("/")[2].encode("utf-16-le", "surrogatepass")) // 26


def _stamp() -> tuple[int, int]:
    """Now, as FAT keeps it: local time in steps of two seconds, from 1980 on."""
    now = time.localtime()
    year = min(max(now.tm_year - 1980, 0), 127)
    return year << 9 | now.tm_mon << 5 | now.tm_mday, now.tm_hour << 11 | now.tm_min << 5 | now.tm_sec // 2
