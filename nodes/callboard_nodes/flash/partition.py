"""The partition table of a card (MBR): where its boot partition lies. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from callboard_core.errors import BadRequest
from callboard_nodes.flash.fat32.layout import SECTOR

__all__ = ["FIRST_BLOCK", "Partition", "boot_partition"]

#: What is held back of a device until everything else is right, in bytes: the partition table, without which nothing boots.
FIRST_BLOCK = 4096

_TABLE_AT, _ENTRY, _ENTRIES = 446, 16, 4
#: Types of FAT32, and of EFI's partition, which is FAT as well.
_FAT = {0x0B, 0x0C, 0xEF}
_GPT = 0xEE


@dataclass(frozen=True)
class Partition:
    """A part of a disk, in bytes."""

    start: int
    size: int


def boot_partition(block: bytes) -> Partition:
    """Return the boot partition: the first one with FAT32.

    Args:
        block: the disk's first sector, or more.

    Raises:
        BadRequest: there is none.
    """
    if len(block) < SECTOR or block[SECTOR - 2 : SECTOR] != b"\x55\xaa":
        raise BadRequest("the image has no partition table; take an image of a whole card (.img)")
    for number in range(_ENTRIES):
        entry = block[_TABLE_AT + number * _ENTRY : _TABLE_AT + (number + 1) * _ENTRY]
        start, sectors = struct.unpack_from("<II", entry, 8)
        if entry[4] == _GPT:
            raise BadRequest("the image has a GPT; images of Raspberry Pi OS have an MBR, take one of those")
        if entry[4] in _FAT and start and sectors:
            return Partition(start * SECTOR, sectors * SECTOR)
    raise BadRequest("the image has no boot partition with FAT32; take an image of Raspberry Pi OS")
