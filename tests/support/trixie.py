"""A real Debian for tests of first boots: a root file system made once and kept, and the wheels for its Python.

Both lie in ``~/.cache/callboard-tests`` (or ``$CALLBOARD_TEST_CACHE``), under a name that changes with what they are made of.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

from callboard_core.wheels import pack

ROOT = Path(__file__).parents[2]
SUITE, PYTHON, MIRROR = "trixie", "3.13", "http://deb.debian.org/debian"
#: What of Raspberry Pi OS matters here.
PACKAGES = ("systemd-sysv", "cloud-init", "netplan.io", "dbus", "iproute2", "sudo", "python3-venv")
#: What it takes to boot on top.
KERNEL = ("linux-image-cloud-amd64", "network-manager", "systemd-timesyncd")
#: How programs of Python are installed on machines that have none of ours yet.
TOOLS = ("pipx", "uv")
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def cache() -> Path:
    folder = Path(os.environ.get("CALLBOARD_TEST_CACHE", "") or Path.home() / ".cache" / "callboard-tests")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def digest(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """Tests that run side by side make it once."""
    with (cache() / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """What ``make`` puts into the path that it is given; from the cache if it was made before."""
    target = cache() / name
    with _locked(name):
        if not target.exists():
            draft = target.with_name(f"{name}.new")
            shutil.rmtree(draft, ignore_errors=True)
            draft.unlink(missing_ok=True)
            make(draft)
            draft.rename(target)
    return target


def system(*, kernel: bool = False) -> Path:
    """A root file system as an archive."""
    packages = (*PACKAGES, *(KERNEL if kernel else ()))

    def make(draft: Path) -> None:
        excluded = [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
        subprocess.run(
            [
                *("mmdebstrap", "--quiet", "--format=tar", "--variant=minbase"),
                *(f"--include={','.join(packages)}", '--aptopt=APT::Install-Recommends "false"'),
                *(*excluded, SUITE, str(draft), MIRROR),
            ],
            check=True,
            timeout=1800,
        )

    return kept(f"{SUITE}-{digest(*packages, *_LEFT_OUT)}.tar", make)


def unpack(archive: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    subprocess.run(
        ["tar", "-C", str(folder), "--numeric-owner", "-xpf", str(archive)], check=True, timeout=600
    )
    return folder


def wheels(folder: Path, *more: str) -> Path:
    """A folder with our own wheel and all it needs on that system, and with more programs if wanted."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = [*project["dependencies"], "pip", *more]

    def make(draft: Path) -> None:
        draft.mkdir()
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *(
                "--python-version",
                PYTHON,
                "--implementation",
                "cp",
                "--only-binary=:all:",
                "--dest",
                str(draft),
            ),
            *(f"--platform={each}" for each in _PLATFORMS),
            *(f"--abi={each}" for each in ("cp313", "abi3", "none")),
        ]
        subprocess.run([*command, *needs], check=True, timeout=600)

    shutil.copytree(kept(f"wheels-{PYTHON}-{digest(*needs)}", make), folder)
    pack(distribution("callboard"), folder)
    return folder
