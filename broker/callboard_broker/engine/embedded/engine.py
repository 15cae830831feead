"""The embedded engine: starts and stops the host, the hub's clock, and the listeners."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callboard_broker.access import Users as OurUsers
from callboard_broker.engine.embedded.audit import CommandFeed
from callboard_broker.engine.embedded.clock import Clock, SteadyTime
from callboard_broker.engine.embedded.commands import Commands
from callboard_broker.engine.embedded.commit import Committer
from callboard_broker.engine.embedded.door import Door
from callboard_broker.engine.embedded.guard import Guard
from callboard_broker.engine.embedded.host import BrokerError, Host
from callboard_broker.engine.embedded.login import Grants, Login, Users
from callboard_broker.engine.embedded.plugins import PluginObserver
from callboard_broker.engine.embedded.turn import Turn
from callboard_broker.engine.lan import amqtt_listeners
from callboard_broker.mqtt.access import Everything, Grant
from callboard_broker.mqtt.durable import DurableJournal
from callboard_broker.mqtt.hub import Hub
from callboard_broker.mqtt.limits import Limits
from callboard_broker.mqtt.reasons import Reason
from callboard_core.errors import BadRequest, CallboardError, Unavailable
from callboard_core.link import Endpoint
from callboard_core.listening import reachable
from callboard_core.settings import BrokerDurability

if TYPE_CHECKING:
    from callboard_core.settings import Settings

__all__ = ["EmbeddedEngine"]

log = logging.getLogger("callboard.broker")


class EmbeddedEngine:
    """A broker inside this process's event loop.

    Args:
        bind: address to listen on.
        port: 0 takes any free one.
        site: what ``{site}`` in access rules stands for.
        users: None lets everybody in.
        grants: (user, site, client id) to a grant; None allows everything.
        state: folder for what must survive; None keeps everything in memory.
        sys_interval: seconds between two reports under ``$SYS``.
        config: amqtt's own configuration on top (listeners, plugins).
    """

    def __init__(
        self,
        *,
        bind: str = "127.0.0.1",
        port: int = 1883,
        site: str = "callboard",
        users: Users | None = None,
        grants: Grants | None = None,
        state: Path | None = None,
        limits: Limits | None = None,
        durability: BrokerDurability | None = None,
        sys_interval: float = 10.0,
        config: dict[str, Any] | None = None,
    ) -> None:
        self._bind, self._port, self._site = bind, port, site
        self._users, self._grants, self._state = users, grants, state
        self._limits = limits or Limits()
        self._durability = durability or BrokerDurability()
        self._sys_interval = sys_interval
        self._config = config or {}
        self._host: Host | None = None
        self._clock: asyncio.Task[None] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._journal: DurableJournal | None = None
        self.hub = Hub(self._limits, now=SteadyTime().now())
        self.hub.requests = Commands(site)
        self._feed = CommandFeed(self.hub, site)
        self.hub.watch = self._feed

    @classmethod
    def from_settings(cls, settings: Settings, users: OurUsers) -> EmbeddedEngine:
        """Return the engine that ``settings.mqtt`` describes."""
        return cls(
            bind=settings.mqtt.bind,
            port=settings.mqtt.port,
            site=settings.site,
            users=users,
            grants=users.grant,
            state=settings.state / "broker",
            limits=settings.mqtt.limits,
            durability=settings.mqtt.durability,
            sys_interval=settings.mqtt.sys_interval,
            config=_with_lan(settings),
        )

    @property
    def endpoint(self) -> Endpoint:
        """Where clients of this machine connect."""
        return Endpoint(reachable(self._bind), self._host.port() if self._host is not None else self._port)

    async def start(self) -> None:
        """Return once clients can connect.

        Raises:
            Conflict: something else listens there; the message says who.
            BadRequest: amqtt's configuration is wrong, or the address is not this machine's.
            Unavailable: it cannot start for another reason.
        """
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        hub = self.hub
        time = SteadyTime()
        hub.now = time.now()
        host = Host(self._amqtt_config())
        journal = self._journal = self._load(host)
        self._turn = Turn(hub, self._decide, self._commit)
        self._committer = Committer(hub, journal, self._durability, self._turn.soon)
        plugins = host.agrees if host.checks_logins else None
        self._login = Login(
            hub, self._site, self._users, self._grants, plugins, host.restrict, self._turn.soon
        )
        if PluginObserver.wanted(host.plugins_manager):
            hub.observer = self._turn.observer = PluginObserver(host.plugins_manager)
        door = Door(hub, self._turn, Guard(self._limits, hub.counters))
        host.open_to(door)
        try:
            await host.start()
        except (BrokerError, OSError, ValueError) as error:
            await host.close_listeners()
            await self._committer.stop()
            raise _explained(error) from None
        self._host = host
        clock = Clock(
            hub, self._turn, host, journal, self._login, time, self._sys_interval, door.unheard, self._feed
        )
        self._clock = loop.create_task(clock.run())
        self._clock.add_done_callback(self._clock_stopped)

    def _amqtt_config(self) -> dict[str, Any]:
        config = dict(self._config)
        default = {"type": "tcp", "bind": f"{self._bind}:{self._port}"}
        listeners = config.get("listeners", {})
        if not isinstance(listeners, dict):
            raise BadRequest("the broker's configuration: listeners has to be a table of tables")
        return {**config, "listeners": {"default": default, **listeners}}

    async def stop(self) -> None:
        """Say goodbye to every client, write everything down, and close."""
        host, self._host = self._host, None
        if host is None:
            return
        if self._clock is not None:
            self._clock.cancel()
            await asyncio.gather(self._clock, return_exceptions=True)
        await self._login.stop()
        for connection in list(self.hub.connections):
            connection.close(Reason.SERVER_SHUTTING_DOWN)
        await self._committer.stop()
        self._turn.flush()
        await host.shutdown()
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    async def wait(self) -> None:
        """Return only when stopped.

        Raises:
            Unavailable: the engine died by itself.
        """
        if self._ended is not None:
            await asyncio.shield(self._ended)

    def port(self, listener: str = "default") -> int:
        """Return the port a listener of the configuration is bound to."""
        if self._host is None:
            raise Unavailable("the broker is not running")
        return self._host.port(listener)

    def reload_certificates(self) -> None:
        """Read certificates again without dropping connections (done by itself when a file changes)."""
        if self._host is not None:
            self._host.reload_certificates()

    def _decide(self, connection: Any) -> None:
        self._login.decide(connection)

    def _commit(self) -> None:
        self._committer.turn()

    def _load(self, host: Host) -> DurableJournal | None:
        if self._state is None:
            return None

        def regrant(user: str, client_id: str) -> Grant | None:
            if self._users is None or self._grants is None:
                return host.restrict(Everything(), user, client_id)
            found = self._users.find(user)
            if found is None or found.client_id not in {"", client_id}:
                return None
            return host.restrict(self._grants(found, self._site, client_id), user, client_id)

        journal = DurableJournal(self._state)
        journal.load(self.hub, regrant, self._durability.will_grace)
        return journal

    def _clock_stopped(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self._ended is None or self._ended.done():
            return
        self._ended.set_exception(Unavailable(f"the broker's clock stopped: {task.exception()!r}"))


def _with_lan(settings: Settings) -> dict[str, Any]:
    """Amqtt's configuration with our encrypted listeners."""
    config: dict[str, Any] = dict(settings.mqtt.amqtt)
    ours, given = amqtt_listeners(settings), config.get("listeners", {})
    if not ours or not isinstance(given, dict):
        return config
    return {**config, "listeners": {**given, **ours}}


def _explained(error: BaseException) -> CallboardError:
    """Return the error that says most: amqtt wraps what its listeners raise."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, CallboardError):
        cause = cause.__cause__ or cause.__context__
    return cause or Unavailable(f"the broker cannot start: {error}")
