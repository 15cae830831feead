"""The wheels that a card brings, so that its agent is installed without a network: ours, pip's, and what they need."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from callboard_core.errors import BadRequest, Failed
from callboard_core.wheels import NAME, own
from callboard_nodes.flash.fitting import environment, fitting, newest_glibc
from callboard_nodes.flash.seed import Target

__all__ = ["bundle", "cache_folder", "check_folder", "requirements"]

_OLDEST_GLIBC = 17
_LIST = "wheels.json"


def cache_folder() -> Path:
    """Return where wheels are kept: ``$XDG_CACHE_HOME/callboard/wheels`` or ``~/.cache/callboard/wheels``."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "callboard" / "wheels"


def bundle(target: Target, *, folder: Path | None = None, cache: Path | None = None) -> dict[str, bytes]:
    """Return every wheel for a system, by file name.

    Args:
        target: the system.
        folder: take what is needed from there, instead of fetching it; what is for other systems stays there.
        cache: where what was fetched is kept.

    Raises:
        BadRequest: this installation has no pip, or the folder lacks a wheel that fits.
        Failed: something cannot be fetched; the message is pip's.
    """
    if folder is None:
        return {**own(), **_fetched(target, cache or cache_folder())}
    check_folder(folder)
    try:
        return {**own(), **fitting(_read(folder), requirements(target), target)}
    except BadRequest as error:
        raise BadRequest(f"the wheels in {folder}: {error.message}") from None


def check_folder(folder: Path) -> None:
    """Check that a folder holds wheels.

    Raises:
        BadRequest: it does not.
    """
    if not any(folder.glob("*.whl")):
        raise BadRequest(f"there are no wheels in {folder}; name the folder that holds them")


def _read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.whl"))}


def _fetched(target: Target, cache: Path) -> dict[str, bytes]:
    wanted = requirements(target)
    key = hashlib.sha256("\n".join([target.machine, target.python, *wanted]).encode()).hexdigest()[:16]
    kept = cache / f"{target.machine}-{target.python}-{key}"
    found = _read(kept)
    if not found or _sums(found) != _listed(kept):
        _fetch(wanted, target, kept)
        found = _read(kept)
    return found


def requirements(target: Target) -> list[str]:
    """Return what this program needs on a system, without its extras."""
    needs = [Requirement(text) for text in importlib.metadata.requires(NAME) or []]
    chosen = [need for need in needs if need.marker is None or need.marker.evaluate(environment(target))]
    return sorted(f"{need.name}{need.specifier}" for need in chosen)


def _fetch(wanted: list[str], target: Target, kept: Path) -> None:
    """Fetch into a folder that takes its name once it is complete."""
    if importlib.util.find_spec("pip") is None:
        raise BadRequest(
            "this installation has no pip to fetch wheels with; name a folder that holds them with --wheels, "
            "or have the node fetch them with --no-wheels"
        )
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        done = subprocess.run(
            [*_command(target), "--dest", folder, *wanted], capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise Failed(
                f"the wheels for {target.machine} cannot be fetched: {' '.join(said[-2:])}; or use --no-wheels"
            )
        (Path(folder) / _LIST).write_text(json.dumps(_sums(_read(Path(folder)))), encoding="utf-8")
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder, kept)


def _command(target: Target) -> Iterator[str]:
    yield from (
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
    )
    yield from ("--only-binary=:all:", "--implementation", "cp", "--python-version", target.python)
    for minor in range(newest_glibc(target), _OLDEST_GLIBC - 1, -1):
        yield from ("--platform", f"manylinux_2_{minor}_{target.machine}")
    yield from ("--platform", f"manylinux2014_{target.machine}")
    if target.machine.startswith("arm"):
        # Where Raspberry Pi OS finds what nobody else builds for its 32-bit systems.
        yield from (
            "--platform",
            f"linux_{target.machine}",
            "--extra-index-url",
            "https://www.piwheels.org/simple",
        )


def _sums(wheels: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in wheels.items()}


def _listed(folder: Path) -> object:
    try:
        return json.loads((folder / _LIST).read_bytes())
    except (OSError, ValueError):  # incomplete, as if it were not there
        return None
