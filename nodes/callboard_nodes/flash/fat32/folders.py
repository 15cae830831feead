"""Folders on the disk: reading them, and adding, changing and deleting their records without a moment of half a folder."""

from __future__ import annotations

from collections.abc import Iterator

from callboard_core.errors import BadRequest
from callboard_nodes.flash.fat32.disk import Disk
from callboard_nodes.flash.fat32.folder import DELETED, RECORD, Slot, end_of, entries, find_room, make_record
from callboard_nodes.flash.fat32.layout import SECTOR, Layout
from callboard_nodes.flash.fat32.names import encode_long, short_for
from callboard_nodes.flash.fat32.table import Table

__all__ = ["Folders"]

_LARGEST_FOLDER = 65_536 * RECORD
_PER_SECTOR = SECTOR // RECORD


class Folders:
    """The chains of clusters of a file system, and records in those of folders. A folder is named by its first cluster."""

    def __init__(self, disk: Disk, layout: Layout, table: Table) -> None:
        self._disk = disk
        self._layout = layout
        self._table = table

    def read(self, first: int) -> bytes:
        """Return the content of a chain of clusters."""
        size = self._layout.cluster_bytes
        return b"".join(
            self._disk.read(self._layout.cluster_at(begin), count * size)
            for begin, count in _extents(self._table.chain(first))
        )

    def fill(self, clusters: list[int], data: bytes) -> None:
        """Write the content of clusters, and zeros after its end."""
        size, at = self._layout.cluster_bytes, 0
        for begin, count in _extents(iter(clusters)):
            part = data[at : at + count * size]
            self._disk.write(self._layout.cluster_at(begin), part.ljust(count * size, b"\0"))
            at += count * size

    def commit_table(self) -> None:
        """Write the table after what came before, and before what follows."""
        self._disk.barrier()
        self._table.flush()
        self._disk.barrier()

    def make(self, parent: int, name: str, stamp: tuple[int, int]) -> None:
        """Make an empty folder."""
        (cluster,) = self._table.allocate(1)
        # By the specification, the top folder is called 0 here.
        up = 0 if parent == self._layout.root else parent
        dots = [
            make_record(text.ljust(11), folder=True, first=first, size=0, stamp=stamp)
            for text, first in ((b".", cluster), (b"..", up))
        ]
        self.fill([cluster], b"".join(dots))
        self.commit_table()
        self.add(parent, name, first=cluster, size=0, stamp=stamp, folder=True)
        self._disk.barrier()

    def add(
        self, parent: int, name: str, *, first: int, size: int, stamp: tuple[int, int], folder: bool = False
    ) -> None:
        """Add a record to a folder, which grows if need be."""
        data = self.read(parent)
        short = short_for(name, {entry.short for entry in entries(data)})
        record = make_record(short, folder=folder, first=first, size=size, stamp=stamp)
        records = b"".join([*encode_long(name, short), record])
        slot = find_room(data, len(records) // RECORD)
        if slot is None:
            self._grow(parent, data, records)
        else:
            self._insert(parent, data, slot, records)

    def _insert(self, parent: int, data: bytes, slot: Slot, records: bytes) -> None:
        after = slot.at + len(records) // RECORD
        if after > slot.end and data[after * RECORD : after * RECORD + 1] not in {b"", b"\0"}:
            # Nobody looks behind the folder's end; but here it will end now.
            self.write_records(parent, after, b"\0")
            self._disk.barrier()
        if slot.end < slot.at and slot.end // _PER_SECTOR != slot.at // _PER_SECTOR:
            # Invisible, until the records between are no end any more.
            self.write_records(parent, slot.at, records)
            self._disk.barrier()
            self.delete(parent, range(slot.end, slot.at))
            return
        skipped = (bytes([DELETED]) + bytes(RECORD - 1)) * max(slot.at - slot.end, 0)
        self.write_records(parent, slot.at - len(skipped) // RECORD, skipped + records)

    def _grow(self, parent: int, data: bytes, records: bytes) -> None:
        """Append a cluster that begins with the records; nobody sees it before it is linked."""
        if len(data) >= _LARGEST_FOLDER:
            raise BadRequest("a folder of the boot partition is full; remove something from it")
        last = list(self._table.chain(parent))[-1]
        (cluster,) = self._table.allocate(1)
        self.fill([cluster], records)
        self.commit_table()
        self.delete(parent, range(end_of(data), len(data) // RECORD))
        self._table.link(last, cluster)
        self.commit_table()

    def delete(self, folder: int, which: range) -> None:
        """Mark records as deleted, the last sector first: a file's own record before those of its long name."""
        while which:
            begin = max(which[0], which[-1] // _PER_SECTOR * _PER_SECTOR)
            records = bytearray(self.records(folder, begin, which[-1] + 1 - begin))
            records[::RECORD] = bytes([DELETED]) * (len(records) // RECORD)
            self.write_records(folder, begin, bytes(records))
            which = range(which[0], begin)

    def records(self, folder: int, at: int, count: int) -> bytes:
        """Return records that lie in one sector."""
        return self._disk.read(self._place(folder, at), count * RECORD)

    def write_records(self, folder: int, at: int, records: bytes) -> None:
        """Write records that lie in one sector, as that sector."""
        place = self._place(folder, at)
        begin = place - place % SECTOR
        sector = bytearray(self._disk.read(begin, SECTOR))
        sector[place - begin : place - begin + len(records)] = records
        self._disk.write(begin, bytes(sector))

    def _place(self, folder: int, at: int) -> int:
        size = self._layout.cluster_bytes
        index, inside = divmod(at * RECORD, size)
        cluster = next(cluster for number, cluster in enumerate(self._table.chain(folder)) if number == index)
        return self._layout.cluster_at(cluster) + inside


def _extents(clusters: Iterator[int]) -> Iterator[tuple[int, int]]:
    """Return runs of neighbouring clusters as first one and count."""
    begin = count = 0
    for cluster in clusters:
        if count and cluster == begin + count:
            count += 1
            continue
        if count:
            yield begin, count
        begin, count = cluster, 1
    if count:
        yield begin, count
