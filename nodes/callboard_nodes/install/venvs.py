"""Virtual environments that are filled from a folder of wheels, without a network and without ``ensurepip``.

Standard library only, and no module of ours, so that it also runs by itself where nothing is installed yet:
``python3 venvs.py --slot /opt/callboard/a --wheels /opt/callboard/wheels --current /opt/callboard/current``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["SlotError", "current", "fill", "main", "make", "point", "self_test", "sync_folder"]

#: Seconds for pip, and for the new program to say who it is; a Pi Zero with a slow card takes minutes.
_PIP_SECONDS = 900.0
_TEST_SECONDS = 120.0
#: What must be importable in a node's environment.
_MODULES = ("callboard", "callboard_core", "callboard_nodes.agent", "callboard_console.cli.main")


class SlotError(Exception):
    """An environment could not be made, or does not work; the message says why."""


def make(slot: Path, *, python: Path | str = sys.executable) -> None:
    """Make an empty environment in place of whatever is there.

    Args:
        slot: its folder.
        python: the interpreter that it will use.

    Raises:
        SlotError: the interpreter cannot do it.
    """
    if slot.is_symlink():
        raise SlotError(f"{slot} is a link; an environment must be a folder")
    if slot.exists():
        shutil.rmtree(slot)
    slot.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    if Path(python) == Path(sys.executable):
        venv.create(slot, with_pip=False, symlinks=True)
    else:
        _run([str(python), "-I", "-m", "venv", "--without-pip", str(slot)], _PIP_SECONDS)


def fill(slot: Path, wheels: Path, requirements: Sequence[str] = ("callboard",)) -> None:
    """Install from a folder of wheels, and from nothing else.

    Args:
        slot: an environment.
        wheels: must hold everything needed; a wheel of pip in it is what does the work.
        requirements: what to install; a wheel's path, or a name with or without a version.

    Raises:
        SlotError: something is missing or does not fit this machine; the message is pip's.
    """
    with _pip(wheels) as pip:
        command = [*pip, "--python", str(slot / "bin" / "python"), "install", "--no-index", "--find-links"]
        quiet = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir"]
        warnings = ["--root-user-action=ignore", "--no-warn-script-location", "--only-binary=:all:"]
        _run([*command, str(wheels), *quiet, *warnings, *requirements], _PIP_SECONDS)


def self_test(slot: Path, *, version: str | None = None, user: str | None = None) -> str:
    """Start the program in an environment without a board.

    Args:
        slot: an environment.
        version: what it must be.
        user: as whom to run it; as ourselves when None.

    Returns:
        Its version.

    Raises:
        SlotError: it does not start, or is another version.
    """
    code = (
        f"import {', '.join(_MODULES)}; from importlib.metadata import version; print(version('callboard'))"
    )
    python = str(slot / "bin" / "python")
    found = _run([python, "-I", "-c", code], _TEST_SECONDS, user=user).strip()
    if version is not None and found != version:
        raise SlotError(f"{slot} holds callboard {found}, not {version}")
    _run([str(slot / "bin" / "callboard"), "--help"], _TEST_SECONDS, user=user)
    return found


def point(link: Path, slot: Path) -> None:
    """Make ``link`` point to a slot beside it; at every moment, also at a power cut, it is the old one or the new one."""
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(slot.name)
    new.replace(link)
    sync_folder(link.parent)


def current(link: Path) -> str | None:
    """Return the name of the slot that a link points to; None when there is no link."""
    try:
        return link.readlink().name
    except OSError:  # there is none, or it is no link
        return None


def sync_folder(folder: Path) -> None:
    """Have a folder's entries on the disk before this returns."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _pip(wheels: Path) -> Iterator[list[str]]:
    """The command that runs pip: from the wheel in the folder, else this interpreter's own, else the one it brings."""
    found = sorted(wheels.glob("pip-*.whl"))
    if not found and importlib.util.find_spec("pip") is not None:
        yield [sys.executable, "-I", "-m", "pip"]
        return
    found = found or sorted(_brought())
    if not found:
        raise SlotError(f"there is no pip: put its wheel into {wheels}")
    with tempfile.TemporaryDirectory(prefix="callboard-pip-") as folder, zipfile.ZipFile(found[-1]) as wheel:
        wheel.extractall(folder)
        yield [sys.executable, "-I", str(Path(folder) / "pip")]


def _brought() -> Iterator[Path]:
    spec = importlib.util.find_spec("ensurepip")
    if spec is not None and spec.origin is not None:
        yield from (Path(spec.origin).parent / "_bundled").glob("pip-*.whl")
    yield from Path("/usr/share/python-wheels").glob("pip-*.whl")


def _run(command: list[str], seconds: float, *, user: str | None = None) -> str:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    try:
        rights = _as_user(user)
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env={**kept, "PYTHONUTF8": "1", "HOME": "/", "PIP_CONFIG_FILE": os.devnull},
            cwd="/",
            stdin=subprocess.DEVNULL,
            **rights,
        )
    except subprocess.TimeoutExpired:
        raise SlotError(f"{command[0]} has not ended within {seconds:g} s") from None
    except (OSError, LookupError) as error:
        raise SlotError(f"cannot run {command[0]}: {error}") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"it ended with {done.returncode}")[-2000:]
        raise SlotError(f"{' '.join(command[:3])} … failed: {said}")
    return str(done.stdout)


def _as_user(user: str | None) -> dict[str, Any]:
    """With the user's own group only."""
    if user is None:
        return {}
    found = pwd.getpwnam(user)
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}


def main(arguments: Sequence[str] | None = None) -> None:
    """Make, fill and test a slot, and point the link to it; what a machine's first boot runs."""
    parser = argparse.ArgumentParser(description="Make a virtual environment of callboard from wheels.")
    parser.add_argument("--slot", type=Path, required=True)
    parser.add_argument("--wheels", type=Path, required=True)
    parser.add_argument("--current", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    make(chosen.slot)
    fill(chosen.slot, chosen.wheels)
    print(f"callboard {self_test(chosen.slot)} is in {chosen.slot}")  # noqa: T201 - for whoever reads the boot's log
    os.sync()
    point(chosen.current, chosen.slot)


if __name__ == "__main__":
    try:
        main()
    except SlotError as error:
        sys.exit(str(error))
