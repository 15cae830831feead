"""Updates of nodes, as board and nodes tell each other: the signed manifest, and how far a node is."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, Field, model_validator

from callboard_core.errors import BadPayload, Unauthorized
from callboard_core.messages import Payload, Time, parse
from callboard_core.topics import ID_PATTERN

__all__ = [
    "ENDED",
    "UPDATE",
    "Content",
    "Manifest",
    "Report",
    "Signed",
    "Stage",
    "Tailed",
    "open_signed",
]

#: The action of a node that takes an update.
UPDATE = "update"
#: Files of one update, and bytes of each and of all.
MOST_FILES = 300
LARGEST = 256 * 1024 * 1024
LARGEST_ALL = 1024 * 1024 * 1024

_NAME = re.compile(r"[A-Za-z0-9_.+!-]{1,200}")


def _file_name(value: str) -> str:
    if not _NAME.fullmatch(value) or value.startswith("."):
        raise BadPayload(f"name: {value[:80]!r} is no plain file name", key="name")
    return value


def _target(value: str) -> str:
    path = PurePosixPath(value)
    if value and (not path.is_absolute() or ".." in path.parts or "\0" in value or str(path) != value):
        raise BadPayload(f"path: {value[:80]!r} must be absolute, and without '..'", key="path")
    return value


def _version(value: str) -> str:
    try:
        Version(value or "0")
    except InvalidVersion:
        raise BadPayload(f"version: {value[:80]!r} is no version, such as 0.2.0", key="version") from None
    return value


def _specifier(value: str) -> str:
    try:
        SpecifierSet(value)
    except InvalidSpecifier:
        raise BadPayload(f"python: {value[:80]!r} says nothing such as >=3.11", key="python") from None
    return value


Id = Annotated[str, Field(pattern=f"^{ID_PATTERN}$", max_length=63)]
VersionText = Annotated[str, Field(max_length=100), AfterValidator(_version)]


class Content(Payload):
    """One file of an update, which the board keeps as an artifact."""

    name: Annotated[str, AfterValidator(_file_name)]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0, le=LARGEST, description="bytes")
    path: Annotated[str, AfterValidator(_target)] = Field(
        default="", description="where a pushed file goes; a folder's own name for it if missing"
    )


class Manifest(Payload):
    """What an update is. Its exact bytes are signed with the board's update key.

    Numbers grow with every manifest of a board: a node takes none that is not newer than the last one of its kind
    with which it was well.
    """

    format: Literal[1] = 1
    site: str
    number: int = Field(ge=1, le=2**53)
    kind: Literal["release", "config", "files"]
    created: Time
    files: list[Content] = Field(min_length=1, max_length=MOST_FILES)
    version: VersionText = Field(default="", description="of callboard, for a release")
    oldest: VersionText = Field(default="", description="the version that a node must have at least")
    python: Annotated[str, AfterValidator(_specifier)] = Field(
        default="", max_length=100, description="the interpreters that it runs on"
    )
    nodes: list[Id] = Field(
        default_factory=list, max_length=10_000, description="only for these; for all if empty"
    )
    restart: bool = Field(
        default=True, description="whether the node is started anew, and has to get healthy"
    )
    well_for: float = Field(
        default=5.0, ge=0, le=3600, description="seconds on the board that count as healthy"
    )
    within: float = Field(default=60.0, ge=5, le=3600, description="seconds until it must be healthy")
    note: str = Field(default="", max_length=500)

    @model_validator(mode="after")
    def _is_whole(self) -> Manifest:
        if self.kind == "release" and not self.version:
            raise BadPayload("version: a release has one", key="version")
        if self.kind == "config" and len(self.files) != 1:
            raise BadPayload("files: a configuration is one file", key="files")
        if len({one.path or one.name for one in self.files}) != len(self.files):
            raise BadPayload("files: two have one name", key="files")
        if sum(one.size for one in self.files) > LARGEST_ALL:
            raise BadPayload(f"files: together over {LARGEST_ALL} bytes", key="files")
        return self


class Signed(Payload):
    """A manifest as it is sent: its text, whose bytes are signed, and the signature."""

    id: str = Field(min_length=1, max_length=100, description="of this update of this node")
    manifest: str = Field(max_length=512 * 1024)
    signature: str = Field(max_length=200, description="Ed25519, base64")


class Stage(StrEnum):
    """How far a node is with an update; what it says itself, and what the board knows of one that says nothing."""

    WAITING = "waiting"
    SENT = "sent"
    FETCHING = "fetching"
    INSTALLING = "installing"
    TRIAL = "trial"
    HEALTHY = "healthy"
    ROLLED_BACK = "rolled-back"
    FAILED = "failed"
    CANCELLED = "cancelled"


#: The stages that end an update of a node.
ENDED = frozenset({Stage.HEALTHY, Stage.ROLLED_BACK, Stage.FAILED, Stage.CANCELLED})


class Report(Payload):
    """How an update of a node stands: ``data`` of the state of its action ``update``."""

    id: str
    number: int
    kind: str
    stage: Stage
    version: str = Field(default="", description="of the release, if it is one")
    progress: float | None = Field(default=None, ge=0, le=1, description="of fetching")
    reason: str = Field(default="", description="why it failed or was undone")
    running: str = Field(default="", description="the version that runs")


class Tailed(Payload):
    """Lines of a node's log, oldest first."""

    lines: list[str]
    next: int = Field(description="ask on with this")


def open_signed(signed: Signed, key: str) -> Manifest:
    """Return the manifest if the key's owner signed exactly this.

    Args:
        signed: what came.
        key: the board's public update key.

    Raises:
        Unauthorized: there is no key, or the signature is another's.
        BadPayload: it is signed, and not understood here.
    """
    from callboard_core.trust.signing import verify  # noqa: PLC0415 - it loads slowly

    if not key:
        raise Unauthorized(
            "this node has not joined a board, so it knows no key that updates are signed with"
        )
    verify(key, signed.manifest.encode(), signed.signature)
    return parse(Manifest, signed.manifest)
