"""Wheels of this project in other versions, sound and broken ones."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from callboard_core.wheels import write_wheel

__all__ = ["as_version", "made", "release"]


def as_version(
    wheel: Path, folder: Path, version: str, changes: dict[str, tuple[str, str]] | None = None
) -> Path:
    """Write a wheel like another one with another version.

    Args:
        wheel: of callboard.
        folder: where to.
        version: the new one.
        changes: for files in it, what to replace by what; it must be there once.
    """
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    old = next(name for name in files if name.endswith(".dist-info/METADATA")).partition("/")[0]
    new = f"callboard-{version}.dist-info"
    metadata = files[f"{old}/METADATA"].decode()
    line = next(line for line in metadata.splitlines() if line.startswith("Version: "))
    files[f"{old}/METADATA"] = metadata.replace(line, f"Version: {version}", 1).encode()
    for name, (before, after) in (changes or {}).items():
        text = files[name].decode()
        assert text.count(before) == 1, f"{name}: {before!r}"
        files[name] = text.replace(before, after).encode()
    del files[f"{old}/RECORD"]
    renamed = {name.replace(f"{old}/", f"{new}/"): data for name, data in files.items()}
    return write_wheel(folder / f"callboard-{version}-py3-none-any.whl", renamed, f"{new}/RECORD")


def release(wheels: Path, version: str, changes: dict[str, tuple[str, str]] | None = None) -> Path:
    """Copy a folder of wheels to one beside it in which callboard is another version; see ``as_version``."""
    folder = wheels.with_name(version)
    shutil.copytree(wheels, folder)
    (own,) = folder.glob("callboard-*.whl")
    as_version(own, folder, version, changes)
    own.unlink()
    return folder


def made(folder: Path, name: str, version: str, *needs: str, tag: str = "py3-none-any") -> Path:
    """Write a wheel of nothing, with its requirements."""
    stem = f"{name}-{version}"
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {need}" for need in needs)]
    metadata = f"{stem}.dist-info/METADATA"
    return write_wheel(
        folder / f"{stem}-{tag}.whl", {metadata: "\n".join(lines).encode()}, f"{stem}.dist-info/RECORD"
    )
