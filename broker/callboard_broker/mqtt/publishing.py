"""PUBLISH from a client: may it, what does an alias stand for, and how is it answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callboard_broker.mqtt import packets
from callboard_broker.mqtt.message import NEVER, Message, Publish, read_publish
from callboard_broker.mqtt.properties import Properties, Property, pack_properties
from callboard_broker.mqtt.reasons import ProtocolError, Reason
from callboard_broker.mqtt.stream import QUEUED
from callboard_broker.mqtt.topics import is_topic
from callboard_broker.mqtt.wire import MQTT_5, PacketType, malformed

if TYPE_CHECKING:
    from callboard_broker.mqtt.connection import Connection
    from callboard_broker.mqtt.routes import Route
    from callboard_broker.mqtt.session import Session

__all__ = ["make_message", "on_publish"]

#: What the broker alone publishes, and what is no topic.
_OURS = ("$SYS/", "$audit/", "$share/")
#: Topics whose right to publish one connection remembers.
_REMEMBERED = 512
_FORWARDED = (
    Property.PAYLOAD_FORMAT,
    Property.CONTENT_TYPE,
    Property.RESPONSE_TOPIC,
    Property.CORRELATION_DATA,
    Property.USER_PROPERTY,
)


def on_publish(connection: Connection, first: int, body: bytes) -> None:
    """Handle a PUBLISH that the reader had no short cut for."""
    publish = read_publish(first, body, connection.version)
    if len(publish.payload) > connection.hub.limits.message_bytes:
        raise ProtocolError(Reason.PACKET_TOO_LARGE, f"message of {len(publish.payload)} bytes")
    connection.publish_in += 1
    connection.hub.counters.publish_in += 1
    connection.hub.counters.publish_bytes_in += len(publish.payload)
    route = _route(connection, publish)
    session = connection.session
    if session is None:
        return
    hub = connection.hub
    since = hub.journal.told
    if publish.qos == 2 and not _receive(connection, session, publish.packet_id):  # noqa: PLR2004 - exactly once
        return
    reason = Reason.NOT_AUTHORIZED
    if route is not None:
        message = _message(connection, route.topic, publish)
        if connection.tap is not None:
            connection.tap.published(session, message, allowed=True)
        if route.watched and hub.watch is not None:
            hub.watch.saw(session, route.topic, message.payload)
        queued = hub.queued
        kept = hub.router.publish(message, route, session)
        reason = Reason.SUCCESS if kept else Reason.QUOTA_EXCEEDED
        connection.work += len(route.targets) + len(route.groups) + QUEUED * (hub.queued - queued)
    if publish.qos:
        kind = PacketType.PUBACK if publish.qos == 1 else PacketType.PUBREC
        if kind is PacketType.PUBREC and reason is not Reason.SUCCESS and connection.version == MQTT_5:
            session.complete(publish.packet_id)  # no PUBREL follows a PUBREC that refuses
        hub.acknowledge(
            connection, packets.pack_ack(kind, publish.packet_id, connection.version, reason), since
        )


def _receive(connection: Connection, session: Session, packet_id: int) -> bool:
    """Note a QoS 2 message before it is passed on. Return False for one that was, and is only acknowledged again."""
    hub = connection.hub
    if packet_id in session.received:
        since = None if session.persistent else hub.journal.told
        hub.acknowledge(connection, packets.pack_ack(PacketType.PUBREC, packet_id), since)
        return False
    if len(session.received) >= hub.limits.inflight and connection.version == MQTT_5:
        raise ProtocolError(Reason.RECEIVE_MAXIMUM_EXCEEDED, "too many QoS 2 messages in flight")
    session.received.add(packet_id)
    if session.persistent:
        hub.journal.received(session, packet_id)
    return True


def _route(connection: Connection, publish: Publish) -> Route | None:
    raw = publish.topic
    route = connection.routes.get(raw) if raw and not publish.retain else None
    if route is not None and Property.TOPIC_ALIAS not in publish.properties:
        return route
    topic = _topic(connection, publish)
    if not is_topic(topic):
        raise ProtocolError(Reason.TOPIC_NAME_INVALID, "PUBLISH to an invalid topic name")
    if topic.startswith(_OURS) or not connection.grant.may_publish(topic, publish.retain):
        connection.hub.refused_publish(connection, topic)
        return None
    route = connection.hub.router.route(topic)
    if not publish.retain and raw:
        if len(connection.routes) >= _REMEMBERED:
            connection.routes.clear()
        connection.routes[raw] = route
    return route


def _topic(connection: Connection, publish: Publish) -> str:
    try:
        topic = publish.topic.decode()
    except UnicodeDecodeError:
        raise malformed("topic is not UTF-8") from None
    alias = publish.properties.get(Property.TOPIC_ALIAS)
    if alias is None:
        if not topic and connection.version == MQTT_5:
            raise ProtocolError(Reason.PROTOCOL_ERROR, "PUBLISH without topic and alias")
        return topic
    if not 0 < alias <= connection.hub.limits.topic_aliases:
        raise ProtocolError(Reason.TOPIC_ALIAS_INVALID, f"topic alias {alias}")
    if connection.aliases is None:
        connection.aliases = {}
    if topic:
        connection.aliases[alias] = topic
    elif alias not in connection.aliases:
        raise ProtocolError(Reason.PROTOCOL_ERROR, f"topic alias {alias} is not set")
    return connection.aliases[alias]


def _message(connection: Connection, topic: str, publish: Publish) -> Message:
    payload, requests = publish.payload, connection.hub.requests
    if requests is not None and Property.RESPONSE_TOPIC in publish.properties:
        payload = requests.translate(topic, payload, publish.properties)
    return make_message(topic, payload, publish.qos, publish.retain, publish.properties, connection.hub.now)


def make_message(
    topic: str, payload: bytes, qos: int, retain: bool, properties: Properties, now: float
) -> Message:
    """Make a message of what was published; ``now`` turns its expiry into a point in time."""
    if not properties:
        return Message(topic, payload, qos, retain)
    lifetime = properties.get(Property.MESSAGE_EXPIRY)
    expires = NEVER if lifetime is None else now + lifetime
    kept: Properties = {key: properties[key] for key in _FORWARDED if key in properties}
    packed = pack_properties(kept)
    return Message(topic, payload, qos, retain, _without_length(packed), expires)


def _without_length(packed: bytes) -> bytes:
    start = 1
    while packed[start - 1] > 127:  # noqa: PLR2004 - the length has a continuation bit
        start += 1
    return packed[start:]
