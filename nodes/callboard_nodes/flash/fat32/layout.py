"""Where the parts of a FAT32 file system lie, as its boot sector says. Pure.

Field names and offsets are those of Microsoft's *FAT32 File System Specification* (1.03).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from callboard_core.errors import BadRequest

__all__ = ["DIRTY_AT", "FIRST", "SECTOR", "Layout"]

#: Bytes of a sector, the only size that cards and images have.
SECTOR = 512
#: Number of the first cluster.
FIRST = 2
#: Where Linux and fsck.vfat keep the mark that a file system is in use: bit 0 of this byte of the boot sector.
DIRTY_AT = 0x41

_FIELDS = struct.Struct("<HBHBHHBHHHIIIHHIHH")
_FIELDS_AT = 11
_SIGNATURE_AT = 510
#: Largest number of clusters; 28 bits less the reserved ones.
_MOST_CLUSTERS = 0x0FFF_FFF5


@dataclass(frozen=True)
class Layout:
    """Sizes and places; sectors count from the boot sector, clusters from 2.

    Attributes:
        cluster_sectors: sectors of a cluster.
        table_at: first sector of the first table.
        table_sectors: sectors of one table.
        tables: how many copies of it there are.
        data_at: first sector of cluster 2.
        clusters: how many clusters there are; the last one has the number ``clusters + 1``.
        root: first cluster of the top folder.
        info_at: sector of the FSInfo structure; 0 for none.
    """

    cluster_sectors: int
    table_at: int
    table_sectors: int
    tables: int
    data_at: int
    clusters: int
    root: int
    info_at: int

    @property
    def cluster_bytes(self) -> int:
        """Bytes of a cluster."""
        return self.cluster_sectors * SECTOR

    @property
    def end(self) -> int:
        """The number after the last cluster's."""
        return self.clusters + FIRST

    def cluster_at(self, cluster: int) -> int:
        """Return where a cluster begins, in bytes."""
        return (self.data_at + (cluster - FIRST) * self.cluster_sectors) * SECTOR

    @classmethod
    def parse(cls, boot: bytes) -> Layout:
        """Read a boot sector.

        Raises:
            BadRequest: it is none of FAT32; the message says what is wrong.
        """
        if len(boot) < SECTOR or boot[_SIGNATURE_AT : _SIGNATURE_AT + 2] != b"\x55\xaa":
            raise BadRequest("there is no FAT file system: the boot sector's signature is missing")
        fields = _FIELDS.unpack_from(boot, _FIELDS_AT)
        sector, per_cluster, reserved, tables, _, small, _, table16, _, _, _, large, table32 = fields[:13]
        flags, version, root, info = fields[13:17]
        if table16 or not table32:
            raise BadRequest(
                "the file system is FAT12 or FAT16, and a boot partition has FAT32; take another image"
            )
        if sector != SECTOR or per_cluster not in {1, 2, 4, 8, 16, 32, 64, 128} or version:
            raise BadRequest(
                f"FAT32 with sectors of {sector} bytes and clusters of {per_cluster} is not supported"
            )
        if flags & 0x80:
            raise BadRequest("the file system does not keep its tables alike; format it anew")
        data_at = reserved + tables * table32
        found = cls(
            cluster_sectors=per_cluster,
            table_at=reserved,
            table_sectors=table32,
            tables=tables,
            data_at=data_at,
            clusters=((small or large) - data_at) // per_cluster,
            root=root,
            info_at=info if 0 < info < reserved else 0,
        )
        found._check()
        return found

    def _check(self) -> None:
        room = self.table_sectors * SECTOR // 4 - FIRST
        if not (
            self.tables and 0 < self.clusters <= min(room, _MOST_CLUSTERS) and FIRST <= self.root < self.end
        ):
            raise BadRequest("the boot sector of the FAT32 file system contradicts itself; it is damaged")
