"""Small images of cards for tests: a partition table, a boot partition with what a Pi's has, and a root partition."""

from __future__ import annotations

import random
import struct
import subprocess
import zipfile
from pathlib import Path

from support import fat

MIB = 2**20
BOOT_AT, BOOT = MIB, 34 * MIB
SIZE = 48 * MIB
TRIXIE = {
    "cmdline.txt": b"console=tty1 root=PARTUUID=1-02 rootwait resize\n",
    "config.txt": b"# comment\n[cm4]\notg_mode=1\n",
    "kernel8.img": b"kernel" * 1000,
    "user-data": b"#cloud-config\n",
    "meta-data": b"instance-id: rpios-image\n",
    "network-config": b"",
}
BOOKWORM = {name: data for name, data in TRIXIE.items() if "data" not in name and name != "network-config"}


def make(path: Path, files: dict[str, bytes] | None = None) -> Path:
    """Make an image; only its first MiB, the boot partition's tables and some of the root partition hold data."""
    with path.open("wb") as handle:
        handle.truncate(SIZE)
        handle.seek(446)
        handle.write(struct.pack("<B3xB3xII", 0, 0x0C, BOOT_AT // 512, BOOT // 512))
        handle.write(
            struct.pack("<B3xB3xII", 0, 0x83, (BOOT_AT + BOOT) // 512, (SIZE - BOOT_AT - BOOT) // 512)
        )
        handle.seek(510)
        handle.write(b"\x55\xaa")
        handle.seek(BOOT_AT + BOOT + MIB)
        handle.write(random.Random(1).randbytes(MIB + 4321))
    fat.format_within(path, BOOT_AT, kib=BOOT // 1024, cluster=1)
    for name, data in (TRIXIE if files is None else files).items():
        fat.put(f"{path}@@{BOOT_AT}", name, data)
    return path


def boot(path: Path | str, name: str) -> bytes:
    """Return a file of the boot partition."""
    return fat.get(f"{path}@@{BOOT_AT}", name)


def names(path: Path | str) -> set[str]:
    """Return all names on the boot partition."""
    return fat.listing(f"{path}@@{BOOT_AT}")


def pack_xz(path: Path) -> Path:
    subprocess.run(["xz", "-0", "--keep", "--force", str(path)], check=True)
    return path.with_name(path.name + ".xz")


def pack_zip(path: Path) -> Path:
    packed = path.with_suffix(".zip")
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("README", "nothing")
        archive.write(path, "folder/card.img")
    return packed
