"""Who may connect: our users first (argon2 off the loop, afterwards a fast verifier), then amqtt's plugins."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, Protocol

from callboard_broker.mqtt.access import Everything, Grant
from callboard_broker.mqtt.connection import Connection
from callboard_broker.mqtt.hub import Hub
from callboard_broker.mqtt.packets import Connect
from callboard_broker.mqtt.phase import Phase
from callboard_broker.mqtt.reasons import Reason
from callboard_core.errors import CallboardError

log = logging.getLogger("callboard.broker")

__all__ = ["Grants", "Login", "Users", "WhoLike"]

#: Password verifications at once; more would only wait for the same cores.
_AT_ONCE = 2


class WhoLike(Protocol):
    """A user that was recognised."""

    @property
    def name(self) -> str:
        """Unique name."""

    @property
    def role(self) -> str:
        """What grants depend on."""


class Users(Protocol):
    """Where credentials are checked."""

    def recall(self, username: str, password: str) -> WhoLike | None:
        """Return the user if this credential was verified before; costs microseconds."""

    def verify(self, username: str, password: str) -> WhoLike | None:
        """Return the user; may take long."""

    def roles(self) -> Mapping[str, str]:
        """Return the role of every enabled user."""

    def marks(self) -> Mapping[str, str]:
        """Return, for every enabled user, something that is another once its role or password is."""


Grants = Callable[[str, str, str], Grant]
PluginCheck = Callable[[Connection, Connect], Awaitable[bool]]
Restrict = Callable[[Grant, str, str], Grant]


class _Verdict(NamedTuple):
    user: str
    role: str


class Login:
    """Decides about CONNECTs.

    Args:
        users: None lets everybody in (a broker for tests, or one whose plugins decide).
        grants: role, site and client id to a grant; None allows everything.
        plugins: asked as well where given; all must agree.
        restrict: lets plugins take something away from a grant.
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
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def decide(self, connection: Connection) -> None:
        """Admit or refuse, at once where that is possible."""
        login = connection.login
        if login is None or connection.phase is not Phase.CHECKING:
            return
        try:
            verdict = self._at_once(connection, login)
        except CallboardError as error:
            self._fail(connection, error)
            return
        if verdict is not None and self._plugins is None:
            self._admit(connection, login, verdict)
            return
        task = asyncio.get_running_loop().create_task(self._slowly(connection, login, verdict))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _at_once(self, connection: Connection, login: Connect) -> _Verdict | None:
        if self._users is None:
            return _Verdict(login.username or "", "")
        if connection.certificate:
            role = self._users.roles().get(connection.certificate)
            return None if role is None else _Verdict(connection.certificate, role)
        if login.username is None or login.password is None:
            return None
        found = self._users.recall(login.username, _text(login.password))
        return None if found is None else _Verdict(found.name, found.role)

    @staticmethod
    def _fail(connection: Connection, error: Exception) -> None:
        log.error("a log-in cannot be checked: %s", error)
        connection.refuse(Reason.SERVER_UNAVAILABLE)

    async def _slowly(self, connection: Connection, login: Connect, verdict: _Verdict | None) -> None:
        try:
            await self._decide_slowly(connection, login, verdict)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; that is one refused log-in
            self._fail(connection, error)
        self._done()

    async def _decide_slowly(self, connection: Connection, login: Connect, verdict: _Verdict | None) -> None:
        if verdict is None:
            verdict = await self._verify(connection, login)
        agreed = verdict is not None and (self._plugins is None or await self._plugins(connection, login))
        if verdict is None or not agreed:
            has_name = login.username is not None
            connection.refuse(Reason.BAD_USER_NAME_OR_PASSWORD if has_name else Reason.NOT_AUTHORIZED)
        else:
            self._admit(connection, login, verdict)

    async def _verify(self, connection: Connection, login: Connect) -> _Verdict | None:
        if self._users is None or login.username is None or login.password is None:
            return None
        async with self._slots:
            if connection.phase is not Phase.CHECKING:
                return None
            found = await asyncio.to_thread(self._users.verify, login.username, _text(login.password))
        return None if found is None else _Verdict(found.name, found.role)

    def _admit(self, connection: Connection, login: Connect, verdict: _Verdict) -> None:
        grant: Grant = Everything()
        if self._grants is not None and self._users is not None:
            grant = self._grants(verdict.role, self._site, login.client_id)
        self._hub.admit(connection, verdict.user, self._restrict(grant, verdict.user, login.client_id))

    async def stop(self) -> None:
        """Give up decisions still under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _text(password: bytes) -> str:
    return password.decode(errors="surrogateescape")
