"""FAT32 images for tests: made by mkfs.vfat, looked at by mtools and fsck.vfat, and a disk whose power can be cut."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SECTOR = 512
needs_fat = pytest.mark.skipif(
    not all(map(shutil.which, ("mkfs.vfat", "fsck.vfat", "mcopy"))),
    reason="dosfstools or mtools is not installed",
)
#: What a power cut may leave: clusters that belong to nobody, tables that differ, and the mark.
HARMLESS = re.compile(
    r"""fsck\.fat|Dirty\ bit|\s*Automatically\ removing\ dirty\ bit|FATs\ differ|\s*Using\ first\ FAT
    |\s*.*[Ff]ree\ cluster\ summary|Reclaimed\ \d+\ unused\ cluster|.*:\ \d+\ files,
    |Leaving\ filesystem\ unchanged|\*\*\*\ Filesystem\ was\ changed|Filesystem\ changes\ were|Writing\ changes
    |There\ are\ differences\ between\ boot|This\ is\ mostly\ harmless|\s+65:0[01]/0[01]$|\s+Not\ automatically\ fixing
    |The\ original\ changes|\s*$|.*not\ changed""",
    re.VERBOSE,
)


def make(path: Path, *, kib: int = 34_000, cluster: int = 1, options: Iterable[str] = ()) -> Path:
    """Make a file system; the default is the smallest there is."""
    command = ["mkfs.vfat", "-F", "32", "-s", str(cluster), "-n", "bootfs", "-i", "12345678", *options, "-C"]
    subprocess.run([*command, str(path), str(kib)], check=True, capture_output=True)
    return path


def format_within(path: Path, offset: int, *, kib: int, cluster: int = 8) -> None:
    """Make a file system in an image, at an offset in bytes."""
    command = ["mkfs.vfat", "-F", "32", "-s", str(cluster), "-n", "bootfs", "--offset", str(offset // SECTOR)]
    subprocess.run([*command, str(path), str(kib)], check=True, capture_output=True)


def copy(path: Path, to: Path) -> Path:
    subprocess.run(["cp", "--sparse=always", str(path), str(to)], check=True)
    return to


def check(path: Path, *options: str) -> tuple[int, str]:
    """Run fsck.vfat, by default without changing anything."""
    done = subprocess.run(
        ["fsck.vfat", *(options or ("-n",)), str(path)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def assert_clean(path: Path) -> None:
    code, said = check(path)
    assert code == 0, said


def mtools(path: Path, program: str, *arguments: str, data: bytes | None = None) -> bytes:
    done = subprocess.run(
        [program, "-i", str(path), *arguments],
        input=data,
        capture_output=True,
        check=False,
        env={
            **os.environ,
            "MTOOLS_SKIP_CHECK": "1",
            "MTOOLS_NO_VFAT": "0",
            "LC_ALL": "C.UTF-8",
            "MTOOLSRC": os.devnull,
        },
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def get(path: Path, name: str) -> bytes:
    """Return a file's content as mtools sees it."""
    return mtools(path, "mcopy", f"::/{name}", "-")


def put(path: Path, name: str, data: bytes) -> None:
    mtools(path, "mcopy", "-D", "o", "-", f"::/{name}", data=data)


def listing(path: Path) -> set[str]:
    """Return all files and folders (with a slash at the end) as mtools sees them."""
    lines = mtools(path, "mdir", "-/", "-b", "::").decode().splitlines()
    return {line.removeprefix("::/") for line in lines if line != "::/"}


@dataclass
class Recorded:
    """A disk in a file that notes every write, so that a power cut after any of them can be played."""

    path: Path
    epochs: list[list[tuple[int, bytes]]] = field(default_factory=lambda: [[]])

    def read(self, offset: int, size: int) -> bytes:
        with self.path.open("rb") as handle:
            handle.seek(offset)
            return handle.read(size)

    def write(self, offset: int, data: bytes) -> None:
        assert offset % SECTOR == 0
        assert len(data) % SECTOR == 0
        apply(self.path, [(offset, data)])
        self.epochs[-1] += [(offset + at, data[at : at + SECTOR]) for at in range(0, len(data), SECTOR)]

    def barrier(self) -> None:
        self.epochs.append([])

    @property
    def writes(self) -> list[tuple[int, bytes]]:
        """All sectors, in order."""
        return [write for epoch in self.epochs for write in epoch]

    def torn(self, chance: random.Random) -> list[tuple[int, bytes]]:
        """Sectors as a disk may have them that keeps no order but that of barriers."""
        last = chance.randrange(len(self.epochs))
        kept = [write for epoch in self.epochs[:last] for write in epoch]
        share = chance.random()
        return kept + [write for write in self.epochs[last] if chance.random() < share]


def apply(path: Path, writes: Iterable[tuple[int, bytes]]) -> None:
    with path.open("r+b") as handle:
        for offset, data in writes:
            handle.seek(offset)
            handle.write(data)
