"""Seeding: a card's boot partition gets what makes its machine a node. Nothing of it counts before all of it is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from callboard_core.boot import CardConfig, Format, boot_files, detect_format
from callboard_core.boot.files import EDITED
from callboard_core.boot.setup import FOLDER, WHEELS
from callboard_core.errors import BadRequest, Failed
from callboard_nodes.flash.boot import BootPartition

__all__ = ["Target", "look", "seed"]

_KERNELS_64 = ("kernel8.img", "kernel_2712.img")
_KERNELS_32 = ("kernel.img", "kernel7.img", "kernel7l.img")
#: Python of each Raspberry Pi OS.
_PYTHON: dict[Format, str] = {"cloudinit": "3.13", "firstrun": "3.11"}


@dataclass(frozen=True)
class Target:
    """The system that a card holds.

    Attributes:
        form: how it is told what to do at its first boot.
        machine: its processor as Python names it (``aarch64``, ``armv7l``, ``x86_64``).
        python: version of its Python.
    """

    form: Format
    machine: str
    python: str


def look(
    boot: BootPartition, *, form: Format | None = None, machine: str | None = None, python: str | None = None
) -> Target:
    """Tell what system a card holds, but for what is given.

    Raises:
        BadRequest: that cannot be told; the message names what to give.
    """
    names = boot.names()
    form = form or detect_format(names)
    return Target(form, machine or _machine({name.lower() for name in names}), python or _PYTHON[form])


def _machine(names: set[str]) -> str:
    if names.intersection(_KERNELS_32):
        # An image with kernels of both kinds has 32-bit programs.
        return "armv7l"
    if names.intersection(_KERNELS_64):
        return "aarch64"
    raise BadRequest("the card does not tell its processor; say it with --machine, as aarch64 or x86_64")


def seed(boot: BootPartition, config: CardConfig, form: Format, wheels: Mapping[str, bytes]) -> None:
    """Write the files, those last that have the system look for the others.

    Args:
        boot: the partition.
        config: the machine that is wanted.
        form: how its system is told.
        wheels: content by file name.

    Raises:
        Failed: what was written reads back otherwise.
        TooLarge: there is no room.
    """
    found = {name: boot.read(name) for name in boot.names() if name in EDITED}
    files = boot_files(config, form, found)
    ours = {path: data for path, data in files.items() if path.startswith(f"{FOLDER}/")}
    ours |= {f"{WHEELS}/{name}": data for name, data in wheels.items()}
    stale = [f"{WHEELS}/{name}" for name in boot.names(WHEELS) if name not in wheels]
    stale += [
        f"{FOLDER}/{name}"
        for name in ("join", "ca.pem")
        if name in boot.names(FOLDER) and f"{FOLDER}/{name}" not in ours
    ]
    boot.remove(stale)
    _write(boot, ours)
    _write(boot, {path: data for path, data in files.items() if path not in ours and path != "cmdline.txt"})
    _write(boot, {path: data for path, data in files.items() if path == "cmdline.txt"})


def _write(boot: BootPartition, files: Mapping[str, bytes]) -> None:
    """Write what is not there yet, and read it back."""
    changed = {path: data for path, data in files.items() if not _has(boot, path, data)}
    if changed:
        boot.write(changed)
    wrong = [path for path, data in changed.items() if boot.read(path) != data]
    if wrong:
        raise Failed(
            f"{wrong[0]} on the card is not what was written to it; the card is bad, take another one"
        )


def _has(boot: BootPartition, path: str, data: bytes) -> bool:
    folder, _, name = path.rpartition("/")
    return name in boot.names(folder) and boot.read(path) == data
