"""A card's image made of a real Debian, as Raspberry Pi OS lays it out, and a machine that boots from it."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support import trixie

_MIB = 1 << 20
#: Where the boot partition begins and how large it is, and the same of the system's, in MiB.
_BOOT, _SYSTEM = (8, 512), (520, 1792)
_TABLE = f"""\
label: dos
start={_BOOT[0]}MiB, size={_BOOT[1]}MiB, type=c
start={_SYSTEM[0]}MiB, size={_SYSTEM[1]}MiB, type=83
"""
_FSTAB = "LABEL=rootfs / ext4 defaults,noatime 0 1\nLABEL=bootfs /boot/firmware vfat defaults,x-systemd.device-timeout=0 0 2\n"
#: As Raspberry Pi OS has it.
SOURCE = """\
datasource_list: [NoCloud, None]
datasource:
  NoCloud:
    seedfrom: file:///boot/firmware/
"""
#: What makes it known as a card's boot partition, to be replaced when it is flashed.
BLANK = {
    # An emulated processor is slow: systemd must not give a device up before it is there.
    "cmdline.txt": "console=ttyS0 root=LABEL=rootfs rw systemd.show_status=1 systemd.default_device_timeout_sec=3600 "
    "systemd.default_timeout_start_sec=3600\n",
    "config.txt": "arm_64bit=1\n",
    "meta-data": "instance-id: blank\n",
    "user-data": "#cloud-config\n{}\n",
    "network-config": "network: {version: 2}\n",
}


@dataclass(frozen=True)
class Card:
    """An image that can be flashed, and the kernel that a Pi's firmware would find in it."""

    image: Path
    kernel: Path
    initrd: Path


def card() -> Card:
    """Return the image, made once and kept."""
    system = trixie.system(kernel=True)
    folder = trixie.kept(f"card-{trixie.digest(system.name, _TABLE, _FSTAB, SOURCE, *BLANK.values())}", _make)
    return Card(folder / "card.img", folder / "vmlinuz", folder / "initrd.img")


def _make(draft: Path) -> None:
    draft.mkdir()
    image = draft / "card.img"
    with image.open("wb") as file:
        file.truncate((_SYSTEM[0] + _SYSTEM[1]) * _MIB)
    _run("sfdisk", "--quiet", str(image), given=_TABLE)
    _run(
        "mkfs.vfat",
        "-F",
        "32",
        "-n",
        "bootfs",
        f"--offset={_BOOT[0] * 2048}",
        str(image),
        str(_BOOT[1] * 1024),
    )
    with tempfile.TemporaryDirectory(dir=draft) as scratch:
        for name, text in BLANK.items():
            (Path(scratch) / name).write_text(text)
            _run("mcopy", "-i", boot_of(image), str(Path(scratch) / name), f"::{name}")
        root = trixie.unpack(trixie.system(kernel=True), Path(scratch) / "root")
        for name in ("vmlinuz", "initrd.img"):
            shutil.copy(next(iter(sorted((root / "boot").glob(f"{name}-*")))), draft / name)
        (root / "etc/fstab").write_text(_FSTAB)
        (root / "boot/firmware").mkdir(exist_ok=True)
        (root / "etc/cloud/cloud.cfg.d/99_card.cfg").write_text(SOURCE)
        offset = f"offset={_SYSTEM[0] * _MIB}"
        _run(
            "mke2fs",
            "-q",
            "-F",
            "-t",
            "ext4",
            "-L",
            "rootfs",
            "-d",
            str(root),
            "-E",
            offset,
            str(image),
            f"{_SYSTEM[1]}M",
        )


def boot_of(image: Path) -> str:
    """Return what mtools calls the boot partition of an image."""
    return f"{image}@@{_BOOT[0]}M"


def read_boot(image: Path, name: str) -> str:
    return _run("mtype", "-i", boot_of(image), f"::{name}")


def _run(*command: str, given: str = "") -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


class Emulated:
    """A machine that boots from a card, as a Pi would: with the command line that is on the card."""

    def __init__(self, made: Card, image: Path, folder: Path) -> None:
        self.serial = folder / "serial.log"
        self._monitor = folder / "monitor"
        # Where the emulation is late, the kernel takes the timer for broken. What services say is all that is seen of it.
        more = ("no_timer_check", "systemd.journald.forward_to_console=1")
        line = " ".join([*read_boot(image, "cmdline.txt").split(), *more])
        self._command = [
            *("qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi,tb-size=256"),
            *("-cpu", "Nehalem,-cx16", "-m", "1024", "-smp", "2", "-nographic", "-display", "none"),
            *("-kernel", str(made.kernel), "-initrd", str(made.initrd), "-append", line),
            *("-drive", f"file={image},format=raw,if=virtio,cache=writeback"),
            *("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net", "-device", "virtio-rng-pci"),
            *(
                "-serial",
                f"file:{self.serial}",
                "-qmp",
                f"unix:{self._monitor},server=on,wait=off",
                "-monitor",
                "none",
            ),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[Emulated]:
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            yield self
        finally:
            self._process.kill()
            self._process.wait(30)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def cut_power(self) -> None:
        """Start again without a word to the system."""
        self._say("system_reset")

    def _say(self, command: str) -> None:
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(60)
            monitor.connect(str(self._monitor))
            stream = monitor.makefile("rwb")
            stream.readline()
            for each in ("qmp_capabilities", command):
                stream.write(json.dumps({"execute": each}).encode() + b"\n")
                stream.flush()
                while b'"return"' not in (line := stream.readline()):
                    assert line, "the monitor has hung up"

    def log(self) -> str:
        return self.serial.read_text(errors="replace")[-5000:] if self.serial.exists() else ""
