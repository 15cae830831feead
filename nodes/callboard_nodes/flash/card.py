"""From an image to a card: written, read back, seeded, and only then able to boot."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from callboard_core.boot import CardConfig, Format
from callboard_core.errors import BadRequest, TooLarge
from callboard_nodes.flash.boot import BootPartition, FatBoot, FolderBoot
from callboard_nodes.flash.device import overwriting
from callboard_nodes.flash.facts import Device
from callboard_nodes.flash.fat32 import Fat32, FileDisk
from callboard_nodes.flash.partition import FIRST_BLOCK, boot_partition
from callboard_nodes.flash.seed import Target, look, seed
from callboard_nodes.flash.source import Image, find_image, opened
from callboard_nodes.flash.write import Written, copy_stream, replaced, verify

__all__ = ["Plan", "Stages", "flash_device", "flash_file", "flash_folder", "unpacked"]

#: Told what is being done, how many bytes of it are done, and of how many; None when that is not known.
Stages = Callable[[str, int, int | None], None]
#: The wheels for a system, content by file name.
Wheels = Callable[[Target], Mapping[str, bytes]]


def _silent(_stage: str, _done: int, _total: int | None) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Plan:
    """What to make of a card.

    Attributes:
        config: the machine that is wanted.
        wheels: the wheels for a system.
        form: the system's format, where the card does not tell.
        machine: its processor, likewise.
        python: its Python's version, likewise.
        tell: is told how far it is.
    """

    config: CardConfig
    wheels: Wheels = field(default=lambda _target: {})
    form: Format | None = None
    machine: str | None = None
    python: str | None = None
    tell: Stages = _silent

    def seed(self, boot: BootPartition) -> Target:
        """Seed a boot partition."""
        target = look(boot, form=self.form, machine=self.machine, python=self.python)
        wheels = self.wheels(target)
        self.tell("seed", 0, None)
        seed(boot, self.config, target.form, wheels)
        return target


def flash_folder(folder: Path, plan: Plan) -> Target:
    """Seed a card whose boot partition is mounted in a folder."""
    return plan.seed(FolderBoot(folder))


def flash_file(image: Image, path: Path, plan: Plan) -> Target:
    """Make a new image file, which appears once it is complete.

    Raises:
        BadRequest: the image is none for a Pi.
        Failed: it is damaged, or does not read back.
        TooLarge: its boot partition is full.
    """
    with replaced(path) as descriptor:
        written = _write(image, descriptor, plan)
        part = Path(f"/proc/self/fd/{descriptor}")
        verify(part, written, progress=lambda done: plan.tell("verify", done, _data(written)))
        partition = boot_partition(written.first)
        return plan.seed(FatBoot(Fat32(FileDisk(descriptor, partition.start, durable=False))))


def flash_device(image: Image, path: Path, device: Device, plan: Plan) -> Target:
    """Overwrite a device. Its first block comes last, so that nothing boots from one that is incomplete.

    Args:
        image: what to write.
        path: the device.
        device: as it was confirmed.
        plan: what to make of it.

    Raises:
        Conflict: the device is in use or is another one.
        Failed: the image is damaged, or the card is bad.
        TooLarge: the card or its boot partition is too small.
    """
    if image.size is not None and image.size > device.size:
        raise TooLarge(f"the image has {image.size} bytes, and {path} only {device.size}; take a larger card")
    with overwriting(path, device) as descriptor:
        plan.tell("write", 0, image.size)
        os.pwrite(descriptor, bytes(FIRST_BLOCK), 0)
        os.fsync(descriptor)
        written = _write(image, descriptor, plan, device=True)
        plan.tell("flush", 0, None)
        os.fsync(descriptor)
        verify(path, written, device=True, progress=lambda done: plan.tell("verify", done, _data(written)))
        partition = boot_partition(written.first)
        target = plan.seed(FatBoot(Fat32(FileDisk(descriptor, partition.start))))
        os.pwrite(descriptor, written.first, 0)
    return target


@contextmanager
def unpacked(image: Image, folder: Path) -> Iterator[Image]:
    """Unpack an image once, for many cards; what it becomes lies in a folder with room, and goes at the end."""
    if image.kind == "img":
        yield image
        return
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".callboard-", suffix=".img") as file:
        with opened(image) as stream:
            copy_stream(stream, file.fileno())
        yield find_image(Path(file.name))


def _write(image: Image, descriptor: int, plan: Plan, *, device: bool = False) -> Written:
    with opened(image) as stream:
        written = copy_stream(
            stream, descriptor, device=device, progress=lambda done: plan.tell("write", done, image.size)
        )
    if image.size not in {None, written.size}:
        raise BadRequest(
            f"{image.path} is cut: {written.size} of {image.size} bytes are in it; download it again"
        )
    return written


def _data(written: Written) -> int:
    return sum(length for _, length in written.extents)
