"""Wheels of what runs here: this program and what it needs, packed again from their installed files.

So a machine that has the program can install it for good, and hand it to others like it, without a network. What is packed
fits the interpreter that runs this; other machines need wheels from elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from callboard_core.errors import NotFound

__all__ = ["NAME", "PACKAGES", "closure", "gather", "own", "pack", "write_wheel"]

#: This distribution, and what of it is importable.
NAME = "callboard"
PACKAGES = ("callboard", "callboard_core", "callboard_broker", "callboard_nodes", "callboard_console")
#: Installers write these anew.
_WRITTEN = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
#: Compiled files are of one interpreter, and it makes them itself.
_LEFT_OUT = {".pyc", ".pyo"}
#: The earliest date that a zip archive can hold: the same files make the same wheel.
_DATE = (1980, 1, 1, 0, 0, 0)


def closure(names: Iterable[str] = (NAME,), *, extras: Iterable[str] = ()) -> list[Distribution]:
    """Return what is installed of these and of everything they need here, each once.

    Args:
        names: distributions.
        extras: of the distributions named.

    Raises:
        NotFound: something that is needed is not installed.
    """
    found: dict[str, Distribution] = {}
    waiting = [(canonicalize_name(name), frozenset(extras)) for name in names]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        found[name] = distribution = _installed(name)
        waiting += [
            (canonicalize_name(need.name), frozenset(need.extras)) for need in _needs(distribution, wanted)
        ]
    return [found[name] for name in sorted(found)]


def gather(folder: Path, *, extras: Iterable[str] = ()) -> list[Path]:
    """Pack this program and what it needs; pip is a part of that.

    Args:
        folder: where to; made if need be.
        extras: of this program, such as ``pi``.

    Returns:
        The wheels.

    Raises:
        NotFound: something that is needed is not installed, or its files are not known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [pack(distribution, folder) for distribution in closure((NAME,), extras=extras)]


def own() -> dict[str, bytes]:
    """Return the wheels of this program and of pip, where that is installed, by file name.

    Raises:
        NotFound: this program's files are not known.
    """
    names = [NAME, *(["pip"] if importlib.util.find_spec("pip") is not None else [])]
    with tempfile.TemporaryDirectory() as folder:
        paths = [pack(importlib.metadata.distribution(name), Path(folder)) for name in names]
        return {path.name: path.read_bytes() for path in paths}


def pack(distribution: Distribution, folder: Path) -> Path:
    """Write the wheel of an installed distribution.

    Raises:
        NotFound: it does not say which files it has.
    """
    name = canonicalize_name(distribution.metadata["Name"]).replace("-", "_")
    stem = f"{name}-{distribution.version}"
    tag = _tag(distribution)
    files = dict(_own_files() if name == NAME else _files(distribution))
    files |= {f"{stem}.dist-info/{key}": data for key, data in _metadata(distribution)}
    return write_wheel(folder / f"{stem}-{tag}.whl", files, f"{stem}.dist-info/RECORD")


def write_wheel(path: Path, files: dict[str, bytes], record: str) -> Path:
    """Write an archive of these files and the list of them.

    Args:
        path: the wheel.
        files: content by name.
        record: name of the list.
    """
    rows = [f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**files, record: "".join([*rows, f"{record},,\n"]).encode()}.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    return path


def _installed(name: str) -> Distribution:
    try:
        return importlib.metadata.distribution(name)
    except PackageNotFoundError:
        raise NotFound(f"{name} is not installed here; give a folder of wheels with --wheels") from None


def _needs(distribution: Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    for text in distribution.requires or []:
        need = Requirement(text)
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield need


def _tag(distribution: Distribution) -> str:
    """What it was built for; a file's name holds the several that WHEEL lists as one compressed set (PEP 425)."""
    tags = [
        line.partition(":")[2].strip().split("-")
        for line in (distribution.read_text("WHEEL") or "").splitlines()
        if line.startswith("Tag:")
    ]
    parts = zip(*(tags or [["py3", "none", "any"]]), strict=True)
    return "-".join(".".join(dict.fromkeys(part)) for part in parts)


def _metadata(distribution: Distribution) -> Iterator[tuple[str, bytes]]:
    folder = _info(distribution)
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_file() and name not in _WRITTEN:
            yield name, file.read_bytes()


def _info(distribution: Distribution) -> Path:
    for file in distribution.files or []:
        if file.name == "METADATA" and file.parent.suffix == ".dist-info":
            return Path(str(distribution.locate_file(file.parent)))
    raise _no_files(distribution)


def _files(distribution: Distribution) -> Iterator[tuple[str, bytes]]:
    found = distribution.files
    if found is None:
        raise _no_files(distribution)
    for file in found:
        path = PurePosixPath(str(file))
        # Scripts lie outside of the packages, and are made from the entry points again.
        if ".." not in path.parts and ".dist-info" not in path.parts[0] and path.suffix not in _LEFT_OUT:
            yield path.as_posix(), Path(str(distribution.locate_file(file))).read_bytes()


def _own_files() -> Iterator[tuple[str, bytes]]:
    """This program's files where they are imported from, so that a developer's checkout can be packed, too."""
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise NotFound(f"{name} cannot be imported; install callboard again")
        top = Path(spec.origin)
        if top.name != "__init__.py":
            yield top.name, top.read_bytes()
            continue
        for file in sorted(top.parent.rglob("*")):
            if file.is_file() and file.suffix not in _LEFT_OUT:
                yield f"{name}/{file.relative_to(top.parent).as_posix()}", file.read_bytes()


def _no_files(distribution: Distribution) -> NotFound:
    name = distribution.metadata["Name"]
    return NotFound(f"{name} does not say which files it has; give a folder of wheels with --wheels")


def _digest(data: bytes) -> str:
    """As RECORD wants it: URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
