"""What the kernel says about block devices, read from ``/sys`` and ``/proc``. No decisions here; see ``safety``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Device", "Machine", "read_device", "read_machine"]

_SECTOR = 512
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Device:
    """A whole disk.

    Attributes:
        name: the kernel's, as ``sda`` or ``mmcblk0``.
        number: major and minor, as ``8:0``.
        size: bytes.
        removable: whether the kernel says that its medium can be taken out.
        bus: ``usb``, ``mmc`` or what else it hangs on; empty when unknown.
        model: what people know it by.
        serial: its own number; empty when it has none.
        read_only: a switch on the card, or the drive, forbids writing.
        parts: name and number of every partition.
        holders: devices that are made of it or its partitions (LVM, RAID, encryption).
    """

    name: str
    number: str
    size: int
    removable: bool
    bus: str
    model: str
    serial: str
    read_only: bool
    parts: tuple[tuple[str, str], ...] = ()
    holders: tuple[str, ...] = ()


@dataclass(frozen=True)
class Machine:
    """What this machine uses.

    Attributes:
        mounts: the device, by name or else number, and the place of every mounted file system.
        swaps: the device, or else the file, of every swap space.
        below: what each device lies on: a partition on its disk, others on what they are made of.
    """

    mounts: tuple[tuple[str, str], ...]
    swaps: tuple[str, ...]
    below: dict[str, tuple[str, ...]]


def read_device(name: str, root: Path = Path("/")) -> Device | None:
    """Read a disk's facts; None when it is no whole disk, or is gone.

    Args:
        name: the kernel's name.
        root: where ``sys`` lies.
    """
    folder = root / "sys" / "block" / name
    if not folder.exists():
        return None
    bus = _bus(folder)
    return Device(
        name=name,
        number=_text(folder / "dev"),
        size=int(_text(folder / "size") or 0) * _SECTOR,
        removable=_text(folder / "removable") == "1",
        bus=bus,
        model=_model(folder),
        serial=_serial(folder),
        read_only=_text(folder / "ro") == "1",
        parts=tuple((part.name, _text(part / "dev")) for part in _parts(folder)),
        holders=tuple(
            sorted(each.name for part in (folder, *_parts(folder)) for each in _inside(part / "holders"))
        ),
    )


def read_machine(root: Path = Path("/")) -> Machine:
    """Read what is in use; ``root`` is where ``sys``, ``proc`` and ``dev`` lie."""
    names: dict[str, str] = {}
    below: dict[str, tuple[str, ...]] = {}
    for folder in _inside(root / "sys/block"):
        names[_text(folder / "dev")] = folder.name
        below[folder.name] = tuple(each.name for each in _inside(folder / "slaves"))
        for part in _parts(folder):
            names[_text(part / "dev")] = part.name
            below[part.name] = (folder.name,)
    swaps = [line.split()[0] for line in _text(root / "proc/swaps").splitlines()[1:] if line.strip()]
    return Machine(
        mounts=tuple(_mounts(root, names)),
        swaps=tuple(_device_name(root, _unescaped(path)) or path for path in swaps),
        below=below,
    )


def _mounts(root: Path, names: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Each mount counts twice: btrfs numbers its devices anew, and others do not name theirs."""
    for line in _text(root / "proc/self/mountinfo").splitlines():
        fields, _, about = line.partition(" - ")
        number, place = fields.split()[2], _unescaped(fields.split()[4])
        yield names.get(number, number), place
        source = _device_name(root, _unescaped(about.split()[1])) if len(about.split()) > 1 else ""
        if source and source != names.get(number):
            yield source, place


def _device_name(root: Path, path: str) -> str:
    """Return the kernel's name of a device by its path, which may be a link; empty for other paths."""
    return (root / path.lstrip("/")).resolve().name if path.startswith("/dev/") else ""


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # not every device has every file
        return ""


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _parts(folder: Path) -> Iterator[Path]:
    return (each for each in _inside(folder) if (each / "partition").exists())


def _bus(folder: Path) -> str:
    """From the path of the device: ``…/usb1/1-2/…`` or ``…/mmc_host/…``."""
    path = folder.resolve().as_posix()
    if "/mmc_host/" in path:
        return "mmc"
    return "usb" if re.search(r"/usb\d+/", path) else _text(folder / "device" / "transport")


def _model(folder: Path) -> str:
    device = folder / "device"
    words = [_text(device / name) for name in ("vendor", "model", "name")]
    return " ".join(word for word in words if word)


def _serial(folder: Path) -> str:
    """The device's own number, or that of the USB device above it (a reader), which tells readers apart at least."""
    own = _text(folder / "device" / "serial") or _text(folder / "serial")
    if own:
        return own
    for above in folder.resolve().parents:
        if (above / "idVendor").exists():
            return _text(above / "serial")
    return ""


def _unescaped(text: str) -> str:
    """Places in /proc have spaces and the like as octal numbers."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), text)
