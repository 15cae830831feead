"""Who is calling: passwords become tokens, tokens become somebody with a role."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy import Connection

from callboard_broker.services.api_tokens import ApiTokens, digest
from callboard_broker.services.brake import Brake
from callboard_broker.services.guessing import Familiar, Room, Sought
from callboard_broker.services.refusals import Notes
from callboard_broker.store import tokens
from callboard_broker.store.tokens import TokenRecord
from callboard_core.errors import Overloaded, Unauthorized

__all__ = ["Login", "Logins", "Person", "User", "Verifier"]

_log = logging.getLogger(__name__)

#: Told of every refused log-in: user name, address, code, reason.
Told = Callable[[str, str, str, str], None]


def _nobody_is_told(username: str, address: str, code: str, reason: str) -> None:
    del username, address, code, reason


#: Seconds a token is good for, and how many of one user's are kept.
LIFETIME = 12 * 3600.0
PER_USER = 100
#: Passwords that may be in the check at a time; more are turned away rather than left to hold up other requests.
#: Of these, for users where they have not logged in before, and for one address: nobody takes up all the room.
CHECKED_AT_ONCE, STRANGERS, ONE_ADDRESS = 16, 12, 4
#: Seconds within which a token that is not valid is told of once: programs go on asking with those that have expired.
#: And how many of those are remembered.
_TOLD_ONCE, _TOLD = 3600.0, 1_000


class User(Protocol):
    """Whose credential it is."""

    @property
    def name(self) -> str:
        """The user's name."""

    @property
    def role(self) -> str:
        """A built-in role or one of the site's own."""


class Verifier(Protocol):
    """Who knows the users."""

    def verify(self, username: str, password: str) -> User | None:
        """Return whose credential this is; may take a while."""

    def recall(self, username: str, password: str) -> User | None:
        """Return whose credential this is if it was verified before; never takes long."""

    def recognise(self, username: str, password: str) -> User | None:
        """Return whose credential this is if nobody can guess its password; never takes long."""

    def find(self, name: str) -> User | None:
        """Return a user that may log in."""

    def rights(self, role: str) -> Iterable[str]:
        """Return what a role may do: read, command, admin."""

    def mark(self, name: str) -> str:
        """Return something that is another once the user's password or role is; empty if it may not log in."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who is calling.

    Attributes:
        rights: what it may do: of read, command, admin.
        mark: of the user, when the credential was checked.
        token: digest of the token that was sent, if it was one.
    """

    username: str
    role: str
    rights: frozenset[str] = frozenset()
    mark: str = field(default="", repr=False, compare=False)
    token: str = field(default="", repr=False, compare=False)

    @property
    def may_read(self) -> bool:
        """True for who may see what there is."""
        return "read" in self.rights

    @property
    def may_command(self) -> bool:
        """True for who may change anything."""
        return "command" in self.rights

    @property
    def may_admin(self) -> bool:
        """True for who looks after users and the board itself."""
        return "admin" in self.rights


@dataclass(frozen=True, slots=True)
class Login:
    """A fresh token; ``expires`` in Unix seconds."""

    token: str
    person: Person
    expires: float


class Logins:
    """Safe from any thread. ``verify`` blocks for as long as a password hash takes."""

    def __init__(
        self,
        verifier: Verifier,
        notes: Notes,
        *,
        brake: Brake,
        api_tokens: ApiTokens | None = None,
        told: Told = _nobody_is_told,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._verifier = verifier
        self._notes = notes
        self._brake = brake
        self._familiar = Familiar()
        self._sought = Sought(self._familiar)
        self._api_tokens = api_tokens
        self._told = told
        self._clock = clock
        self._lock = threading.Lock()
        # A hash takes memory and a core on purpose; two at a time leave room for the rest.
        self._hashing = threading.BoundedSemaphore(2)
        self._room = Room(CHECKED_AT_ONCE, STRANGERS, ONE_ADDRESS)
        self._tokens: dict[str, TokenRecord] = {}
        self._told_of: OrderedDict[tuple[str, str], float] = OrderedDict()

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
        user = self._verifier.recognise(username, password) or self._slowed(username, password, address)
        return self._let_in(user, address)

    def recall(self, username: str, password: str, address: str) -> Person | None:
        """Return whose password this is if that can be told without waiting; None: ask :meth:`verify`."""
        user = self._verifier.recognise(username, password)
        if user is None and not self._wait(username, address):
            user = self._remembered(username, password, address)
        return None if user is None else self._let_in(user, address)

    def _let_in(self, user: User, address: str) -> Person:
        self._brake.succeeded((address, user.name))
        self._familiar.note(address, user.name)
        return self._person(user, self._verifier.mark(user.name))

    def _slowed(self, username: str, password: str, address: str) -> User:
        """Check a password that somebody may be guessing."""
        wait = self._wait(username, address)
        if wait:
            self._told(username[:100], address, "overloaded", "too many failed logins")
            raise Overloaded(f"too many failed logins; try again in {max(wait, 1):.0f} s")
        user = self._check(username, password, address)
        if user is None:
            self._failed(username, address)
            _log.warning("a log-in as %r from %s was refused", username[:100], address)
            self._told(username[:100], address, "unauthorized", "wrong user name or password")
            raise Unauthorized("wrong user name or password")
        return user

    def _wait(self, username: str, address: str) -> float:
        name, now = username[:100], self._clock()
        return max(self._brake.wait((address, name), now), self._sought.wait(address, name, now))

    def _failed(self, username: str, address: str) -> None:
        name, now = username[:100], self._clock()
        self._brake.failed((address, name), now)
        self._sought.failed(name, now)

    def _remembered(self, username: str, password: str, address: str) -> User | None:
        """Only where its owner has been: elsewhere, somebody could guess without being counted while the room is full."""
        if not self._familiar.knows(address, username):
            return None
        return self._verifier.recall(username, password)

    def _person(self, user: User, mark: str, token: str = "", scope: Iterable[str] | None = None) -> Person:
        rights = frozenset(map(str, self._verifier.rights(user.role)))
        if scope is not None:
            rights &= set(scope)
        return Person(user.name, str(user.role), rights, mark, token)

    def _check(self, username: str, password: str, address: str) -> User | None:
        known = self._remembered(username, password, address)
        if known is not None:
            return known
        familiar = self._familiar.knows(address, username)
        with self._lock:
            entered = self._room.enter(address, familiar=familiar)
        if not entered:
            if familiar:
                self._failed(username, address)
            raise Overloaded("too many logins at a time; try again in a second")
        try:
            with self._hashing:
                return self._verifier.verify(username, password)
        finally:
            with self._lock:
                self._room.leave(address)

    def begin(self, person: Person) -> Login:
        """Make a token."""
        token = secrets.token_urlsafe(32)
        expires = self._clock() + LIFETIME
        record = TokenRecord(digest(token), person.username, person.role, expires, person.mark)
        with self._lock:
            gone = self._crowded_out(person.username)
            for old in gone:
                del self._tokens[old]
            self._tokens[record.digest] = record
        for old in gone:
            self._note_end(old)
        self._notes.submit(("token", record.digest), lambda connection: tokens.save(connection, record))
        return Login(token, person, record.expires)

    def identify(self, token: str, address: str) -> Person:
        """Return whose token it is, that somebody sends from ``address``.

        Raises:
            Unauthorized: nobody's (any more).
        """
        found = digest(token)
        try:
            return self._holder(found)
        except Unauthorized as error:
            self._tell_of_token(found, address, error.message)
            raise

    def identify_as(self, username: str, token: str, address: str) -> Person:
        """Return whose API token it is, that somebody sends in place of the password of ``username``.

        Raises:
            Unauthorized: nobody's (any more), or another user's.
        """
        person = self.identify(token, address)
        if person.username != username:
            raise Unauthorized(f"this token is not one of {username[:100]!r}; give the user whose it is")
        return person

    def _tell_of_token(self, found: str, address: str, reason: str) -> None:
        key, now = (found, address), self._clock()
        with self._lock:
            if now - self._told_of.pop(key, -_TOLD_ONCE) < _TOLD_ONCE:
                self._told_of[key] = now
                return
            self._told_of[key] = now
            if len(self._told_of) > _TOLD:
                self._told_of.popitem(last=False)
        self._told("", address, "unauthorized", reason)

    def _holder(self, found: str) -> Person:
        api = None if self._api_tokens is None else self._api_tokens.find(found)
        record = self._tokens.get(found)
        if api is None and (record is None or record.expires <= self._clock()):
            raise Unauthorized("the token is not valid (any more); log in again")
        # The role may have changed, or the user be gone, since the login.
        name = api.username if api is not None else record.username if record is not None else ""
        user = self._verifier.find(name)
        if user is None:
            raise Unauthorized("this user may not log in any more")
        if api is not None:
            return self._person(user, "", found, api.scope)
        if record is not None and record.mark != self._verifier.mark(name):
            raise Unauthorized("the password or role has changed since this login; log in again")
        return self._person(user, "" if record is None else record.mark, found)

    def check(self, person: Person) -> None:
        """Make sure that somebody whose request goes on may still be here.

        Raises:
            Unauthorized: the token has ended, or the user's password or role has changed, or it is disabled.
        """
        if person.token:
            if not person.rights <= self._holder(person.token).rights:
                raise Unauthorized("this user may do less than before; log in again")
        elif person.mark != self._verifier.mark(person.username):
            raise Unauthorized("the password or role has changed; log in again")

    def end_all(self, username: str) -> None:
        """Make every token of a user worthless."""
        with self._lock:
            ended = [found for found, record in self._tokens.items() if record.username == username]
            for found in ended:
                del self._tokens[found]
        for found in ended:
            self._note_end(found)

    def end(self, token: str) -> None:
        """Make a token worthless."""
        found = digest(token)
        with self._lock:
            self._tokens.pop(found, None)
        self._note_end(found)

    def _note_end(self, found: str) -> None:
        self._notes.submit(("token", found), lambda connection: tokens.remove(connection, found))

    def _crowded_out(self, username: str) -> list[str]:
        now = self._clock()
        expired = [record.digest for record in self._tokens.values() if record.expires <= now]
        own = [r for r in self._tokens.values() if r.username == username and r.expires > now]
        own.sort(key=lambda record: record.expires)
        return expired + [record.digest for record in own[: max(0, len(own) - PER_USER + 1)]]
