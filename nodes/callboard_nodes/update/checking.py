"""Whether a node takes an update. Pure: the node asks before it fetches anything, and root asks again before it acts."""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from packaging.specifiers import SpecifierSet
from packaging.tags import sys_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from callboard_core.errors import BadRequest, Conflict, Forbidden, Unauthorized
from callboard_core.updates import Content, Manifest, Signed, open_signed

__all__ = ["Here", "check", "check_allowed", "check_trusted", "opened", "target_of", "wheels_for"]

#: What mends every trouble with the key that updates are signed with; root believes nothing else.
_REMEDY = "on the machine, run `sudo callboard node --install --join CODE` with a code that `callboard join` makes on the board"


@dataclass(frozen=True)
class Here:
    """What counts on this node.

    Attributes:
        site: the board's site.
        node: this node's id; None where it is not known, and any manifest for some nodes will do.
        version: of callboard, as it runs.
        numbers: the newest manifests with which the node was well, by their kind.
        folders: where files may be put; the first is where those go that name no place.
        python: the interpreter's version.
    """

    site: str
    node: str | None
    version: str
    numbers: Mapping[str, int]
    folders: tuple[str, ...] = ()
    python: str = platform.python_version()


def check(manifest: Manifest, here: Here) -> None:
    """Return if the node takes it.

    Raises:
        Conflict: it is older than what the node has.
        Forbidden: it is meant for others, or puts files where none are taken.
        BadRequest: it does not fit this machine.
    """
    if manifest.site != here.site:
        raise Forbidden(f"the update is for site {manifest.site}, and this node is at {here.site}")
    if manifest.nodes and here.node is not None and here.node not in manifest.nodes:
        raise Forbidden(f"the update is for other nodes, not for {here.node}")
    last = here.numbers.get(manifest.kind, 0)
    if manifest.number <= last:
        raise Conflict(
            f"number {manifest.number} is not newer than {last}, with which this node was well; "
            "old updates are not taken again: publish a new one"
        )
    match manifest.kind:
        case "release":
            _check_release(manifest, here)
        case "files":
            for one in manifest.files:
                target_of(one, here.folders)


def check_allowed(manifest: Manifest, allow: Collection[str]) -> None:
    """Return if a node whose ``node.allow`` this is lets itself be changed so.

    Raises:
        Forbidden: it does not; the message says what is missing.
    """
    need = "update" if manifest.kind == "release" else "push"
    if need not in allow:
        raise Forbidden(f"this node does not allow it: {need} is not in its node.allow")


def check_trusted(pinned: str, told: str | None = None) -> None:
    """Return if root of this machine takes the updates of a board.

    Args:
        pinned: the update key that root knows from the join code; empty if it knows none.
        told: the one that the board told the node; None where only what root knows counts.

    Raises:
        Unauthorized: it does not; the message says what to do on the machine.
    """
    if pinned and told in {None, pinned}:
        return
    what = (
        "knows no board whose updates it could take" if not pinned else "trusts the updates of another board"
    )
    raise Unauthorized(f"root of this machine {what}; {_REMEDY}")


def opened(signed: Signed, key: str) -> Manifest:
    """Return the manifest if the key's owner signed exactly this.

    Raises:
        Unauthorized: there is no key, or the signature is another's; the message says what to do on the machine.
        BadPayload: it is signed, and not understood here.
    """
    try:
        return open_signed(signed, key)
    except Unauthorized as error:
        raise Unauthorized(f"{error.message}; if the board has another update key now, {_REMEDY}") from None


def _check_release(manifest: Manifest, here: Here) -> None:
    if Version(manifest.version) < Version(here.version):
        raise Conflict(
            f"version {manifest.version} is older than {here.version}, which runs here; downgrades are refused"
        )
    if manifest.oldest and Version(here.version) < Version(manifest.oldest):
        raise BadRequest(
            f"version {manifest.version} can only follow {manifest.oldest} or newer, and {here.version} runs here; "
            "update to that one first"
        )
    if manifest.python and not SpecifierSet(manifest.python).contains(here.python, prereleases=True):
        raise BadRequest(f"the update needs Python {manifest.python}, and this machine has {here.python}")
    if not any(one.name.startswith("callboard-") for one in wheels_for(manifest.files)):
        raise BadRequest("the update has no wheel of callboard that fits this machine; publish one for it")


def wheels_for(files: Iterable[Content]) -> list[Content]:
    """Return the wheels that fit this machine, of each distribution the one that fits best."""
    rank = {tag: index for index, tag in enumerate(sys_tags())}
    best: dict[str, tuple[int, Content]] = {}
    for one in files:
        try:
            name, _, _, tags = parse_wheel_filename(one.name)
        except InvalidWheelFilename:
            continue
        place = min((rank[tag] for tag in tags if tag in rank), default=None)
        if place is not None and (name not in best or place < best[name][0]):
            best[name] = place, one
    return [one for _, one in best.values()]


def target_of(file: Content, folders: tuple[str, ...]) -> str:
    """Return where a pushed file goes.

    Raises:
        Forbidden: not into one of the folders; the message names them.
    """
    if not folders:
        raise Forbidden("this node takes no files; name folders for them in its node.files")
    path = PurePosixPath(file.path or f"{folders[0]}/{file.name}")
    if ".." in path.parts or not any(
        path.is_relative_to(folder) and str(path) != folder for folder in folders
    ):
        raise Forbidden(f"{path} is not in a folder where this node takes files: {', '.join(folders)}")
    return str(path)
