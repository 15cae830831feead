"""Folders: records of 32 bytes in a chain of clusters. Every change that counts is one write of one sector."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from callboard_nodes.flash.fat32.layout import SECTOR
from callboard_nodes.flash.fat32.names import checksum, decode_short, long_part

__all__ = ["DELETED", "RECORD", "Entry", "Slot", "end_of", "entries", "find_room", "make_record", "moved"]

RECORD = 32
DELETED = 0xE5
_FOLDER, _LABEL, _LONG, _ARCHIVE = 0x10, 0x08, 0x0F, 0x20
_LAST_LONG = 0x40
_PER_SECTOR = SECTOR // RECORD
#: Attributes, case, tenths, created time and date, accessed date, cluster high, time, date, cluster low, size.
_FIELDS = struct.Struct("<BBBHHHHHHHI")


@dataclass(frozen=True)
class Entry:
    """A file or a folder in its folder.

    Attributes:
        name: as people see it.
        folder: whether it is one.
        size: bytes; 0 for a folder.
        first: its first cluster; 0 when it is empty.
        short: the 11 bytes of its short name.
        at: index of its record in the folder.
        begin: index of the first record of its long name, or the same.
    """

    name: str
    folder: bool
    size: int
    first: int = field(repr=False)
    short: bytes = field(repr=False)
    at: int = field(repr=False)
    begin: int = field(repr=False)


@dataclass(frozen=True)
class Slot:
    """Where new records go.

    Attributes:
        at: index of the first one; all lie in one sector.
        end: index of the record that ends the folder now; those from there to ``at`` must be marked as deleted.
    """

    at: int
    end: int


def entries(data: bytes) -> Iterator[Entry]:
    """Return what is in a folder, but for the volume's label and the folder's own dots."""
    long: list[bytes] = []
    for at in range(len(data) // RECORD):
        record = data[at * RECORD : (at + 1) * RECORD]
        if record[0] == 0:
            return
        if record[0] == DELETED:
            long = []
        elif record[11] & 0x3F == _LONG:
            long = [record] if record[0] & _LAST_LONG else [*long, record]
        else:
            if not record[11] & _LABEL and record[0] != ord("."):
                yield _entry(record, long, at)
            long = []


def _entry(record: bytes, long: list[bytes], at: int) -> Entry:
    fields = _FIELDS.unpack_from(record, 11)
    name = _long_name(long, record[:11])
    return Entry(
        name=name or decode_short(record),
        folder=bool(record[11] & _FOLDER),
        size=fields[10],
        first=(fields[6] << 16 | fields[9]) & 0x0FFF_FFFF,
        short=record[:11],
        at=at,
        begin=at - len(long) if name else at,
    )


def _long_name(long: list[bytes], short: bytes) -> str:
    """The name in the records before a short one; empty when they are not its own."""
    numbers = [record[0] & ~_LAST_LONG for record in long]
    if numbers != list(range(len(long), 0, -1)) or any(record[13] != checksum(short) for record in long):
        return ""
    units = b"".join(map(long_part, reversed(long)))
    return units.decode("utf-16-le", "surrogatepass").partition("\0")[0]


def find_room(data: bytes, count: int) -> Slot | None:
    """Return the first place for ``count`` records within one sector; None when the folder must grow."""
    end = end_of(data)
    for sector in range(len(data) // SECTOR):
        run = 0
        for at in range(sector * _PER_SECTOR, (sector + 1) * _PER_SECTOR):
            run = run + 1 if at >= end or data[at * RECORD] == DELETED else 0
            if run == count:
                return Slot(at - count + 1, end)
    return None


def end_of(data: bytes) -> int:
    """Return the index of the record that ends a folder."""
    count = len(data) // RECORD
    return next((at for at in range(count) if data[at * RECORD] == 0), count)


def make_record(short: bytes, *, folder: bool, first: int, size: int, stamp: tuple[int, int]) -> bytes:
    """Return the record of a file or folder.

    Args:
        short: its short name, 11 bytes.
        folder: whether it is one.
        first: its first cluster.
        size: bytes; 0 for a folder.
        stamp: date and time as FAT keeps them.
    """
    date, time = stamp
    attributes = _FOLDER if folder else _ARCHIVE
    low, high = first & 0xFFFF, first >> 16
    return short + _FIELDS.pack(attributes, 0, 0, time, date, date, high, time, date, low, size)


def moved(record: bytes, *, first: int, size: int, stamp: tuple[int, int]) -> bytes:
    """Return a file's record with other content; name, attributes and creation stay."""
    attributes, case, tenths, made_time, made_date, _, _, _, _, _, _ = _FIELDS.unpack_from(record, 11)
    date, time = stamp
    fields = (attributes | _ARCHIVE, case, tenths, made_time, made_date, date)
    return record[:11] + _FIELDS.pack(*fields, first >> 16, time, date, first & 0xFFFF, size)
