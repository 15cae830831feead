"""Making the cards that ``callboard flash`` was asked for: checks, confirmation, progress, and what was made."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import typer

from callboard_console.cli import options
from callboard_console.cli.output import table
from callboard_core.boot import CardConfig, Format
from callboard_core.errors import BadRequest, Failed
from callboard_core.wheels import own
from callboard_nodes.flash.card import Plan, flash_device, flash_file, flash_folder, unpacked
from callboard_nodes.flash.device import device_of
from callboard_nodes.flash.facts import Device, read_device, read_machine
from callboard_nodes.flash.safety import check_confirmation, check_safe, objections
from callboard_nodes.flash.seed import Target
from callboard_nodes.flash.source import Image, check_sum, checksum_beside, find_image
from callboard_nodes.flash.wheels import bundle, check_folder

__all__ = ["Cards", "System", "check", "show_devices"]

_STAGES = {
    "write": "writing",
    "flush": "waiting for the card",
    "verify": "reading back",
    "wheels": "collecting packages",
    "seed": "preparing",
}
#: What helps where something cannot be written.
_REMEDIES = {
    errno.ENOSPC: "free some room, or name another place",
    errno.EACCES: "run it with sudo, or name another place",
    errno.EPERM: "run it with sudo, or name another place",
    errno.EROFS: "push the switch on the card's edge, or name another place",
    errno.EIO: "the card or its reader is bad; take another one",
}


@dataclass(frozen=True)
class System:
    """What the image does not tell, and how its agent gets its packages.

    Attributes:
        form: see ``Plan``.
        machine: see ``Plan``.
        python: see ``Plan``.
        wheels: a folder with packages; None to fetch them.
        offline: whether the card brings all packages.
    """

    form: Format | None
    machine: str | None
    python: str | None
    wheels: Path | None
    offline: bool

    def collect(self, target: Target) -> Mapping[str, bytes]:
        """Return the packages for the card."""
        return bundle(target, folder=self.wheels) if self.offline else own()


def check(source: Path, target: Path | None, *, many: bool, sha256: str | None, wheels: Path | None) -> None:
    """Check source and target before anything is asked of the board.

    Raises:
        BadRequest: they do not fit together, or the image or the packages are not what they should be.
    """
    if wheels is not None:
        check_folder(wheels)
    if source.is_dir():
        _check_mounted(source, target, many=many, sha256=sha256)
        return
    image = find_image(source)
    if target is None:
        raise BadRequest(
            "name what to write, a new image file or the card's device; `callboard flash --list` shows cards"
        )
    if many and not (target.is_dir() or target.is_block_device()):
        raise BadRequest(
            f"{target}: with --fleet, name a folder for the images, or a device for one card after another"
        )
    if target.exists() and source.samefile(target):
        raise BadRequest(f"{target} is the image itself; write to another file")
    if target.is_dir() and not many:
        raise BadRequest(f"{target} is a folder; name a file in it, as {target / 'card.img'}")
    if not many and not target.is_block_device():
        _check_file(target)
    wanted = sha256 or checksum_beside(source)
    if wanted is not None:
        check_sum(image, wanted)
        print("the image has the right SHA-256", file=sys.stderr)


def _check_mounted(source: Path, target: Path | None, *, many: bool, sha256: str | None) -> None:
    if target is not None or many:
        raise BadRequest(
            f"{source} is a mounted card, which is prepared where it is, alone; leave the target and --fleet out"
        )
    if sha256 is not None:
        raise BadRequest(f"--sha256 is of an image, and {source} is a mounted card; leave it out")


def _check_file(target: Path) -> None:
    """Check that an image can become a file there; what is no card any more must not become one in memory."""
    if target.exists() and not target.is_file():
        raise BadRequest(
            f"{target} is neither a file nor a card; name a new image file, or the card's device"
        )
    folder = target.absolute().parent
    if folder.is_relative_to("/dev"):
        raise BadRequest(f"there is no card {target}; `callboard flash --list` shows those there are")
    if not folder.is_dir():
        raise BadRequest(f"there is no folder {folder}; make it, or name another file")


def show_devices() -> None:
    """Print every disk, and why it may not be overwritten."""
    machine = read_machine()
    found = [read_device(folder.name) for folder in sorted(Path("/sys/block").iterdir())]
    rows = [
        _row(device, "; ".join(objections(device, machine)))
        for device in found
        if device is not None and device.size
    ]
    rows = [row for row in rows if "made of something else" not in row["why not"]]
    table(["device", "size", "model", "serial", "why not"], rows, empty="there are no disks")


def _row(device: Device, why_not: str) -> dict[str, Any]:
    size = f"{device.size / 1e9:.1f} GB"
    return {
        "device": f"/dev/{device.name}",
        "size": size,
        "model": device.model,
        "serial": device.serial,
        "why not": why_not,
    }


@contextmanager
def _writing(where: Path) -> Iterator[None]:
    """Say what to do where the system does not let us write.

    Raises:
        Failed: it does not.
    """
    try:
        yield
    except OSError as error:
        what = error.strerror or str(error)
        raise Failed(
            f"{where} cannot be written: {what}; {_REMEDIES.get(error.errno or 0, 'try another one')}"
        ) from None


class Cards:
    """Makes one card after another."""

    def __init__(
        self, source: Path, target: Path | None, system: System, *, yes: bool, serial: str | None
    ) -> None:
        self._source = source
        self._target = target
        self._system = system
        self._yes = yes
        self._serial = serial
        self._image: Image | None = None
        self._wheels: dict[Target, Mapping[str, bytes]] = {}

    def make(self, configs: Sequence[CardConfig], *, many: bool) -> None:
        """Make the cards, and say so of each; an image is unpacked once for many."""
        image = None if self._source.is_dir() else find_image(self._source)
        folder = self._target if many and self._target is not None and self._target.is_dir() else None
        once = unpacked(image, folder) if image is not None and folder is not None else nullcontext(image)
        with _writing(self._target or self._source), once as self._image:
            for config in configs:
                where = self._make(config, many=many)
                left = "" if config.join else "; it has no join code"
                print(f"{where} is the card of {config.id}{left}")

    def _make(self, config: CardConfig, *, many: bool) -> Path:
        if self._target is None or self._image is None:
            with _Bars() as bars:
                flash_folder(self._source, self._plan(config, bars))
            return self._source
        if self._target.is_block_device():
            self._make_device(config, self._image, self._target, many=many)
            return self._target
        path = self._target / f"{config.id}.img" if many else self._target
        self._make_file(config, self._image, path)
        return path

    def _plan(self, config: CardConfig, bars: _Bars) -> Plan:
        def wheels(target: Target) -> Mapping[str, bytes]:
            bars.tell("wheels", 0, None)
            if target not in self._wheels:
                self._wheels[target] = self._system.collect(target)
            return self._wheels[target]

        chosen = self._system
        return Plan(config, wheels, chosen.form, chosen.machine, chosen.python, bars.tell)

    def _make_file(self, config: CardConfig, image: Image, path: Path) -> None:
        if path.exists():
            options.confirm(f"Replace {path}?", yes=self._yes)
        with _Bars() as bars:
            flash_file(image, path, self._plan(config, bars))

    def _make_device(self, config: CardConfig, image: Image, path: Path, *, many: bool) -> None:
        if many:
            typer.prompt(
                f"Put in the card for {config.id}, then press Enter", default="", show_default=False, err=True
            )
        device = device_of(path)
        check_safe(device, read_machine())
        self._confirm(device)
        bars = _Bars()
        try:
            with bars:
                flash_device(image, path, device, self._plan(config, bars))
        except BaseException:
            if bars.began:
                print(f"{path} is incomplete, and does not boot; write it again", file=sys.stderr)
            raise

    def _confirm(self, device: Device) -> None:
        typed = None
        if not self._yes:
            about = f"{device.model or 'unknown model'}, {device.size / 1e9:.1f} GB, serial {device.serial or 'none'}"
            print(f"/dev/{device.name} ({about}) will be overwritten: all of it is lost.", file=sys.stderr)
            typed = typer.prompt(f"Type {device.name} to go on", err=True)
        check_confirmation(device, serial=self._serial, typed=typed)


class _Bars:
    """A progress bar for each stage, if a person watches."""

    def __init__(self) -> None:
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self.began = False

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )

            columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            self._bars = Progress(
                TextColumn("{task.description}"), *columns, console=Console(stderr=True), transient=True
            )
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def tell(self, stage: str, done: int, total: int | None) -> None:
        """Show how far a stage is."""
        self.began = True
        if self._bars is None:
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(_STAGES[stage], total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)
