"""The audit log: who did what, from where, when, and with what result. Safe from any thread; never blocks who notes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from callboard_broker.services.refusals import Notes
from callboard_broker.store import audit
from callboard_broker.store.audit import AuditRecord, Wanted
from callboard_broker.store.database import Database
from callboard_core.errors import Overloaded

__all__ = ["Audit", "AuditRecord", "Request", "Wanted"]

#: Records that may wait to be written; more are counted, and the count is written.
WAITING = 10_000
#: Of records that are alike but for their time and detail, so many are kept apart in one write; further ones are counted.
#: What strangers are refused is alike by address.
APART = 20
_STRANGERS = frozenset({"login", "enrol.refused"})
#: Longest text that is kept, in characters.
_TEXT = 500


@dataclass
class Request:
    """The HTTP request that is being answered: what is noted meanwhile comes from it."""

    who: str = ""
    origin: str = ""
    noted: bool = False


_request: ContextVar[Request | None] = ContextVar("audited_request", default=None)


class Audit:
    """Notes are written in batches by the board's one writer."""

    def __init__(self, database: Database, notes: Notes, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._notes = notes
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: list[AuditRecord] = []
        self._alike: dict[tuple[str, ...], list[int]] = {}
        self._left_out = 0
        self._last = 0
        self._submitted = False  # what waits will be written

    def load(self, connection: Connection) -> None:
        """Go on where the last run ended."""
        self._last = audit.last_id(connection)

    def note(
        self,
        who: str,
        what: str,
        subject: str = "",
        origin: str = "",
        result: str = "ok",
        detail: str = "",
        *,
        count: int = 1,
        t: float | None = None,
    ) -> None:
        """Note that somebody did something, or tried to.

        Args:
            who: the user; empty for whoever asks the HTTP request that is being answered.
            what: a verb such as ``login`` or ``user.add``.
            subject: what it was done to.
            origin: the address it came from; empty for that of the HTTP request that is being answered.
            result: ``ok``, or the code of an error.
            detail: one sentence.
            count: how many alike this stands for.
            t: Unix seconds; now if missing.
        """
        asked = _request.get()
        if asked is not None:
            asked.noted = True
            who, origin = who or asked.who, origin or asked.origin
        self._add(
            AuditRecord(
                t=self._clock() if t is None else t,
                who=_clean(who),
                origin=_clean(origin),
                what=_clean(what),
                subject=_clean(subject),
                result=_clean(result),
                detail=_clean(detail),
                count=count,
            )
        )

    @contextmanager
    def asked(self) -> Iterator[Request]:
        """Answer an HTTP request within this block; what it yields is told who asks."""
        request = Request()
        token = _request.set(request)
        try:
            yield request
        finally:
            _request.reset(token)

    def find(
        self, wanted: Wanted, *, before: int | None = None, after: int | None = None, limit: int
    ) -> list[AuditRecord]:
        """Return stored records: newest first, or oldest first beyond the id ``after``."""
        with self._database.read() as connection:
            return audit.find(connection, wanted, before=before, after=after, limit=limit)

    def _add(self, record: AuditRecord) -> None:
        with self._lock:
            places = self._alike.setdefault(_likeness(record), [])
            if len(places) >= APART:
                last = self._waiting[places[-1]]
                self._waiting[places[-1]] = _together(last, record)
            elif len(self._waiting) < WAITING:
                places.append(len(self._waiting))
                self._append(record)
            else:
                self._left_out += record.count
            if self._submitted:
                return
            self._submitted = True
        try:
            self._notes.submit("audit", self._save)
        except Overloaded:
            self._submitted = False  # it waits here; the next one that is noted takes it along

    def _append(self, record: AuditRecord) -> None:
        self._last += 1
        self._waiting.append(replace(record, id=self._last))

    def _save(self, connection: Connection) -> None:
        # What was written counts as written once it is found there: this job is run again if its transaction fails.
        stored = audit.last_id(connection)
        with self._lock:
            self._submitted = False
            self._alike.clear()
            self._waiting = [record for record in self._waiting if record.id > stored]
            if self._left_out:
                detail = "so many further records did not find room"
                full = AuditRecord(self._clock(), "board", "", "audit.full", "", "overloaded", detail)
                self._append(replace(full, count=self._left_out))
                self._left_out = 0
            records = list(self._waiting)
        audit.add(connection, records)


def _likeness(record: AuditRecord) -> tuple[str, ...]:
    """Of what strangers are refused all that comes from one address is alike, whatever names they think of."""
    if record.what in _STRANGERS and record.result != "ok":
        return (record.what, record.origin.partition(" ")[0], record.result)
    return (record.who, record.origin, record.what, record.subject, record.result)


def _together(one: AuditRecord, other: AuditRecord) -> AuditRecord:
    """One record for both, with the later one's time."""
    both = replace(other, count=one.count + other.count, id=one.id)
    if (one.who, one.subject) == (other.who, other.subject):
        return both
    return replace(
        both, who="", subject="", origin=other.origin.partition(" ")[0], detail="under several names"
    )


def _clean(text: str) -> str:
    if text.isascii() and "\0" not in text and len(text) <= _TEXT:
        return text  # nearly always
    # PostgreSQL stores no NUL, and no half of a surrogate pair can be written.
    clean = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
    return clean if len(clean) <= _TEXT else clean[: _TEXT - 1] + "\N{HORIZONTAL ELLIPSIS}"
