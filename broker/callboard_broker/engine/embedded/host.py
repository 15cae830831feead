"""amqtt as the host: its configuration, listeners, plugin manager and authentication contract around our core.

The only module that touches amqtt, which publishes partial types and whose range is pinned in pyproject.toml.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import warnings
from collections.abc import Callable
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from amqtt.broker import Broker
    from amqtt.contexts import ListenerType
    from amqtt.errors import BrokerError
    from amqtt.session import Session as PluginSession

from callboard_broker.mqtt.connection import Connection
from callboard_broker.mqtt.packets import Connect

# Their chatter about their own states says nothing about ours.
logging.getLogger("transitions").setLevel(logging.WARNING)
logging.getLogger("amqtt").setLevel(logging.WARNING)

__all__ = ["BrokerError", "Host"]

#: A burst of this many connects waits in the kernel instead of being refused.
_BACKLOG = 2_048


class Host(Broker):  # type: ignore[misc]
    """amqtt's broker with our sockets and our core in place of its own.

    Args:
        config: amqtt's configuration; without ``plugins`` none are loaded.
        protocol: makes the protocol of an accepted TCP or TLS socket.
    """

    def __init__(self, config: dict[str, Any], protocol: Callable[[], asyncio.Protocol]) -> None:
        super().__init__({"plugins": {}, **config})
        self._protocol = protocol

    @property
    def checks_logins(self) -> bool:
        """Whether a plugin wants a say in who connects."""
        return bool(self.plugins_manager._auth_plugins)  # noqa: SLF001 - amqtt has no public way to ask

    def port(self, listener: str = "default") -> int:
        """Return the port a listener is bound to."""
        found: int = self._servers[listener].instance.sockets[0].getsockname()[1]
        return found

    async def agrees(self, connection: Connection, login: Connect) -> bool:
        """Ask the authentication plugins, as amqtt does: all that have an opinion must say yes."""
        session = plugin_session(connection, login)
        agreed: bool = await self._authenticate(session, None)
        return agreed

    async def _create_server_instance(
        self,
        listener_name: str,
        listener_type: ListenerType,
        address: str | None,
        port: int,
        ssl_context: ssl.SSLContext | None,
    ) -> Any:
        if listener_type is ListenerType.TCP:
            loop = asyncio.get_running_loop()
            return await loop.create_server(self._protocol, address, port, ssl=ssl_context, backlog=_BACKLOG)
        return await super()._create_server_instance(listener_name, listener_type, address, port, ssl_context)

    async def _broadcast_loop(self) -> None:
        """Messages are routed by our hub."""

    async def _session_monitor(self) -> None:
        """Sessions expire in our hub."""


def plugin_session(connection: Connection, login: Connect) -> Any:
    """Return amqtt's view of a client that wants to connect."""
    session = PluginSession()
    session.client_id = login.client_id
    session.username = login.username
    session.password = None if login.password is None else login.password.decode(errors="replace")
    session.clean_session = login.clean
    session.keep_alive = login.keepalive
    session.remote_address = connection.address
    return session
