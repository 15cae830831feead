"""Who is logged in: one session per login, found by a random token in a cookie, gone when it expires."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from callboard_console.web.client import Api
from callboard_console.web.commands import Ledger
from callboard_core.errors import CallboardError, Unauthorized
from callboard_core.link import Credential, Link
from callboard_core.topics import Address

__all__ = ["COOKIE", "LIFETIME", "Attempts", "Session", "Sessions"]

#: Name of the cookie that carries the token.
COOKIE = "callboard_session"
#: Longest life of a session in seconds, however long the board would let the token live.
LIFETIME = 12 * 3600.0

#: Rights over HTTP of the built-in roles, for boards that do not tell them.
_RIGHTS = {"viewer": {"read"}, "operator": {"read", "command"}, "admin": {"read", "command", "admin"}}


@dataclass(eq=False)
class Session:
    """One login. The password stays in memory as long as the session: the operator's link needs it."""

    token: str
    username: str
    role: str
    expires: float
    credential: Credential
    api: Api
    open_link: Callable[[Credential], Link]
    leaving: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    ledger: Ledger = field(default_factory=Ledger)
    rights: frozenset[str] | None = None
    _link: Link | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def may_command(self) -> bool:
        """True for those who may send commands."""
        return "command" in self._rights()

    @property
    def may_admin(self) -> bool:
        """True for those who look after users and the board itself."""
        return "admin" in self._rights()

    def _rights(self) -> Collection[str]:
        return _RIGHTS.get(self.role, ()) if self.rights is None else self.rights

    def link(self) -> Link:
        """Return the user's own connection to the broker, opened at the first command."""
        with self._lock:
            if self._link is None:
                self._link = self.open_link(self.credential)
            return self._link

    def send(self, address: Address, title: str, args: Mapping[str, JsonValue], *, timeout: float) -> None:
        """Send a command as this user; what becomes of it is in the ledger."""
        try:
            link = self.link()
        except CallboardError as error:
            self.ledger.refuse(address, title, args, str(error))
            return
        self.ledger.send(link, address, title, args, timeout=timeout)

    def withdrawn(self) -> bool:
        """Ask the board whether the user was disabled or removed, or has another role or password now.

        Raises:
            CallboardError: the board does not answer.
        """
        try:
            return self.api.role() != self.role
        except Unauthorized:
            return True

    def close(self) -> None:
        """Close the link and give the token back."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.stop()
        self.api.logout()


class Sessions:
    """Every session of this server, in memory only: a restart logs everybody out."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_token: dict[str, Session] = {}
        self._lock = threading.Lock()

    def add(self, session: Session) -> None:
        """Remember a session and forget those that have expired."""
        with self._lock:
            self._by_token[session.token] = session
        self.expire()

    def get(self, token: str | None) -> Session | None:
        """Return the session of a token unless it has expired."""
        with self._lock:
            session = self._by_token.get(token or "")
        return session if session is not None and session.expires > self._clock() else None

    def remove(self, token: str) -> None:
        """End a session."""
        with self._lock:
            session = self._by_token.pop(token, None)
        if session is not None:
            session.close()

    def expire(self) -> None:
        """End the sessions whose time is over."""
        now = self._clock()
        with self._lock:
            over = [token for token, session in self._by_token.items() if session.expires <= now]
        for token in over:
            self.remove(token)

    def recheck(self) -> None:
        """End the sessions whose users were withdrawn since they logged in; takes a request for each.

        Raises:
            CallboardError: the board does not answer; nobody is sent away for that.
        """
        with self._lock:
            sessions = list(self._by_token.values())
        for session in sessions:
            if session.withdrawn():
                self.remove(session.token)

    def close(self) -> None:
        """End every session."""
        with self._lock:
            tokens = list(self._by_token)
        for token in tokens:
            self.remove(token)


class Attempts:
    """Slows down guessing: after ``limit`` failures within ``window`` seconds an address has to wait."""

    def __init__(self, clock: Callable[[], float], *, limit: int = 10, window: float = 60.0) -> None:
        self._clock = clock
        self._limit = limit
        self._window = window
        self._failures: dict[str, list[float]] = {}

    def wait(self, address: str) -> float:
        """Return how many seconds ``address`` still has to wait; 0 when it may try."""
        recent = self._recent(address)
        if len(recent) < self._limit:
            return 0.0
        return max(0.0, recent[-self._limit] + self._window - self._clock())

    def failed(self, address: str) -> None:
        """Count a failure."""
        self._failures[address] = [*self._recent(address), self._clock()]
        self._failures = {who: times for who in self._failures if (times := self._recent(who))}

    def _recent(self, address: str) -> list[float]:
        since = self._clock() - self._window
        return [t for t in self._failures.get(address, ()) if t > since]
