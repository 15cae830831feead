"""The table of clusters (the FAT): which one follows which, and which are free. Kept in memory, written sector by sector."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator

from callboard_core.errors import Failed, TooLarge
from callboard_nodes.flash.fat32.disk import Disk
from callboard_nodes.flash.fat32.layout import FIRST, SECTOR, Layout

__all__ = ["END", "Table"]

#: Marks the last cluster of a chain; what is written, and the least of what others write.
END = 0x0FFF_FFFF
_END_FROM = 0x0FFF_FFF8
#: The upper four bits are not ours.
_BITS = 0x0FFF_FFFF
_PER_SECTOR = SECTOR // 4


class Table:
    """All entries of the first table; changes stay in memory until :meth:`flush`."""

    def __init__(self, disk: Disk, layout: Layout) -> None:
        self._disk = disk
        self._layout = layout
        self._entries = array("I", disk.read(layout.table_at * SECTOR, layout.table_sectors * SECTOR))
        if sys.byteorder == "big":
            self._entries.byteswap()
        self._changed: set[int] = set()
        self._next = FIRST
        self.free = sum(1 for entry in self._entries[FIRST : layout.end] if not entry & _BITS)

    def __getitem__(self, cluster: int) -> int:
        return self._entries[cluster] & _BITS

    @property
    def next(self) -> int:
        """Where the search for a free cluster goes on."""
        return self._next

    def chain(self, first: int) -> Iterator[int]:
        """Return the clusters of a chain, in order.

        Raises:
            Failed: the chain is damaged.
        """
        seen = 0
        cluster = first
        while cluster < _END_FROM:
            if not FIRST <= cluster < self._layout.end or seen > self._layout.clusters:
                raise Failed(
                    "the file system is damaged (a chain of clusters leads astray); run fsck.vfat on it"
                )
            yield cluster
            seen += 1
            cluster = self[cluster]

    def check_room(self, count: int) -> None:
        """Check that so many clusters are free.

        Raises:
            TooLarge: there are too few.
        """
        if count > self.free:
            needed, free = (number * self._layout.cluster_bytes // 1024 for number in (count, self.free))
            raise TooLarge(
                f"the boot partition is full: {needed} KiB are needed and {free} KiB are free; remove something from it"
            )

    def allocate(self, count: int) -> list[int]:
        """Chain free clusters and return them.

        Raises:
            TooLarge: there are too few.
        """
        self.check_room(count)
        taken: list[int] = []
        for cluster in self._search():
            if len(taken) == count:
                break
            taken.append(cluster)
        for cluster, following in zip(taken, [*taken[1:], END], strict=False):
            self._set(cluster, following)
        self.free -= count
        self._next = taken[-1] + 1 if taken else self._next
        return taken

    def _search(self) -> Iterator[int]:
        end, entries = self._layout.end, self._entries
        begin = self._next if self._next < end else FIRST
        for span in (range(begin, end), range(FIRST, begin)):
            yield from (cluster for cluster in span if not entries[cluster] & _BITS)

    def link(self, last: int, following: int) -> None:
        """Append a chain to the last cluster of another."""
        self._set(last, following)

    def release(self, clusters: Iterable[int]) -> None:
        """Free clusters."""
        for cluster in clusters:
            self._set(cluster, 0)
            self.free += 1

    def _set(self, cluster: int, value: int) -> None:
        self._entries[cluster] = (self._entries[cluster] & ~_BITS & 0xFFFF_FFFF) | value
        self._changed.add(cluster // _PER_SECTOR)

    def flush(self) -> None:
        """Write what has changed; the first copy, which counts, before the others."""
        for copy in range(self._layout.tables):
            begin = self._layout.table_at + copy * self._layout.table_sectors
            for first, last in _runs(sorted(self._changed)):
                self._disk.write((begin + first) * SECTOR, self._bytes(first, last))
        self._changed.clear()

    def _bytes(self, first: int, last: int) -> bytes:
        part = self._entries[first * _PER_SECTOR : (last + 1) * _PER_SECTOR]
        if sys.byteorder == "big":
            part.byteswap()
        return part.tobytes()


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Return runs of consecutive numbers as their first and last."""
    begin = 0
    for index in range(1, len(numbers) + 1):
        if index == len(numbers) or numbers[index] != numbers[index - 1] + 1:
            yield numbers[begin], numbers[index - 1]
            begin = index
