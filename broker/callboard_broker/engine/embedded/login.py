"""Who may connect: our users first (argon2 off the loop, afterwards a fast verifier), then amqtt's plugins."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, NamedTuple, Protocol

from callboard_broker.access.rules import OWNER_RANK
from callboard_broker.engine.embedded.waiting import Attempt, Waiting
from callboard_broker.mqtt.access import Everything, Grant
from callboard_broker.mqtt.connection import Connection
from callboard_broker.mqtt.hub import Hub
from callboard_broker.mqtt.packets import Connect
from callboard_broker.mqtt.phase import Phase
from callboard_broker.mqtt.reasons import Reason
from callboard_broker.services.brake import Brake
from callboard_broker.services.guessing import Familiar, Sought
from callboard_core.errors import CallboardError

log = logging.getLogger("callboard.broker")

__all__ = ["Grants", "Login", "Users", "WhoLike"]

#: Password verifications at once; more would only wait for the same cores.
_AT_ONCE = 2
#: Failures of an address that cost nothing; from then on each refusal is told so many seconds later, at first and at most,
#: until nothing has failed for so long. So many seconds lie between two checks for suspects.
_FREE, _FIRST, _LONGEST, _REMEMBERED = 5, 0.25, 2.0, 60.0
_PAUSE = 0.25
#: Seconds without a failure until a name at which many addresses have guessed is nothing special any more.
_REST = 10.0


class WhoLike(Protocol):
    """A user that was recognised."""

    @property
    def name(self) -> str:
        """Unique name."""

    @property
    def role(self) -> str:
        """What grants depend on."""

    @property
    def client_id(self) -> str:
        """The only client id the credential is good for; empty for any."""


class Users(Protocol):
    """Where credentials are checked."""

    def recall(self, username: str, password: str) -> WhoLike | None:
        """Return the user if this credential was verified before; costs microseconds."""

    def remembers(self, username: str) -> bool:
        """Tell whether a password of this user that is not recalled is wrong."""

    def recognise(self, username: str, password: str) -> WhoLike | None:
        """Return the user if this is its password, and one that nobody can guess; costs microseconds."""

    def verify(self, username: str, password: str) -> WhoLike | None:
        """Return the user; may take long."""

    def find(self, name: str) -> WhoLike | None:
        """Return an enabled user."""

    def find_certificate(self, certificate: str) -> WhoLike | None:
        """Return the enabled user a certificate (SHA-256 of its DER) is valid for now."""

    def owner(self, client_id: str) -> str | None:
        """Return the name of the user that a client id is bound to."""

    def mark(self, name: str) -> str:
        """Return something that is another once the user's credential or rights are; empty if it may not log in."""

    def marks(self) -> Mapping[str, str]:
        """Return that for every enabled user."""


Grants = Callable[[WhoLike, str, str], Grant]
PluginCheck = Callable[[Connection, Connect], Awaitable[bool]]
Restrict = Callable[[Grant, str, str], Grant]


class _Anybody(NamedTuple):
    """Somebody let in without a check."""

    name: str
    role: str = ""
    client_id: str = ""


class Login:
    """Decides about CONNECTs.

    A password nobody has verified yet takes a core for a while, so such checks wait for each other: addresses take turns.
    Suspects come last, one at a time with a pause in between, and are told late: whoever comes from an address that has
    been failing, or with a name that many addresses guess at. For them even a password that was verified before waits its
    turn, since who is let in at once if he is right can guess as quickly as he connects. Nobody is locked out.

    Args:
        users: None lets everybody in (a broker for tests, or one whose plugins decide).
        grants: user, site and client id to a grant; None allows everything.
        plugins: asked as well where given; all must agree.
        restrict: lets plugins take something away from a grant.
        done: called when something was decided late.
    """

    def __init__(
        self,
        hub: Hub,
        site: str,
        users: Users | None,
        grants: Grants | None,
        plugins: PluginCheck | None,
        restrict: Restrict,
        done: Callable[[], None],
    ) -> None:
        self._hub = hub
        self._site = site
        self._users = users
        self._grants = grants
        self._plugins = plugins
        self._restrict = restrict
        self._done = done
        self._loop = asyncio.get_running_loop()
        self._brake = Brake(free=_FREE, first=_FIRST, longest=_LONGEST, remembered=_REMEMBERED)
        self._familiar = Familiar()
        self._sought = Sought(self._familiar, rest=_REST)
        self._waiting = Waiting(hub.limits.logins_waiting)
        self._suspects = Waiting(hub.limits.logins_waiting)
        self._marks = dict(users.marks()) if users is not None else {}
        self._checking = 0
        self._resting = False  # a suspect is checked, or has just been
        self._stopped = False
        self._tasks: set[asyncio.Task[None]] = set()

    def decide(self, connection: Connection) -> None:
        """Admit or refuse, at once where that is possible."""
        login = connection.login
        if login is None or connection.phase is not Phase.CHECKING:
            return
        try:
            verdict = self._at_once(connection, login)
            if verdict is None and self._users is not None and not connection.certificate:
                self._wait(self._users, connection, login)
            else:
                self._conclude(connection, verdict)
        except CallboardError as error:
            self._fail(connection, error)

    def _at_once(self, connection: Connection, login: Connect) -> WhoLike | None:
        if self._users is None:
            return _Anybody(login.username or "")
        if connection.certificate:
            return self._users.find(connection.certificate)
        shown = self._users.find_certificate(connection.fingerprint) if connection.fingerprint else None
        if shown is not None and login.username in {None, shown.name}:
            return shown
        if login.username is None or login.password is None:
            return None
        password = _text(login.password)
        if self._is_suspect(connection.address, login.username):
            return self._users.recognise(login.username, password)
        return self._users.recall(login.username, password)

    @staticmethod
    def _fail(connection: Connection, error: Exception) -> None:
        log.error("a log-in cannot be checked: %s", error)
        connection.refuse(Reason.SERVER_UNAVAILABLE)

    # ---- passwords

    def _wait(self, users: Users, connection: Connection, login: Connect) -> None:
        if login.username is None or login.password is None:
            self._conclude(connection, None)
            return
        attempt = Attempt(connection.address, login.username, login.password, [connection])
        # Names that do not exist share one turn: there is no end of them.
        known = login.username if users.find(login.username) is not None else ""
        suspect = self._is_suspect(connection.address, login.username)
        if not suspect and users.remembers(login.username):
            # Counted before it is told: many at once would else be guesses that cost nothing.
            self._note_failure(attempt)
        if (self._suspects if suspect else self._waiting).put(attempt, known):
            self._check_more(users)
        else:
            self._hub.counters.bounds["logins_waiting"] += 1
            self._refuse(connection, Reason.SERVER_BUSY)

    def _is_suspect(self, address: str, name: str) -> bool:
        now = self._loop.time()
        return self._brake.failures(address, now) >= _FREE or self._sought.wait(address, name, now) > 0

    def _penalty(self, address: str, name: str) -> float:
        now = self._loop.time()
        return max(self._brake.wait(address, now), min(_LONGEST, self._sought.wait(address, name, now)))

    def _note_failure(self, attempt: Attempt) -> None:
        if not attempt.failed:
            attempt.failed = True
            self._brake.failed(attempt.address, self._loop.time())
            self._sought.failed(attempt.name, self._loop.time())

    def _check_more(self, users: Users) -> None:
        while self._checking < _AT_ONCE and not self._stopped:
            attempt = self._waiting.take()
            suspect = attempt is None and not self._resting
            if suspect:
                attempt = self._suspects.take()
            if attempt is None:
                return
            self._checking += 1
            self._resting = self._resting or suspect
            self._start(self._check(users, attempt, suspect=suspect))

    async def _check(self, users: Users, attempt: Attempt, *, suspect: bool) -> None:
        try:
            found = await asyncio.to_thread(users.verify, attempt.name, _text(attempt.password))
            if found is not None:  # it may have been changed while it was being verified
                found = users.recall(attempt.name, _text(attempt.password))
        except Exception as error:  # noqa: BLE001 - whatever keeps users from being read refuses their log-ins only
            for connection in attempt.connections:
                self._fail(connection, error)
        else:
            if found is None:
                self._note_failure(attempt)
            for connection in attempt.connections:
                if connection.phase is Phase.CHECKING:
                    self._conclude(connection, found)
                elif found is None:  # it did not wait for the answer, and has guessed all the same
                    self._hub.kept_out(connection, Reason.BAD_USER_NAME_OR_PASSWORD)
        finally:
            self._checking -= 1
            if suspect:
                self._loop.call_later(_PAUSE, self._rested, users)
            self._check_more(users)
            self._done()

    def _rested(self, users: Users) -> None:
        self._resting = False
        self._check_more(users)

    # ---- answers

    def _conclude(self, connection: Connection, verdict: WhoLike | None) -> None:
        login = connection.login
        if login is None or connection.phase is not Phase.CHECKING:
            return
        if verdict is None:
            named = login.username is not None
            self._refuse(connection, Reason.BAD_USER_NAME_OR_PASSWORD if named else Reason.NOT_AUTHORIZED)
        elif self._plugins is None:
            self._admit(connection, login, verdict)
        else:
            self._start(self._ask_plugins(self._plugins, connection, login, verdict))

    def _refuse(self, connection: Connection, reason: Reason) -> None:
        """Refuse; who has failed again and again is told later, so that he cannot try as often."""
        login = connection.login
        name = "" if login is None else login.username or ""
        penalty = self._penalty(connection.address, name)
        self._hub.kept_out(connection, reason)
        if not penalty and login is not None:  # the audit log counts what comes after the first few
            log.warning("a log-in as %r from %s was refused", login.username, connection.address)
        if penalty:
            self._loop.call_later(penalty, self._refuse_late, connection, reason)
        else:
            connection.refuse(reason)

    def _refuse_late(self, connection: Connection, reason: Reason) -> None:
        connection.refuse(reason)
        self._done()

    async def _ask_plugins(
        self, plugins: PluginCheck, connection: Connection, login: Connect, verdict: WhoLike
    ) -> None:
        try:
            if await plugins(connection, login):
                self._admit(connection, login, verdict)
            else:
                self._conclude(connection, None)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; that is one refused log-in
            self._fail(connection, error)
        self._done()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _admit(self, connection: Connection, login: Connect, verdict: WhoLike) -> None:
        grant: Grant = Everything()
        if self._grants is not None and self._users is not None:
            try:
                grant = self._grants(verdict, self._site, login.client_id)
            except CallboardError as error:  # its role was removed a moment ago
                self._fail(connection, error)
                return
            if not _may_use(login.client_id, verdict, grant, self._users):
                log.warning("user %s may not connect as %s", verdict.name, login.client_id)
                self._hub.kept_out(connection, Reason.CLIENT_IDENTIFIER_NOT_VALID)
                connection.refuse(Reason.CLIENT_IDENTIFIER_NOT_VALID)
                return
        if self._users is not None:
            self._note_mark(self._users, verdict.name)
            self._familiar.note(connection.address, verdict.name)
        self._hub.admit(connection, verdict.name, self._restrict(grant, verdict.name, login.client_id))

    # ---- revoking

    def _note_mark(self, users: Users, name: str) -> None:
        mark = users.mark(name)
        if self._marks.setdefault(name, mark) != mark:
            self._drop({name})
            self._marks[name] = mark

    def revoke(self) -> None:
        """Drop the connections of users who are gone, disabled, or have another role, password or rights now.

        Raises:
            CallboardError: the users cannot be read.
        """
        if self._users is None:
            return
        known, self._marks = self._marks, dict(self._users.marks())
        changed = {name for name, mark in known.items() if self._marks.get(name) != mark}
        if changed:
            self._drop(changed)
        gone = changed - set(self._marks)
        if gone:
            for session in [found for found in self._hub.sessions.values() if found.user in gone]:
                self._hub.end(session)

    def _drop(self, names: set[str]) -> None:
        for connection in list(self._hub.connections):
            if connection.open and connection.user in names:
                log.warning("user %s was revoked or changed: its session is dropped", connection.user)
                connection.close(Reason.NOT_AUTHORIZED)

    async def stop(self) -> None:
        """Give up decisions still under way."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _may_use(client_id: str, user: WhoLike, grant: Grant, users: Users) -> bool:
    """Tell whether a user may have this client id: a credential may be bound to one, and one to a credential."""
    if user.client_id:
        return client_id == user.client_id
    return users.owner(client_id) is None or grant.rank > OWNER_RANK


def _text(password: bytes) -> str:
    return password.decode(errors="surrogateescape")
