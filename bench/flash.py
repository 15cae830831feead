"""Making an image for a card: writing 2.7 GB from an .xz beside ``xz -dc``, and seeding.

The image is synthetic: a boot partition of 512 MiB as on a Pi's card, then data that xz makes a fifth of, then zeros.
``--size`` and ``--data`` (MiB) make it smaller.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from callboard_core.boot import CardConfig, Wifi
from callboard_nodes.flash.card import Plan, flash_file
from callboard_nodes.flash.source import find_image

MIB = 2**20
BOOT_AT, BOOT = 8 * MIB, 512 * MIB


def make_image(path: Path, size: int, data: int) -> None:
    """Write the image; ``size`` and ``data`` in bytes."""
    entry = struct.pack("<B3xB3xII", 0x80, 0x0C, BOOT_AT // 512, BOOT // 512)
    with path.open("wb") as handle:
        handle.truncate(size)
        handle.seek(446)
        handle.write(entry)
        handle.seek(510)
        handle.write(b"\x55\xaa")
        handle.seek(BOOT_AT + BOOT)
        chance = random.Random(27)
        pool = chance.randbytes(4 * MIB)
        letters = bytes(range(64, 80)) * 16
        for _ in range(data // MIB):
            begins = [chance.randrange(len(pool) - 4096) for _ in range(208)]
            handle.write(b"".join(pool[at : at + 4096] for at in begins))
            handle.write(chance.randbytes(MIB - 208 * 4096).translate(letters))
    subprocess.run(
        [
            "mkfs.vfat",
            "-F",
            "32",
            "-s",
            "8",
            "-n",
            "bootfs",
            "--offset",
            str(BOOT_AT // 512),
            str(path),
            str(BOOT // 1024),
        ],
        check=True,
        capture_output=True,
    )
    for name, text in {
        "cmdline.txt": "root=x rootwait\n",
        "config.txt": "arm_64bit=1\n",
        "user-data": "",
        "kernel8.img": "",
    }.items():
        subprocess.run(
            ["mcopy", "-i", f"{path}@@{BOOT_AT}", "-", f"::/{name}"], input=text.encode(), check=True
        )


def timed(action: Callable[[], object]) -> float:
    """Seconds that something takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def plain(packed: Path, out: Path) -> None:
    """What anybody would do."""
    with out.open("wb") as handle:
        subprocess.run(["xz", "-dc", str(packed)], stdout=handle, check=True)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2_700)
    parser.add_argument("--data", type=int, default=1_100)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    config = CardConfig(id="bench", wifi=Wifi.of("bench", "password"), country="GB", join="CB2-X")
    wheels = {f"wheel-{number}.whl": os.urandom(MIB) for number in range(16)}
    stages: dict[str, float] = {}
    plan = Plan(
        config,
        lambda _target: wheels,
        tell=lambda stage, _done, _total: stages.setdefault(stage, time.perf_counter()),
    )
    with tempfile.TemporaryDirectory(prefix="callboard-flash-") as folder:
        image, packed, out = Path(folder, "card.img"), Path(folder, "card.img.xz"), Path(folder, "out.img")
        make_image(image, chosen.size * MIB, chosen.data * MIB)
        subprocess.run(["xz", "-0", "-T0", "-k", str(image)], check=True)
        image.unlink()
        print(f"{chosen.size} MiB image, {packed.stat().st_size / MIB:.0f} MiB packed")
        print(f"{'':8}{'xz -dc > file':>16}{'written':>10}{'verified':>10}{'seeded':>10}{'rate':>8}")
        rates = []
        for number in range(chosen.rounds):
            reference = timed(lambda: plain(packed, out))
            out.unlink()
            stages.clear()
            began = time.perf_counter()
            total = timed(lambda: flash_file(find_image(packed), out, plan))
            end = time.perf_counter()
            began = end - total
            out.unlink()
            write, verified = stages["verify"] - began, stages["seed"] - stages["verify"]
            rates.append(reference / (write + verified))
            print(
                f"round {number + 1:<2}{reference:>14.2f} s{write:>8.2f} s{verified:>8.2f} s"
                f"{end - stages['seed']:>8.2f} s{rates[-1]:>8.0%}"
            )
    print(
        f"rate (written and verified, of xz -dc's): {statistics.median(rates):.0%}; the aim is 80 %; seeding: 1 s"
    )


if __name__ == "__main__":
    sys.exit(main())
