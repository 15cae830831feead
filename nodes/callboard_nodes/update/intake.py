"""The node's part of an update: take the command, fetch what it names, hand it to root, and tell how it goes.

Runs beside the node's things, with the rights of the node's own user. What it accepts is on the disk before it is answered for,
so that a node that was switched off meanwhile goes on fetching where it was.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from typing import Protocol

from pydantic import JsonValue

from callboard_core.artifacts import HttpArtifacts
from callboard_core.callee import Callee, Request
from callboard_core.calls.artifacts import BYTES, ArtifactRef
from callboard_core.cards import ActionCard
from callboard_core.errors import BadRequest, CallboardError, Conflict, Unauthorized
from callboard_core.link import Link
from callboard_core.messages import Level, State, parse, read_args
from callboard_core.presence import Presence
from callboard_core.runtime import write_private
from callboard_core.settings import Settings
from callboard_core.topics import Kind
from callboard_core.updates import UPDATE, Content, Manifest, Report, Signed, Stage, open_signed
from callboard_nodes.install.layout import Layout
from callboard_nodes.update.apply import Request as Handover
from callboard_nodes.update.apply import folders_of
from callboard_nodes.update.checking import Here, check, check_allowed, check_trusted, opened, wheels_for
from callboard_nodes.update.rollback import ENDS, Book, Journal

__all__ = ["Desk", "Intake", "board_key", "report_of"]

_log = logging.getLogger("callboard.update")

#: Seconds between two looks at the journal: while an update is under way, and otherwise.
_BUSY, _IDLE = 0.2, 2.0
#: Seconds between two reports of how far fetching is.
_TELL = 0.5
#: Seconds that the broker has to answer a node that takes itself for well.
_PATIENCE = 5.0
_STAGES = {
    "copied": Stage.INSTALLING,
    "installed": Stage.INSTALLING,
    "switching": Stage.INSTALLING,
    "trial": Stage.TRIAL,
    "undoing": Stage.TRIAL,
    "healthy": Stage.HEALTHY,
    "rolled-back": Stage.ROLLED_BACK,
    "failed": Stage.FAILED,
}
_WORDS = {Stage.HEALTHY: "done", Stage.ROLLED_BACK: "failed", Stage.FAILED: "failed"}


class Desk(Protocol):
    """What is needed of the running node."""

    link: Link
    presence: Presence
    callee: Callee
    artifacts: HttpArtifacts


def board_key(settings: Settings) -> str:
    """Return the board's update key as the node was told when it joined; empty if it has not joined."""
    try:
        found = json.loads((settings.node.state / "enrolment" / "enrolment.json").read_bytes())
        return str(found["update_key"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def report_of(journal: Journal) -> Report:
    """Return what the board is told of a journal."""
    return Report(
        id=journal.id,
        number=journal.number,
        kind=journal.kind,
        stage=_STAGES.get(journal.state, Stage.INSTALLING),
        version=journal.version,
        reason=journal.reason,
        running=version("callboard"),
    )


class Intake:
    """Takes updates for an installed node; a part of the running node.

    Args:
        desk: the node.
        settings: what is configured.
        layout: where the node is installed.
        key: tells the key that updates must be signed with.
    """

    def __init__(
        self, desk: Desk, settings: Settings, layout: Layout, *, key: Callable[[], str] | None = None
    ) -> None:
        self._desk, self._settings, self._layout = desk, settings, layout
        self._book = Book(layout.root)
        self._key = key or (lambda: board_key(settings))
        self._wanted = layout.inbox / "wanted.json"
        self._since: float | None = None
        self._told: Report | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="update", daemon=True)

    # -- life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Offer the action, and go on with what was under way."""
        link = self._desk.link
        link.on_connect(self._connected)
        link.on_disconnect(lambda _reason: self._disconnected())
        self._desk.callee.handle(Kind.ACTION, UPDATE, self.take, timeout=30.0)
        self._desk.presence.pin(
            ActionCard(
                name=UPDATE,
                epoch=0,
                label="Update",
                description="Takes a signed update; the board sends it (`callboard update`, `callboard push`).",
                tags=["system"],
                parameters=Signed.model_json_schema(),
            )
        )
        self._tell(self._journalled() or Report(id="", number=0, kind="", stage=Stage.WAITING))
        self._thread.start()

    async def stop(self) -> None:
        """End it; what is being fetched is gone on with at the next start."""
        self._stopped = True
        self._wake.set()

    def _connected(self) -> None:
        self._since = time.monotonic()

    def _disconnected(self) -> None:
        self._since = None

    # -- the command -------------------------------------------------------------------------------------------

    def take(self, request: Request) -> JsonValue:
        """Accept an update, or say why not.

        Raises:
            Unauthorized: it is not signed with the board's key, or root does not trust that one.
            Forbidden: this node's ``node.allow`` does not allow it, or it is for others.
            Conflict: it is not newer than what is here, or another one is under way.
            BadRequest: it does not fit this machine.
        """
        signed = read_args(Signed, request.args)
        with self._lock:
            report = self._accept(signed)
        self._wake.set()
        return report.model_dump(mode="json")

    def _accept(self, signed: Signed) -> Report:
        manifest = self._opened(signed)
        check_allowed(manifest, self._settings.node.allow)
        journal = self._book.read()
        if journal is not None and journal.id == signed.id:
            return report_of(journal)
        waiting = self._waiting()
        if waiting is not None and waiting.id == signed.id:
            return _fetching(signed, manifest, 0.0)
        if waiting is not None or self._layout.request.exists() or (journal and journal.state not in ENDS):
            raise Conflict("another update is under way on this node; wait until it has ended")
        if self._book.pins()["numbers"].get(manifest.kind) == manifest.number:
            return _fetching(signed, manifest, None, stage=Stage.HEALTHY)  # it has it, and is well with it
        check(manifest, self._here())
        self._layout.inbox.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self._wanted, signed.model_dump_json())
        _log.info("update %s is accepted: %s %d", signed.id, manifest.kind, manifest.number)
        return _fetching(signed, manifest, 0.0)

    def _opened(self, signed: Signed) -> Manifest:
        """Return the manifest if root will take it; what root knows is newer than what the node was told when it joined."""
        told, pinned = self._key(), self._book.pins()["key"]
        if pinned and told:
            with suppress(Unauthorized, BadRequest):
                return open_signed(signed, pinned)
        manifest = opened(signed, told)
        check_trusted(pinned, told)
        return manifest

    def _here(self) -> Here:
        return Here(
            site=self._desk.link.site,
            node=self._settings.node.id,
            version=version("callboard"),
            numbers=self._book.pins()["numbers"],
            folders=folders_of(self._settings),
        )

    def _waiting(self) -> Signed | None:
        try:
            return parse(Signed, self._wanted.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, CallboardError) as error:
            _log.warning("%s is dropped: %s", self._wanted, error)
            self._wanted.unlink(missing_ok=True)
            return None

    # -- working -----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._stopped:
            busy = False
            try:
                busy = self._turn()
            except (OSError, CallboardError) as error:
                _log.warning("updates: %s", error)
            self._wake.wait(_BUSY if busy else _IDLE)
            self._wake.clear()

    def _turn(self) -> bool:
        """Do what there is to do; tells whether something is under way."""
        signed = self._waiting()
        if signed is not None:
            self._fetch(signed)
        journal = self._book.read()
        if journal is not None:
            self._tell(report_of(journal))
        # Before that, the process that is to be replaced may still run.
        if journal is not None and journal.state == "trial":
            self._prove(journal)
        return self._layout.request.exists() or (journal is not None and journal.state not in ENDS)

    def _fetch(self, signed: Signed) -> None:
        manifest = parse(Manifest, signed.manifest)
        try:
            self._fetch_all(signed, manifest)
        except CallboardError as error:
            self._tell(_fetching(signed, manifest, None, stage=Stage.FAILED, reason=error.message))
        except OSError as error:
            self._tell(_fetching(signed, manifest, None, stage=Stage.FAILED, reason=str(error)))
        else:
            write_private(self._layout.request, Handover(signed=signed).model_dump_json())
            self._tell(_fetching(signed, manifest, 1.0, stage=Stage.INSTALLING))
        self._wanted.unlink(missing_ok=True)

    def _fetch_all(self, signed: Signed, manifest: Manifest) -> None:
        files = wheels_for(manifest.files) if manifest.kind == "release" else manifest.files
        self._tidy({one.sha256 for one in files})
        meter = _Meter(
            sum(one.size for one in files), lambda part: self._tell(_fetching(signed, manifest, part))
        )
        for one in files:
            if self._stopped:
                raise Conflict("the node was stopped")
            ref = ArtifactRef(
                sha256=one.sha256, size=one.size, type=BYTES, url=f"/api/v1/artifacts/{one.sha256}"
            )
            self._desk.artifacts.get_file(ref, self._layout.inbox / one.sha256, progress=meter.within(one))

    def _tidy(self, keep: set[str]) -> None:
        """Remove what earlier updates have left; what this one needs, too, is not fetched again."""
        for file in self._layout.inbox.iterdir():
            if len(file.name.partition(".")[0]) == 64 and file.name not in keep:  # noqa: PLR2004 - a SHA-256
                with suppress(OSError):
                    file.unlink()

    def _journalled(self) -> Report | None:
        journal = self._book.read()
        return None if journal is None else report_of(journal)

    # -- telling -----------------------------------------------------------------------------------------------

    def _prove(self, journal: Journal) -> None:
        """Leave a mark once this version has been on the board for long enough, and the broker answers it."""
        since = self._since
        if since is None or time.monotonic() - since < journal.well_for or self._is_marked(journal):
            return
        self._desk.link.round_trip(_PATIENCE).result()
        if self._since == since:
            mark = {"id": journal.id, "version": version("callboard")}
            self._layout.inbox.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self._layout.health, json.dumps(mark))

    def _is_marked(self, journal: Journal) -> bool:
        try:
            found = json.loads(self._layout.health.read_bytes())
        except (OSError, ValueError):
            return False
        return isinstance(found, dict) and found.get("id") == journal.id

    def _tell(self, report: Report) -> None:
        if report == self._told:
            return
        self._told = report
        level = Level.ERROR if report.reason else Level.NORMAL
        word = "idle" if not report.id else _WORDS.get(report.stage, "running")
        state = State(
            v=word, t=time.time(), level=level, data=report.model_dump(mode="json", exclude_none=True)
        )
        with suppress(CallboardError):  # it goes out at the next connect
            self._desk.presence.state(Kind.ACTION, UPDATE, state)


class _Meter:
    """Tells how much of all files is there, not too often."""

    def __init__(self, total: int, tell: Callable[[float], None]) -> None:
        self._total, self._tell = max(1, total), tell
        self._there: dict[str, int] = {}
        self._last = 0.0

    def within(self, file: Content) -> Callable[[int, int], None]:
        """Return what is to be told how much of a file is there."""

        def note(there: int, _of: int) -> None:
            self._there[file.sha256] = there
            now = time.monotonic()
            if now - self._last >= _TELL:
                self._last = now
                self._tell(min(1.0, sum(self._there.values()) / self._total))

        return note


def _fetching(
    signed: Signed,
    manifest: Manifest,
    part: float | None,
    *,
    stage: Stage = Stage.FETCHING,
    reason: str = "",
) -> Report:
    return Report(
        id=signed.id,
        number=manifest.number,
        kind=manifest.kind,
        stage=stage,
        version=manifest.version,
        progress=None if part is None else round(part, 3),
        reason=reason,
        running=version("callboard"),
    )
