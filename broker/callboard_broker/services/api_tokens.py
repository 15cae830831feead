"""Tokens for programs: each a part of one user's rights, shown once, for as long as that user is there."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import replace

from sqlalchemy import Connection

from callboard_broker.services.refusals import Notes
from callboard_broker.store import api_tokens
from callboard_broker.store.api_tokens import ApiTokenRecord
from callboard_core.board_http import TOKEN_PREFIX
from callboard_core.errors import BadRequest, NotFound, Overloaded

__all__ = ["ApiTokens", "digest", "is_token"]

#: Random bytes of a token.
_BYTES = 32
#: Tokens of all users together.
MOST = 10_000
#: Seconds within which the last use is noted once.
_TOUCH_EVERY = 60.0


def digest(token: str) -> str:
    """Return what is kept of a token: its SHA-256."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def is_token(password: str) -> bool:
    """Tell whether something looks like a token and not like a password."""
    return password.startswith(TOKEN_PREFIX) and len(password) == len(TOKEN_PREFIX) + -(-_BYTES * 4 // 3)


class ApiTokens:
    """Safe from any thread."""

    def __init__(self, notes: Notes, clock: Callable[[], float] = time.time) -> None:
        self._notes = notes
        self._clock = clock
        self._lock = threading.Lock()
        self._by_digest: dict[str, ApiTokenRecord] = {}

    def load(self, connection: Connection) -> None:
        """Take over the tokens of an earlier run."""
        self._by_digest = {record.digest: record for record in api_tokens.load(connection)}

    def listing(self, username: str | None = None) -> list[ApiTokenRecord]:
        """Return all tokens, or those of one user, oldest first."""
        with self._lock:
            found = [one for one in self._by_digest.values() if username in {None, one.username}]
        return sorted(found, key=lambda record: (record.created, record.id))

    def make(
        self, username: str, scope: Collection[str], *, note: str = "", expires: float | None = None
    ) -> tuple[str, ApiTokenRecord]:
        """Return a new token, which nobody can be shown again, and what is kept of it.

        Args:
            username: whose rights it has a part of.
            scope: which: of read, command, admin.
            note: what it is for.
            expires: Unix seconds; None for never.

        Raises:
            BadRequest: it would have expired already, or may do nothing.
            Overloaded: there are too many.
        """
        now = self._clock()
        if not scope:
            raise BadRequest("scope: name what the token may do: read, command or admin")
        if expires is not None and expires <= now:
            raise BadRequest("expires: this time is over; name one to come")
        token = TOKEN_PREFIX + secrets.token_urlsafe(_BYTES)
        record = ApiTokenRecord(
            secrets.token_hex(4), digest(token), username, note, tuple(scope), now, expires
        )
        with self._lock:
            if len(self._by_digest) >= MOST:
                raise Overloaded(f"there are {MOST} tokens already; remove some")
            self._by_digest[record.digest] = record
        self._notes.submit(("api token", record.id), lambda to: api_tokens.save(to, record))
        return token, record

    def find(self, found: str) -> ApiTokenRecord | None:
        """Return the token of a digest unless it has expired, and note its use."""
        record = self._by_digest.get(found)
        now = self._clock()
        if record is None or (record.expires is not None and record.expires <= now):
            return None
        if record.used is None or now - record.used >= _TOUCH_EVERY:
            self._touch(record, now)
        return record

    def _touch(self, record: ApiTokenRecord, now: float) -> None:
        with self._lock:
            if record.digest in self._by_digest:
                self._by_digest[record.digest] = replace(record, used=now)
        try:
            self._notes.submit(("api token used", record.id), lambda to: api_tokens.touch(to, record.id, now))
        except Overloaded:
            return  # the next use is noted

    def remove(self, token_id: str) -> ApiTokenRecord:
        """Make a token worthless.

        Raises:
            NotFound: there is none of this id.
        """
        with self._lock:
            record = next((one for one in self._by_digest.values() if one.id == token_id), None)
            if record is None:
                raise NotFound(f"there is no token {token_id!r}; `callboard token ls` shows their ids")
            del self._by_digest[record.digest]
        self._notes.submit(("api token", token_id), lambda to: api_tokens.remove(to, token_id))
        return record

    def remove_all(self, username: str) -> int:
        """Make all tokens of a user worthless; return how many there were."""
        found = self.listing(username)
        for record in found:
            self.remove(record.id)
        return len(found)
