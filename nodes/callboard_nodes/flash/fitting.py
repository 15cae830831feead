"""Which of many wheels a system needs that is not this one: its machine may have no network to fetch what is missing. Pure."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from email.parser import BytesParser
from itertools import chain

from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from callboard_core.errors import BadRequest
from callboard_nodes.flash.seed import Target

__all__ = ["environment", "fitting", "newest_glibc"]

#: Newest glibc of the systems that are written for: Debian 12 and 13 have 2.36 and 2.41.
_GLIBC = {"3.11": 36, "3.13": 41}
_OLDER = ("manylinux2014", "manylinux2010", "manylinux1", "linux")


def environment(target: Target) -> dict[str, str]:
    """Return what markers of requirements go by (PEP 508)."""
    return {
        "platform_machine": target.machine,
        "sys_platform": "linux",
        "python_version": target.python,
        "python_full_version": f"{target.python}.0",
        "extra": "",
    }


def newest_glibc(target: Target) -> int:
    """Return the minor version of the newest glibc 2 that a system's wheels may need."""
    return _GLIBC.get(target.python, max(_GLIBC.values()))


def fitting(wheels: Mapping[str, bytes], needs: Iterable[str], target: Target) -> dict[str, bytes]:
    """Return the wheels that a system needs: of each distribution the newest that fits, then the most specific.

    Args:
        wheels: content by file name.
        needs: requirements; those of the wheels themselves come on top.
        target: the system.

    Raises:
        BadRequest: something is missing, or none of it fits; the message names it.
    """
    shelf = _shelf(wheels)
    ranks = {tag: place for place, tag in enumerate(_tags(target))}
    found: dict[str, str] = {}
    waiting = [Requirement(text) for text in needs]
    while waiting:
        need = waiting.pop()
        key = canonicalize_name(need.name)
        if key not in found:
            found[key] = _best(need, shelf.get(key, {}), ranks, target)
            waiting += _needs_of(found[key], wheels[found[key]], need.extras, target)
    return {name: wheels[name] for name in sorted(found.values())}


def _shelf(names: Iterable[str]) -> dict[str, dict[str, tuple[Version, frozenset[Tag]]]]:
    """Return what wheels there are of each distribution."""
    shelf: dict[str, dict[str, tuple[Version, frozenset[Tag]]]] = {}
    for file in names:
        try:
            name, version, _, tags = parse_wheel_filename(file)
        except InvalidWheelFilename:
            raise BadRequest(f"{file} has no name of a wheel; remove it, or name another folder") from None
        shelf.setdefault(name, {})[file] = version, tags
    return shelf


def _tags(target: Target) -> Iterator[Tag]:
    major, _, minor = target.python.partition(".")
    if not (major.isdecimal() and minor.isdecimal()):
        raise BadRequest(f"--python {target.python}: write a version such as 3.13")
    python = int(major), int(minor)
    platforms = [f"manylinux_2_{number}_{target.machine}" for number in range(newest_glibc(target), 4, -1)]
    platforms += [f"{older}_{target.machine}" for older in _OLDER]
    own = f"cp{major}{minor}"
    return chain(cpython_tags(python, platforms=platforms), compatible_tags(python, own, platforms))


def _best(
    need: Requirement,
    there: Mapping[str, tuple[Version, frozenset[Tag]]],
    ranks: Mapping[Tag, int],
    target: Target,
) -> str:
    wanted = {
        file for file, (version, _) in there.items() if need.specifier.contains(version, prereleases=True)
    }
    if not wanted:
        raise BadRequest(
            f"there is no wheel of {need.name}{need.specifier} among those; add it, with all that it needs"
        )
    places = {
        file: (there[file][0], -min(ranks[tag] for tag in there[file][1] if tag in ranks))
        for file in wanted
        if there[file][1] & ranks.keys()
    }
    if not places:
        raise BadRequest(
            f"{', '.join(sorted(wanted))}: the card's system ({target.machine}, Python {target.python}) needs another "
            f"wheel of {need.name}; add one for it, or say with --machine and --python what it is"
        )
    return max(places, key=lambda file: places[file])


def _needs_of(name: str, wheel: bytes, extras: Iterable[str], target: Target) -> Iterator[Requirement]:
    try:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            (path,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
            texts = BytesParser().parsebytes(archive.read(path)).get_all("Requires-Dist") or []
    except (zipfile.BadZipFile, ValueError) as error:
        raise BadRequest(f"{name} is damaged ({error}); fetch it again") from None
    for need in map(Requirement, texts):
        where = [environment(target) | {"extra": extra} for extra in ("", *extras)]
        if need.marker is None or any(need.marker.evaluate(one) for one in where):
            yield need
