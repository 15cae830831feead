"""Who is calling: passwords become tokens, tokens become somebody with a role."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection

from callboard_broker.services.brake import Brake
from callboard_broker.services.refusals import Notes
from callboard_broker.store import tokens
from callboard_broker.store.tokens import TokenRecord
from callboard_core.errors import Overloaded, Unauthorized

__all__ = ["Login", "Logins", "Person", "User", "Verifier"]

#: Seconds a token is good for, and how many of one user's are kept.
LIFETIME = 12 * 3600.0
PER_USER = 100
#: Passwords that may be in the check at a time; more are turned away rather than left to hold up other requests.
CHECKED_AT_ONCE = 10


class User(Protocol):
    """Whose credential it is."""

    @property
    def name(self) -> str:
        """The user's name."""

    @property
    def role(self) -> str:
        """viewer, operator, node, board or admin."""


class Verifier(Protocol):
    """Who knows the users."""

    def verify(self, username: str, password: str) -> User | None:
        """Return whose credential this is; may take a while."""

    def roles(self) -> Mapping[str, str]:
        """Return the role of every user that may log in."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who is calling."""

    username: str
    role: str

    @property
    def may_command(self) -> bool:
        """True for who may change anything."""
        return self.role in {"operator", "admin"}


@dataclass(frozen=True, slots=True)
class Login:
    """A fresh token; ``expires`` in Unix seconds."""

    token: str
    person: Person
    expires: float


class Logins:
    """Safe from any thread. ``verify`` blocks for as long as a password hash takes."""

    def __init__(
        self, verifier: Verifier, notes: Notes, *, brake: Brake, clock: Callable[[], float] = time.time
    ) -> None:
        self._verifier = verifier
        self._notes = notes
        self._brake = brake
        self._clock = clock
        self._lock = threading.Lock()
        # A hash takes memory and a core on purpose; two at a time leave room for the rest.
        self._hashing = threading.BoundedSemaphore(2)
        self._room = threading.BoundedSemaphore(CHECKED_AT_ONCE)
        self._tokens: dict[str, TokenRecord] = {}

    def load(self, connection: Connection) -> None:
        """Take over the logins of an earlier run."""
        self._tokens = {record.digest: record for record in tokens.load(connection)}

    def verify(self, username: str, password: str, address: str) -> Person:
        """Check a password.

        Args:
            username: who it claims to be.
            password: in clear.
            address: where the request comes from.

        Raises:
            Unauthorized: wrong, or the user is disabled.
            Overloaded: too many failures, and the message says how long to wait; or too many logins at a time.
        """
        key = (address, username[:100])
        wait = self._brake.wait(key, self._clock())
        if wait:
            raise Overloaded(f"too many failed logins; try again in {wait:.0f} s")
        user = self._check(username, password)
        if user is None:
            self._brake.failed(key, self._clock())
            raise Unauthorized("wrong user name or password")
        self._brake.succeeded(key)
        return Person(user.name, str(user.role))

    def _check(self, username: str, password: str) -> User | None:
        if not self._room.acquire(blocking=False):
            raise Overloaded("too many logins at a time; try again in a second")
        try:
            with self._hashing:
                return self._verifier.verify(username, password)
        finally:
            self._room.release()

    def begin(self, person: Person) -> Login:
        """Make a token."""
        token = secrets.token_urlsafe(32)
        record = TokenRecord(_digest(token), person.username, person.role, self._clock() + LIFETIME)
        with self._lock:
            gone = self._crowded_out(person.username)
            for old in gone:
                del self._tokens[old]
            self._tokens[record.digest] = record
        for old in gone:
            self._note_end(old)
        self._notes.submit(("token", record.digest), lambda connection: tokens.save(connection, record))
        return Login(token, person, record.expires)

    def identify(self, token: str) -> Person:
        """Return whose token it is.

        Raises:
            Unauthorized: nobody's (any more).
        """
        record = self._tokens.get(_digest(token))
        if record is None or record.expires <= self._clock():
            raise Unauthorized("the token is not valid (any more); log in again")
        # The role may have changed, or the user be gone, since the login.
        role = self._verifier.roles().get(record.username)
        if role is None:
            raise Unauthorized("this user may not log in any more")
        return Person(record.username, str(role))

    def end(self, token: str) -> None:
        """Make a token worthless."""
        digest = _digest(token)
        with self._lock:
            self._tokens.pop(digest, None)
        self._note_end(digest)

    def _note_end(self, digest: str) -> None:
        self._notes.submit(("token", digest), lambda connection: tokens.remove(connection, digest))

    def _crowded_out(self, username: str) -> list[str]:
        now = self._clock()
        expired = [record.digest for record in self._tokens.values() if record.expires <= now]
        own = [r for r in self._tokens.values() if r.username == username and r.expires > now]
        own.sort(key=lambda record: record.expires)
        return expired + [record.digest for record in own[: max(0, len(own) - PER_USER + 1)]]


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
