"""What a node keeps of its enrolment: who it is to the board, and by what it knows the board.

``NODE_STATE/enrolment`` is a link to the folder in force (0700, files 0600). A change writes a whole new folder and then
turns the link to it, so that a power cut at any moment leaves one that is complete.
"""

from __future__ import annotations

import logging
import os
import shutil
import ssl
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import Field

from callboard_core.errors import BadRequest, Failed
from callboard_core.link import Credential
from callboard_core.messages import Payload, parse
from callboard_core.runtime import write_private
from callboard_core.trust import pinned_context
from callboard_core.trust.enrolment import Enrolled, Renewed

__all__ = ["Enrolment", "Record", "Store"]

_log = logging.getLogger("callboard.enrolment")

_NAME = "enrolment"
_RECORD, _BUNDLE, _CERTIFICATE, _KEY, _PASSWORD = (
    "enrolment.json",
    "ca.pem",
    "node.crt",
    "node.key",
    "password",
)
#: Reads that may fall between two changes.
_TRIES = 3


class Record(Payload):
    """``enrolment.json``: what is no secret of an enrolment."""

    site: str
    id: str
    username: str = Field(description="whom the board knows the node as")
    addresses: list[str] = Field(description="host:HTTPS port, the one that answered last first")
    mqtt_port: int = Field(ge=1, le=65_535, description="MQTT over TLS")
    http_port: int = Field(ge=1, le=65_535, description="HTTPS")
    update_key: str = Field(description="Ed25519, base64: what signs updates")


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A node's enrolment at a board.

    Attributes:
        record: where the board is, and who the node is there.
        bundle: the board's authorities, PEM.
        certificate: the node's own, PEM.
        key: the key that belongs to it, PEM; never leaves this machine.
        password: for HTTP, and for MQTT where the certificate is not accepted.
        folder: where all that lies; None before it is stored.
    """

    record: Record
    bundle: str = field(repr=False)
    certificate: str = field(repr=False)
    key: str = field(repr=False)
    password: str = field(repr=False)
    folder: Path | None = None

    @classmethod
    def of(cls, answer: Enrolled, key: str) -> Enrolment:
        """Return the enrolment that a board's answer makes."""
        record = Record(
            site=answer.site,
            id=answer.id,
            username=answer.id,
            addresses=answer.addresses,
            mqtt_port=answer.mqtt_port,
            http_port=answer.http_port,
            update_key=answer.update_key,
        )
        return cls(record, answer.bundle, answer.certificate, key, answer.password)

    def renewed(self, answer: Renewed, key: str) -> Enrolment:
        """Return the enrolment with a new key and certificate, and what else the board said."""
        told = {"mqtt_port", "http_port", "update_key", "addresses"}
        record = self.record.model_copy(update=answer.model_dump(include=told))
        return Enrolment(record, answer.bundle, answer.certificate, key, self.password)

    def trusting(self, bundle: str) -> Enrolment:
        """Return the enrolment with other authorities."""
        return replace(self, bundle=bundle, folder=None)

    @property
    def credential(self) -> Credential:
        """What the node logs in with."""
        return Credential(self.record.username, self.password)

    def context(self, *, certified: bool = False) -> ssl.SSLContext:
        """Return what trusts only this board; ``certified`` shows the node's certificate as well.

        Raises:
            BadRequest: a file was damaged; the message says which.
        """
        if not certified or self.folder is None:
            return pinned_context(self.bundle)
        return pinned_context(self.bundle, certificate=self.folder / _CERTIFICATE, key=self.folder / _KEY)


class Store:
    """The enrolment in a node's state folder.

    Args:
        state: the node's state folder; made when something is written.
    """

    def __init__(self, state: Path) -> None:
        self.state = state
        self.path = state / _NAME

    def read(self) -> Enrolment | None:
        """Return the enrolment, None if there is none.

        Raises:
            Failed: it is damaged or cannot be read; the message says what to do.
        """
        for _ in range(_TRIES):
            folder = self.path.resolve()
            try:
                return _read(folder)
            except FileNotFoundError as error:
                if not self.path.exists():
                    return None
                if self.path.resolve() == folder:
                    raise _damaged(self.path, f"{error.filename} is missing") from None
            except (BadRequest, UnicodeDecodeError) as error:
                raise _damaged(self.path, str(error)) from None
            except OSError as error:
                raise Failed(f"the enrolment in {self.path} cannot be read: {error.strerror}") from None
        raise _damaged(self.path, "it changes all the time")

    def write(self, enrolment: Enrolment) -> Enrolment:
        """Replace the enrolment, whole or not at all; returns it as it is now stored.

        Raises:
            OSError: the folder cannot be written.
        """
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = self.path.resolve() if self.path.exists() else None
        folder = Path(tempfile.mkdtemp(prefix=f"{_NAME}-", dir=self.state))  # mode 0700
        try:
            _fill(folder, enrolment)
            self._turn_to(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._tidy({folder.resolve(), before})
        return replace(enrolment, folder=folder)

    def note(self, record: Record) -> None:
        """Replace what is no secret; does nothing if there is no enrolment any more."""
        if self.path.exists():
            write_private(self.path.resolve() / _RECORD, record.model_dump_json(indent=2) + "\n")

    def _turn_to(self, folder: Path) -> None:
        if self.path.is_dir() and not self.path.is_symlink():  # a copy made without links
            self.path.replace(Path(tempfile.mkdtemp(prefix=f"{_NAME}-", dir=self.state)))
        link = folder.with_name(f"{folder.name}.link")
        link.symlink_to(folder.name)
        link.replace(self.path)
        _sync(self.state)

    def _tidy(self, keep: set[Path | None]) -> None:
        """Remove what was left behind; somebody may just be reading what was in force before."""
        for found in self.state.glob(f"{_NAME}-*"):
            if found.is_symlink():
                found.unlink(missing_ok=True)
            elif found.resolve() not in keep:
                shutil.rmtree(found, ignore_errors=True)


def _fill(folder: Path, enrolment: Enrolment) -> None:
    contents = {
        _KEY: enrolment.key,
        _CERTIFICATE: enrolment.certificate,
        _BUNDLE: enrolment.bundle,
        _PASSWORD: enrolment.password + "\n",
        _RECORD: enrolment.record.model_dump_json(indent=2) + "\n",
    }
    for name, text in contents.items():
        write_private(folder / name, text)
    _sync(folder)


def _read(folder: Path) -> Enrolment:
    def text(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8")

    record = parse(Record, text(_RECORD))
    return Enrolment(record, text(_BUNDLE), text(_CERTIFICATE), text(_KEY), text(_PASSWORD).strip(), folder)


def _damaged(path: Path, why: str) -> Failed:
    return Failed(
        f"the enrolment in {path} is damaged: {why}; remove {path} and join the board again "
        "(`callboard node --join CODE`)"
    )


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
