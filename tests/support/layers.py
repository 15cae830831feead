"""A layer over this machine's own files, for scripts that change a system: what they change is thrown away."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

_ENTER = """\
set -e
mount -t tmpfs tmpfs "$1/layers"
mkdir "$1/layers/upper" "$1/layers/work" "$1/layers/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/layers/upper,workdir=$1/layers/work" "$1/layers/root" || exit 77
cd "$1/layers/root"
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mkdir -p boot/firmware
mount --bind "$1/boot" boot/firmware
"""


def within(folder: Path, script: str) -> None:
    """Run a shell script whose folder is the root of the layer.

    Args:
        folder: its ``boot`` is the layer's ``/boot/firmware``; the script knows it as ``$1``.
        script: what to do there; ``chroot .`` enters it.
    """
    (folder / "layers").mkdir(exist_ok=True)
    (folder / "boot").mkdir(exist_ok=True)
    done = subprocess.run(
        ["unshare", "--mount", "/bin/sh", "-c", _ENTER + script, "sh", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip(f"no layers of file systems here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
