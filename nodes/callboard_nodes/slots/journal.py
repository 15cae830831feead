"""What happened to one attempt, on disk until the board has it: so neither its outage nor ours loses an event."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from callboard_core.errors import BadRequest
from callboard_core.farm.messages import Assignment, AttemptEvent, as_args

__all__ = ["FINAL", "Entry", "Journal", "folder_of"]

_log = logging.getLogger("callboard.slots")

#: Events that end an attempt.
FINAL = frozenset({"done", "failed", "cancelled"})
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}")
_FILE = "journal"


def folder_of(attempts: Path, attempt: str) -> Path:
    """Return the folder of an attempt.

    Raises:
        BadRequest: the id is no name for a folder.
    """
    if not _ID.fullmatch(attempt):
        raise BadRequest(f"attempt: {attempt!r} is no id; use letters, digits and -_.:")
    return attempts / attempt


@dataclass(slots=True)
class Entry:
    """An event, and the files in the attempt's folder that are to be stored before it is told."""

    event: AttemptEvent
    file: str | None = None
    thumbnail: str | None = None


class Journal:
    """The events of one attempt, numbered from 1 without a gap.

    Args:
        folder: the attempt's own; made if missing.
        assignment: what the attempt is about.
        slot: who makes it.

    Attributes:
        acknowledged: the last event the board has.
        torn: the disk refused something; events since then are in memory only.
    """

    def __init__(self, folder: Path, assignment: Assignment, slot: str) -> None:
        self.folder, self.assignment, self.slot = folder, assignment, slot
        self.entries: list[Entry] = []
        self.acknowledged = 0
        self.torn = False
        self._file: int | None = None

    @classmethod
    def create(cls, folder: Path, assignment: Assignment, slot: str) -> Journal:
        """Begin a journal.

        Raises:
            OSError: the disk refuses.
        """
        folder.mkdir(parents=True, exist_ok=False)
        found = cls(folder, assignment, slot)
        found._write({"slot": slot, "assignment": as_args(assignment)})
        return found

    @classmethod
    def load(cls, folder: Path) -> Journal | None:
        """Take up what an earlier process wrote; None if it never got so far, or cannot be read."""
        try:
            lines = (folder / _FILE).read_bytes().split(b"\n")
            head = json.loads(lines[0])
            found = cls(folder, Assignment.model_validate(head["assignment"]), str(head["slot"]))
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return None
        for line in lines[1:]:
            if line:
                found._take(line)
        return found

    @property
    def seq(self) -> int:
        """The number of the last event."""
        return self.entries[-1].event.seq if self.entries else self.acknowledged

    @property
    def ended(self) -> bool:
        """True when the last event ends the attempt."""
        return bool(self.entries) and self.entries[-1].event.what in FINAL

    @property
    def waiting(self) -> Sequence[Entry]:
        """What the board does not have, as far as we know."""
        return [entry for entry in self.entries if entry.event.seq > self.acknowledged]

    def append(
        self, event: dict[str, Any], *, file: str | None = None, thumbnail: str | None = None
    ) -> Entry:
        """Add an event; it gets the next number. What follows the end of the attempt is left out."""
        entry = Entry(AttemptEvent.model_validate({**event, "seq": self.seq + 1}), file, thumbnail)
        if self.ended:
            return entry
        self.entries.append(entry)
        self._note({"event": as_args(entry.event), "file": file, "thumbnail": thumbnail})
        return entry

    def replace(self, entry: Entry, event: AttemptEvent) -> None:
        """Tell something else under the number of an event that was not sent, or now with what was stored."""
        entry.event, entry.file, entry.thumbnail = event, None, None
        self._note({"event": as_args(event), "file": None, "thumbnail": None})

    def acknowledge(self, seq: int) -> None:
        """Note that the board has everything up to an event."""
        if seq > self.acknowledged:
            self.acknowledged = min(seq, self.seq)
            self.entries = [entry for entry in self.entries if entry.event.seq >= self.acknowledged]
            self._note({"acknowledged": self.acknowledged})

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _take(self, line: bytes) -> None:
        try:
            found = json.loads(line)
            if "acknowledged" in found:
                self.acknowledged = int(found["acknowledged"])
                return
            event = AttemptEvent.model_validate(found["event"])
        except (ValueError, KeyError, TypeError, ValidationError):
            _log.warning("a damaged line in the journal of attempt %s is left out", self.assignment.attempt)
            return
        entry = Entry(event, found.get("file"), found.get("thumbnail"))
        self.entries = [one for one in self.entries if one.event.seq != event.seq] + [entry]
        self.entries.sort(key=lambda one: one.event.seq)

    def _note(self, what: dict[str, Any]) -> None:
        if self.torn:
            return
        try:
            self._write(what)
        except OSError as error:
            self.torn = True
            _log.warning("the journal of attempt %s cannot be kept: %s", self.assignment.attempt, error)

    def _write(self, what: dict[str, Any]) -> None:
        if self._file is None:
            flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
            self._file = os.open(self.folder / _FILE, flags, 0o600)
        data = json.dumps(what, ensure_ascii=False).encode() + b"\n"
        if os.write(self._file, data) != len(data):
            raise OSError("no room for the whole of it")
