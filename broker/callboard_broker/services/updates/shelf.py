"""What was published for nodes: made into manifests with growing numbers, signed, and kept."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from callboard_broker.services.artifacts import Artifacts
from callboard_broker.services.updates.audience import Audience
from callboard_broker.store import updates as store
from callboard_broker.store.database import Database
from callboard_broker.store.updates import ManifestRecord
from callboard_core.errors import BadRequest, NotFound
from callboard_core.messages import parse, read_args
from callboard_core.settings import load_settings
from callboard_core.updates import Content, Manifest

__all__ = ["Draft", "Shelf"]

#: How the owners begin that pin artifacts for manifests.
_PIN = "update:"


class Draft(BaseModel):
    """What is to be published; its files are artifacts already."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["release", "config", "files"]
    files: list[Content] = Field(min_length=1)
    version: str = ""
    oldest: str = ""
    python: str = ""
    nodes: list[str] = Field(default_factory=list, description="only for these")
    restart: bool = True
    well_for: float = 5.0
    within: float = 60.0
    note: str = Field(default="", max_length=500)


class Shelf:
    """Manifests of one site.

    Args:
        site: the site's id.
        database: where they are kept.
        artifacts: where their files are.
        sign: signs a manifest's bytes with the board's update key.
        has_own_user: tells whether a node logs in as a user of its own.
        clock: Unix seconds.
    """

    def __init__(
        self,
        site: str,
        database: Database,
        artifacts: Artifacts,
        sign: Callable[[bytes], str],
        has_own_user: Callable[[str], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._site, self._database, self._artifacts, self._sign, self._clock = (
            site,
            database,
            artifacts,
            sign,
            clock,
        )
        self._audience = Audience(has_own_user)
        self._lock = threading.Lock()

    def load(self, connection: Connection) -> None:
        """Take over what was published in earlier runs."""
        for kind in ("config", "files"):
            for record in store.manifests(connection, kind):
                self._audience.add(parse(Manifest, record.manifest))

    def publish(self, draft: Draft, by: str) -> ManifestRecord:
        """Check, number, sign and keep a manifest.

        Raises:
            NotFound: a file is no artifact of this board.
            BadRequest: something does not fit; the message names it.
            Failed: the board cannot sign.
        """
        for one in draft.files:
            self._check_file(one)
        if draft.kind == "config":
            self._check_config(draft.files[0])
        with self._lock, self._database.write() as connection:
            number = store.last_number(connection) + 1
            manifest = read_args(
                Manifest,
                {**draft.model_dump(), "site": self._site, "number": number, "created": self._clock()},
            )
            text = manifest.model_dump_json()
            record = ManifestRecord(
                number, manifest.kind, manifest.version, manifest.created, by, text, self._sign(text.encode())
            )
            # Kept for good: a node that was away for a year still gets it.
            self._artifacts.pin(f"{_PIN}{number}", [one.sha256 for one in manifest.files])
            store.add_manifest(connection, record)
            self._audience.add(manifest)
        return record

    def was_pushed(self, sha256: str) -> bool:
        """Tell whether an artifact is a file or configuration that was pushed to nodes."""
        return self._audience.concerns(sha256)

    def is_for(self, sha256: str, node_user: str | None) -> bool:
        """Tell whether an artifact that was pushed is for a node that logs in as ``node_user``; None is no node.

        Others may have it only if somebody else than nodes that it was pushed to needs it: a job, for one.
        """
        if node_user is not None and self._audience.includes(sha256, node_user):
            return True
        return any(not owner.startswith(_PIN) for owner in self._artifacts.owners(sha256))

    def get(self, number: int) -> ManifestRecord:
        """Return a manifest.

        Raises:
            NotFound: there is none of this number.
        """
        with self._database.read() as connection:
            found = store.manifest(connection, number)
        if found is None:
            raise NotFound(f"nothing was published under number {number}")
        return found

    def listing(self, kind: str | None = None, limit: int = 100) -> list[ManifestRecord]:
        """Return manifests, newest first."""
        with self._database.read() as connection:
            return store.manifests(connection, kind, limit)

    def _check_file(self, file: Content) -> None:
        record = self._artifacts.record(file.sha256)
        if record.size != file.size:
            raise BadRequest(f"{file.name} has {record.size} bytes, not {file.size}")

    def _check_config(self, file: Content) -> None:
        """A configuration that no node can read is not worth sending."""
        with tempfile.TemporaryDirectory(prefix="callboard-config-") as folder:
            path = Path(folder) / file.name
            path.write_bytes(b"".join(self._artifacts.read(file.sha256)))
            try:
                load_settings(file=path, env={})
            except BadRequest as error:
                raise BadRequest(error.message.replace(str(path), file.name)) from None
