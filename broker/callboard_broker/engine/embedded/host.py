"""amqtt as the host: its configuration, listeners, plugin manager and authentication contract around our core.

With `plugins` the only module that touches amqtt, which publishes partial types; its range is pinned in pyproject.toml.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import warnings
from collections.abc import Callable
from typing import Any

import websockets
from dacite import DaciteError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from amqtt.broker import Broker, RetainedApplicationMessage
    from amqtt.contexts import ListenerConfig, ListenerType
    from amqtt.errors import BrokerError, PluginError, PluginLoadError
    from amqtt.plugins.authentication import FileAuthPlugin

from callboard_broker.engine.embedded.certificates import ListenerContext
from callboard_broker.engine.embedded.door import Door
from callboard_broker.engine.embedded.external import serve_external
from callboard_broker.engine.embedded.plugins import PluginGrant, plugin_session
from callboard_broker.engine.embedded.sockets import SocketProtocol
from callboard_broker.engine.embedded.websocket import serve_websocket
from callboard_broker.engine.lan import PORTS
from callboard_broker.mqtt.access import Everything, Grant
from callboard_broker.mqtt.connection import Connection
from callboard_broker.mqtt.message import Message
from callboard_broker.mqtt.packets import Connect
from callboard_broker.mqtt.session import Session
from callboard_broker.mqtt.subscribing import add_subscription
from callboard_broker.mqtt.topics import is_filter, split_share
from callboard_broker.mqtt.tree import Subscription
from callboard_core.errors import BadRequest
from callboard_core.listening import explain
from callboard_core.trust.handshakes import tell_failures

# Their chatter about their own states says nothing about ours; WebSocket handshakes fail for every port scanner.
logging.getLogger("transitions").setLevel(logging.WARNING)
logging.getLogger("amqtt.broker").setLevel(
    logging.CRITICAL
)  # its tracebacks: what it raises is told by the engine
logging.getLogger("amqtt.broker.plugins").setLevel(logging.INFO)
logging.getLogger("callboard.broker.websocket").setLevel(logging.CRITICAL)

__all__ = ["BrokerError", "Host"]

#: A burst of this many connects waits in the kernel instead of being refused.
_BACKLOG = 2_048
_FAILED = 0x80


class Host(Broker):  # type: ignore[misc]
    """amqtt's broker with our sockets and our core in place of its own.

    Args:
        config: amqtt's configuration; without ``plugins`` none are loaded.

    Raises:
        BadRequest: the configuration is not amqtt's, or a plugin cannot be loaded.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        try:
            with warnings.catch_warnings():
                # A notice to those who install amqtt without its extras; ours are declared.
                warnings.simplefilter("ignore", DeprecationWarning)
                super().__init__({"plugins": {}, **config})
        except (DaciteError, PluginError, PluginLoadError, OSError, ValueError) as error:
            raise BadRequest(f"the broker's configuration: {error or type(error).__name__}") from error
        self._door: Door | None = None
        self._contexts: list[ListenerContext] = []

    def open_to(self, door: Door) -> None:
        """Say where sockets go."""
        self._door = door

    @property
    def door(self) -> Door:
        """Where sockets go."""
        if self._door is None:
            raise BrokerError("the host was started without a door")
        return self._door

    async def close_listeners(self) -> None:
        """Close those listeners that are open, after a start that failed at another one."""
        for server in self._servers.values():
            await server.close_instance()

    def port(self, listener: str = "default") -> int:
        """Return the port a listener is bound to."""
        found: int = self._servers[listener].instance.sockets[0].getsockname()[1]
        return found

    # ---- authentication and rules

    @property
    def checks_logins(self) -> bool:
        """Whether a plugin wants a say in who connects."""
        return bool(self.plugins_manager._auth_plugins)  # noqa: SLF001 - amqtt has no public way to ask

    @property
    def checks_topics(self) -> bool:
        """Whether a plugin wants a say in topics."""
        return bool(self.plugins_manager._topic_plugins)  # noqa: SLF001

    async def agrees(self, connection: Connection, login: Connect) -> bool:
        """Ask the authentication plugins, as amqtt does: all that have an opinion must say yes."""
        session = plugin_session(login.client_id, connection.address, login)
        answers: list[bool] = []
        for plugin in self.plugins_manager._auth_plugins:  # noqa: SLF001
            # Its argon2 takes a tenth of a second and never waits for anything: another thread may run it.
            if isinstance(plugin, FileAuthPlugin):
                answer = await asyncio.to_thread(_run, plugin.authenticate(session=session))
            else:
                answer = await plugin.authenticate(session=session)
            if answer is not None:
                answers.append(bool(answer))
        return bool(answers) and all(answers)

    def restrict(self, grant: Grant, user: str, client_id: str) -> Grant:
        """Let topic plugins restrict a grant further."""
        if not self.checks_topics:
            return grant
        session = plugin_session(client_id)
        session.username = user or None
        return PluginGrant(grant, self.plugins_manager, session)

    # ---- listeners

    async def _create_server_instance(
        self,
        listener_name: str,
        listener_type: ListenerType,
        address: str | None,
        port: int,
        ssl_context: ssl.SSLContext | None,
    ) -> Any:
        try:
            return await self._listen(listener_name, listener_type, address, port, ssl_context)
        except OSError as error:
            what = "mqtt" if listener_name == "default" else f"mqtt, listener {listener_name}"
            flag = PORTS.get(listener_name, "--mqtt-port")
            raise explain(error, address or "", port, what=what, flag=flag) from error

    async def _listen(
        self,
        listener_name: str,
        listener_type: ListenerType,
        address: str | None,
        port: int,
        ssl_context: ssl.SSLContext | None,
    ) -> Any:
        if listener_type is ListenerType.WS:
            return await websockets.serve(
                self.ws_connected_to(listener_name),
                address,
                port,
                ssl=ssl_context,
                subprotocols=[websockets.Subprotocol("mqtt"), websockets.Subprotocol("mqttv3.1")],
                compression=None,
                ping_interval=None,
                close_timeout=2,
                max_size=self.door.hub.largest_packet,
                open_timeout=self.door.hub.limits.connect_timeout,
                logger=logging.getLogger("callboard.broker.websocket"),
            )
        door, pinned = self.door, listener_name in PORTS
        return await asyncio.get_running_loop().create_server(
            lambda: SocketProtocol(door, pinned=pinned),
            address,
            port,
            ssl=ssl_context,
            ssl_handshake_timeout=door.hub.limits.connect_timeout if ssl_context else None,
            backlog=_BACKLOG,
        )

    def ws_connected_to(self, listener_name: str) -> Callable[[Any], Any]:
        """Return the handler of one WebSocket listener's clients."""

        async def connected(websocket: Any) -> None:
            await self.ws_connected(websocket, listener_name)

        return connected

    async def ws_connected(self, websocket: Any, listener_name: str) -> None:
        """Serve a WebSocket client."""
        await serve_websocket(websocket, self.door, pinned=listener_name in PORTS)

    async def _client_connected(self, listener_name: str, reader: Any, writer: Any) -> None:
        """Serve a client of an external listener."""
        del listener_name
        await serve_external(reader, writer, self.door)

    def _create_ssl_context(self, listener: ListenerConfig) -> ssl.SSLContext:
        if listener.certfile is None:
            raise BrokerError("a listener with ssl needs certfile and keyfile")
        try:
            made = ListenerContext(
                listener.certfile,
                listener.keyfile,
                cafile=listener.cafile,
                capath=listener.capath,
                cadata=listener.cadata,
            )
        except OSError as error:
            raise BadRequest(
                f"the broker cannot use certificate {listener.certfile} with key {listener.keyfile}: "
                f"{error.strerror or error}; correct mqtt.amqtt.listeners"
            ) from error
        self._contexts.append(made)
        tell_failures(made.context, f"mqtt at {listener.bind}")
        return made.context

    def reload_certificates(self) -> None:
        """Read certificates again; connections stay, new ones see the new certificates and authorities.

        Raises:
            OSError: one cannot be read or does not fit its key; that listener keeps the old ones.
        """
        for context in self._contexts:
            context.renew()

    def certificate_stamps(self) -> list[list[tuple[int, int]]]:
        """Return something that is another once a certificate file is."""
        return [context.stamps() for context in self._contexts]

    # ---- what amqtt would do itself

    async def _broadcast_loop(self) -> None:
        """Messages are routed by our hub."""

    async def _session_monitor(self) -> None:
        """Sessions expire in our hub."""

    # ---- the broker as plugins see it

    async def internal_message_broadcast(self, topic: str, data: bytes, qos: int | None = None) -> None:
        """Publish for a plugin."""
        hub = self.door.hub
        hub.router.publish(Message(topic, bytes(data), qos or 0), hub.router.route(topic), None)
        self.door.turn.soon()

    async def retain_message(
        self,
        source_session: Any,
        topic_name: str | None,
        data: bytes | bytearray | None,
        qos: int | None = None,
    ) -> None:
        """Retain for a plugin."""
        del source_session
        if topic_name:
            self.door.hub.router.retain(Message(topic_name, bytes(data or b""), qos or 0, retain=True))
            self.door.turn.soon()

    async def add_subscription(self, subscription: tuple[str, int], session: Any) -> int:
        """Subscribe for a plugin."""
        name, qos = subscription
        found = self.door.hub.sessions.get(session.client_id)
        group, topic_filter = split_share(name)
        if found is None or not is_filter(topic_filter) or not found.grant.may_subscribe(topic_filter):
            return _FAILED
        add_subscription(self.door.hub, found, Subscription(name, qos, group=group))
        return qos

    def create_offline_session(self, client_id: str) -> tuple[Any, Any]:
        """Make a persistent session for a plugin."""
        hub = self.door.hub
        session = hub.sessions.setdefault(client_id, Session(hub, client_id, ""))
        session.expiry = hub.limits.session_expiry
        session.grant = self.restrict(Everything(), "", client_id)
        return None, plugin_session(client_id)

    @property
    def sessions(self) -> dict[str, tuple[Any, Any]]:
        """Every session, as amqtt shows it."""
        return {name: (_shown(session), None) for name, session in self.door.hub.sessions.items()}

    @property
    def subscriptions(self) -> dict[str, list[tuple[Any, int]]]:
        """Every subscription, as amqtt shows it."""
        found: dict[str, list[tuple[Any, int]]] = {}
        for session in self.door.hub.sessions.values():
            client = _shown(session)
            for name, subscription in session.subscriptions.items():
                found.setdefault(name, []).append((client, subscription.qos))
        return found

    @property
    def retained_messages(self) -> dict[str, Any]:
        """Every retained message, as amqtt shows it."""
        return {
            topic: RetainedApplicationMessage(None, topic, message.payload, message.qos)
            for topic, message in self.door.hub.retained.messages.items()
        }


def _shown(session: Session) -> Any:
    client = plugin_session(session.client_id)
    client.username = session.user or None
    client.clean_session = not session.persistent
    if session.connection is None:
        client.transitions.state = "disconnected"
    return client


def _run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)
