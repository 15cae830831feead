"""amqtt's plugins on our core: its events, its topic rules asked synchronously, and its view of the broker's state."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from amqtt.adapters import BufferReader
from amqtt.contexts import Action
from amqtt.events import BrokerEvents, MQTTEvents
from amqtt.mqtt import packet_class
from amqtt.mqtt.packet import MQTTFixedHeader
from amqtt.plugins.manager import PluginManager
from amqtt.session import IncomingApplicationMessage
from amqtt.session import Session as PluginSession

from callboard_broker.mqtt.access import Grant
from callboard_broker.mqtt.connection import Connection
from callboard_broker.mqtt.message import Message
from callboard_broker.mqtt.packets import Connect
from callboard_broker.mqtt.session import Session
from callboard_broker.mqtt.wire import MQTT_5, read_varint

__all__ = ["PluginGrant", "PluginObserver", "plugin_session"]

log = logging.getLogger("callboard.broker")
#: Events under way; plugins that are slower than the clients miss some.
_TASKS = 10_000


class _State:
    """Takes the place of the state machine that amqtt gives every session (16 KB and 0.3 ms each)."""

    def __init__(self) -> None:
        self.state = "connected"

    def is_connected(self) -> bool:
        """Tell what stock code asks."""
        return self.state == "connected"


class _Client(PluginSession):  # type: ignore[misc]
    """A client as plugins know it."""

    def _init_states(self) -> None:
        self.transitions = _State()


def plugin_session(client_id: str, address: str = "", login: Connect | None = None) -> Any:
    """Return amqtt's view of a client."""
    session = _Client()
    session.client_id = client_id
    session.remote_address = address
    if login is not None:
        session.username = login.username
        session.password = None if login.password is None else login.password.decode(errors="replace")
        session.clean_session = login.clean
        session.keep_alive = login.keepalive
    return session


class PluginGrant:
    """A grant that topic plugins must agree to as well.

    A plugin is asked once per client and topic, and must answer without waiting for anything: one that waits
    counts as no.
    """

    subscribe_covers_receive = False

    def __init__(self, grant: Grant, manager: PluginManager, session: Any) -> None:
        self._grant = grant
        self.rank = grant.rank
        self._plugins = list(manager._topic_plugins)  # noqa: SLF001 - amqtt has no public way to ask
        self._session = session
        self._answers: dict[tuple[str, Action], bool] = {}

    def may_publish(self, topic: str, retain: bool) -> bool:
        """Ask rules, then plugins."""
        return self._grant.may_publish(topic, retain) and self._agreed(topic, Action.PUBLISH)

    def may_subscribe(self, topic_filter: str) -> bool:
        """Ask rules, then plugins."""
        return self._grant.may_subscribe(topic_filter) and self._agreed(topic_filter, Action.SUBSCRIBE)

    def may_receive(self, topic: str) -> bool:
        """Ask rules, then plugins."""
        return self._grant.may_receive(topic) and self._agreed(topic, Action.RECEIVE)

    def _agreed(self, topic: str, action: Action) -> bool:
        key = (topic, action)
        answer = self._answers.get(key)
        if answer is None:
            if len(self._answers) > 10_000:  # noqa: PLR2004 - a client that walks through topics starts afresh
                self._answers.clear()
            answer = self._answers[key] = all(self._ask(plugin, topic, action) for plugin in self._plugins)
        return answer

    def _ask(self, plugin: Any, topic: str, action: Action) -> bool:
        asked = plugin.topic_filtering(session=self._session, topic=topic, action=action)
        done, answer = run_now(asked)
        if not done:
            log.error("plugin %s waits in topic_filtering, which this engine refuses", type(plugin).__name__)
        return done and bool(answer)


def run_now(coroutine: Coroutine[Any, Any, Any]) -> tuple[bool, Any]:
    """Run a coroutine that never waits. Return whether it ended, and its result."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return True, end.value
    coroutine.close()
    return False, None


class PluginObserver:
    """Turns what happens in the hub into amqtt's events; made only if a plugin listens to one.

    Args:
        manager: amqtt's plugin manager.
    """

    def __init__(self, manager: PluginManager) -> None:
        self._heard = manager._event_plugin_callbacks  # noqa: SLF001 - amqtt has no public way to ask
        self._clients: dict[str, Any] = {}
        self._tasks: set[asyncio.Future[Any]] = set()

    @staticmethod
    def wanted(manager: PluginManager) -> bool:
        """Tell whether any plugin listens to an event."""
        return any(manager._event_plugin_callbacks.values())  # noqa: SLF001

    def _fire(self, event: BrokerEvents | MQTTEvents, **details: Any) -> None:
        for callback in self._heard.get(event, ()):
            if len(self._tasks) >= _TASKS:
                log.warning("plugins do not keep up: an event of kind %s is left out", event)
                return
            task = asyncio.ensure_future(callback(**details))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a plugin failed: %r", task.exception())

    def client(self, session: Session) -> Any:
        """Return amqtt's view of a session."""
        found = self._clients.get(session.client_id)
        if found is None:
            address = session.connection.address if session.connection is not None else ""
            found = self._clients[session.client_id] = plugin_session(session.client_id, address)
            found.username = session.user
            found.clean_session = not session.persistent
        return found

    def connected(self, session: Session) -> None:
        """A client was let in."""
        self._clients.pop(session.client_id, None)
        client = self.client(session)
        self._fire(BrokerEvents.CLIENT_CONNECTED, client_id=session.client_id, client_session=client)

    def disconnected(self, session: Session) -> None:
        """A client is gone."""
        client = self.client(session)
        client.transitions.state = "disconnected"
        self._fire(BrokerEvents.CLIENT_DISCONNECTED, client_id=session.client_id, client_session=client)
        self._clients.pop(session.client_id, None)

    def subscribed(self, session: Session, topic_filter: str, qos: int) -> None:
        """A subscription was made."""
        self._fire(BrokerEvents.CLIENT_SUBSCRIBED, client_id=session.client_id, topic=topic_filter, qos=qos)

    def unsubscribed(self, session: Session, topic_filter: str) -> None:
        """A subscription was removed."""
        self._fire(BrokerEvents.CLIENT_UNSUBSCRIBED, client_id=session.client_id, topic=topic_filter)

    def published(self, session: Session, message: Message, *, allowed: bool) -> None:
        """A client published."""
        if not (
            self._heard.get(BrokerEvents.MESSAGE_RECEIVED) or self._heard.get(BrokerEvents.MESSAGE_BROADCAST)
        ):
            return
        shown = IncomingApplicationMessage(None, message.topic, message.qos, message.payload, message.retain)
        self._fire(BrokerEvents.MESSAGE_RECEIVED, client_id=session.client_id, message=shown)
        if allowed:
            self._fire(BrokerEvents.MESSAGE_BROADCAST, client_id=session.client_id, message=shown)

    def packet_received(self, connection: Connection, first: int, body: bytes) -> None:
        """A packet came in."""
        self._packet(MQTTEvents.PACKET_RECEIVED, connection, first, body)

    def sent(self, connection: Connection, data: bytes) -> None:
        """Packets went out."""
        position = 0
        while self._heard.get(MQTTEvents.PACKET_SENT) and position < len(data):
            size, start = read_varint(data, position + 1)
            self._packet(MQTTEvents.PACKET_SENT, connection, data[position], data[start : start + size])
            position = start + size

    def _packet(self, event: MQTTEvents, connection: Connection, first: int, body: bytes) -> None:
        # amqtt's own packets are those of MQTT 3.1.1.
        if not self._heard.get(event) or connection.version == MQTT_5:
            return
        header = MQTTFixedHeader(first >> 4, first & 15, len(body))
        reader = packet_class(header).from_stream(BufferReader(body), fixed_header=header)
        try:
            done, packet = run_now(reader)
        except Exception as error:  # noqa: BLE001 - what amqtt cannot show is no reason to stop
            log.debug("amqtt cannot show a packet: %r", error)
            return
        if done:
            session = connection.session
            self._fire(event, packet=packet, session=self.client(session) if session is not None else None)
