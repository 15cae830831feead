"""One client's connection as a state machine: fed bytes, it fills ``out`` and tells the hub. No socket lives here."""

from __future__ import annotations

import logging
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from callboard_broker.mqtt import packets
from callboard_broker.mqtt.access import Everything, Grant
from callboard_broker.mqtt.message import NEVER, Message, Publish, read_publish
from callboard_broker.mqtt.packets import Connect
from callboard_broker.mqtt.properties import Properties, Property, pack_properties
from callboard_broker.mqtt.reasons import ProtocolError, Reason
from callboard_broker.mqtt.stream import consume
from callboard_broker.mqtt.topics import is_filter, is_topic
from callboard_broker.mqtt.wire import MQTT_3_1, MQTT_3_1_1, MQTT_5, PacketType, malformed

if TYPE_CHECKING:
    from collections.abc import Callable

    from callboard_broker.mqtt.hub import Hub
    from callboard_broker.mqtt.routes import Route
    from callboard_broker.mqtt.session import Session

__all__ = ["Connection", "Phase"]

#: Topics whose right to publish one connection remembers.
_REMEMBERED = 1_024
_FORWARDED = (
    Property.PAYLOAD_FORMAT,
    Property.CONTENT_TYPE,
    Property.RESPONSE_TOPIC,
    Property.CORRELATION_DATA,
    Property.USER_PROPERTY,
)
_NOBODY = Everything()
log = logging.getLogger("callboard.broker")


class Phase(Enum):
    """Where a connection stands."""

    FRESH = "waiting for CONNECT"
    CHECKING = "credentials are being checked"
    OPEN = "open"
    CLOSED = "closed"


class Connection:
    """A client's connection.

    Attributes:
        out: bytes for the socket, in order; the host takes them.
        closing: the host shall close the socket once ``out`` is written.
        direct: a QoS 0 message may be put into ``out`` at once.
        pressed: what was received waits until others had their turn; the host reads no more meanwhile.
        work: deliveries that were caused since the last turn.
        choked: the socket takes no more for now (set by the host through :meth:`choke`).
        heard: something was received since the last tick.
        routes: by raw topic, what this client may publish to and where that goes.
        login: the CONNECT that waits for :meth:`Hub.admit` or :meth:`refuse`.
        tap: sees every packet; the reader then takes no short cuts.
    """

    __slots__ = (
        "address",
        "aliases",
        "certificate",
        "choked",
        "choked_at",
        "closing",
        "direct",
        "grant",
        "heard",
        "heard_at",
        "hub",
        "keepalive",
        "largest",
        "login",
        "need",
        "open",
        "out",
        "pending",
        "phase",
        "pressed",
        "publish_in",
        "routes",
        "session",
        "tap",
        "transport",
        "user",
        "version",
        "work",
    )

    def __init__(self, hub: Hub, address: str = "") -> None:
        self.hub = hub
        self.address = address
        self.certificate = ""
        self.phase = Phase.FRESH
        self.open = False
        self.direct = False
        self.choked = False
        self.choked_at = 0.0
        self.closing = False
        self.pressed = False
        self.work = 0
        self.out: list[bytes] = []
        self.pending = bytearray()
        self.need = 0
        self.version = MQTT_3_1_1
        self.login: Connect | None = None
        self.session: Session | None = None
        self.user = ""
        self.grant: Grant = _NOBODY
        self.routes: dict[bytes, Route] = {}
        self.aliases: dict[int, str] | None = None
        self.largest = 0
        self.keepalive = hub.limits.connect_timeout
        self.heard = False
        self.heard_at = hub.now
        self.publish_in = 0
        self.tap = hub.observer
        self.transport: object = None
        hub.connections.add(self)
        hub.counters.sockets += 1

    # ---- bytes in and out

    def receive(self, data: bytes) -> None:
        """Take bytes from the socket. Never raises: whoever breaks the protocol is disconnected."""
        if self.phase is Phase.CLOSED:
            return
        self.heard = True
        self.hub.counters.bytes_in += len(data)
        if self.pending or self.phase is Phase.CHECKING or self.pressed:
            self.pending += data
            if self._must_wait():
                return
            data, self.pending, self.need = bytes(self.pending), bytearray(), 0
        try:
            used, self.need = consume(self, data)
        except ProtocolError as error:
            self.fail(error)
            return
        except Exception:
            # A defect of ours must cost one connection, not the broker.
            log.exception("closing %s (%s)", self.user or "a client", self.address)
            self.close(Reason.UNSPECIFIED_ERROR)
            return
        if used < len(data):
            self.pending += data[used:] if used else data

    def press(self) -> None:
        """Let others go first: what is left of the bytes received waits for the next turn, or for a crowded session."""
        self.pressed = True
        self.hub.pressed.append(self)

    def unpress(self) -> None:
        """Go on with what waits."""
        self.pressed = False
        self.work = 0
        self.receive(b"")

    def _must_wait(self) -> bool:
        if self.pressed:
            return True
        if self.phase is Phase.CHECKING:
            if len(self.pending) > self.hub.largest_packet:
                self.fail(ProtocolError(Reason.QUOTA_EXCEEDED, "too much sent before CONNACK"))
            return True
        return len(self.pending) < self.need

    def send(self, data: bytes) -> None:
        """Put a packet out."""
        if not self.out:
            self.hub.dirty.append(self)
        self.out.append(data)

    def send_message(
        self, message: Message, flags: int, packet_id: int, identifiers: tuple[int, ...]
    ) -> None:
        """Put a PUBLISH out; one the client cannot take is dropped and counted (MQTT-3.1.2-24)."""
        if self.version == MQTT_5:
            data = message.encode5(flags, packet_id, identifiers, self.hub.now)
            if self.largest and len(data) > self.largest:
                self._too_large(message, packet_id)
                return
        else:
            data = message.encode(flags, packet_id)
        counters = self.hub.counters
        counters.messages_out += 1
        counters.publish_out += 1
        counters.publish_bytes_out += len(message.payload)
        if not self.out:
            self.hub.dirty.append(self)
        self.out.append(data)

    def _too_large(self, message: Message, packet_id: int) -> None:
        if self.session is not None:
            self.session.drop(message)
            if packet_id:
                self.session.forget(self.session.inflight.pop(packet_id, None))

    def choke(self, choked: bool) -> None:
        """The host says whether the socket takes more."""
        self.choked = choked
        self.choked_at = self.hub.now
        session = self.session
        self.direct = self.open and not choked and not (session is not None and session.backlog)
        if session is not None and not choked:
            session.pump()

    # ---- ends

    def fail(self, error: ProtocolError) -> None:
        """Close because of what the peer did."""
        self.hub.note_error(self, error)
        if self.phase in {Phase.FRESH, Phase.CHECKING}:
            self._refuse_connect(error.reason)
        else:
            self.close(error.reason, str(error))

    def _refuse_connect(self, reason: Reason) -> None:
        if reason is Reason.UNSUPPORTED_PROTOCOL_VERSION:
            self.send(packets.pack_connack(MQTT_3_1_1, reason))
        elif self.login is not None and self.version == MQTT_5:
            self.send(packets.pack_connack(MQTT_5, reason))
        self.close()

    def refuse(self, reason: Reason) -> None:
        """Answer a CONNECT with a refusal and close."""
        if self.phase is not Phase.CHECKING:
            return
        self.hub.counters.refused["connect"] += 1
        self.send(packets.pack_connack(self.version, reason))
        self.close()

    def close(self, reason: Reason | None = None, text: str = "", *, clean: bool = False) -> None:
        """End the connection; ``clean`` means that the client's will is not wanted."""
        if self.phase is Phase.CLOSED:
            return
        if reason is not None and self.version == MQTT_5 and self.open:
            self.send(packets.pack_disconnect(reason, text[:200]))
        self.phase = Phase.CLOSED
        self.open = self.direct = False
        self.closing = True
        if not self.out:
            self.hub.dirty.append(self)
        self.routes = {}
        self.pending = bytearray()
        self.hub.detach(self, clean=clean)

    # ---- packets; `consume` calls `dispatch` for everything that it does not do itself

    def dispatch(self, first: int, body: bytes) -> None:
        """Handle one packet.

        Raises:
            ProtocolError: it is malformed or out of place.
        """
        kind = first >> 4
        if self.tap is not None:
            self.tap.packet_received(self, first, body)
        self.hub.counters.messages_in += 1
        handler = self._HANDLERS.get((self.phase, kind))
        if handler is None:
            raise ProtocolError(Reason.PROTOCOL_ERROR, f"packet type {kind} while {self.phase.value}")
        if kind != PacketType.PUBLISH and first & 15 != self._FLAGS.get(kind, 0):
            raise malformed(f"flags {first & 15:#x} of packet type {kind}")
        handler(self, first, body)

    def _on_connect(self, first: int, body: bytes) -> None:
        del first
        login = packets.read_connect(body)
        self.version = login.version
        self.login = login
        self.phase = Phase.CHECKING
        if (not login.client_id and not login.clean and login.version != MQTT_5) or (
            not login.client_id and login.version == MQTT_3_1
        ):
            self.refuse(Reason.CLIENT_IDENTIFIER_NOT_VALID)
        elif Property.AUTHENTICATION_METHOD in login.properties:
            self.refuse(Reason.BAD_AUTHENTICATION_METHOD)
        elif login.will is not None and not is_topic(login.will.topic):
            self.fail(ProtocolError(Reason.TOPIC_NAME_INVALID, "will topic"))
        else:
            self.hub.logins.append(self)

    def _on_publish(self, first: int, body: bytes) -> None:
        publish = read_publish(first, body, self.version)
        if len(publish.payload) > self.hub.limits.message_bytes:
            raise ProtocolError(Reason.PACKET_TOO_LARGE, f"message of {len(publish.payload)} bytes")
        self.publish_in += 1
        self.hub.counters.publish_in += 1
        self.hub.counters.publish_bytes_in += len(publish.payload)
        route = self._route(publish)
        session = self.session
        if session is None:
            return
        if publish.qos == 2:  # noqa: PLR2004 - exactly once
            if publish.packet_id in session.received:
                self.send(packets.pack_ack(PacketType.PUBREC, publish.packet_id))
                return
            if len(session.received) >= self.hub.limits.inflight and self.version == MQTT_5:
                raise ProtocolError(Reason.RECEIVE_MAXIMUM_EXCEEDED, "too many QoS 2 messages in flight")
        reason = Reason.NOT_AUTHORIZED
        if route is not None:
            message = self._message(route.topic, publish)
            if self.tap is not None:
                self.tap.published(session, message, allowed=True)
            kept = self.hub.publish(message, route, session)
            reason = Reason.SUCCESS if kept else Reason.QUOTA_EXCEEDED
            self.work += len(route.targets)
        self._answer_publish(session, publish, reason)

    def _answer_publish(self, session: Session, publish: Publish, reason: Reason) -> None:
        if publish.qos == 1:
            self.hub.acknowledge(
                self, packets.pack_ack(PacketType.PUBACK, publish.packet_id, self.version, reason)
            )
        elif publish.qos:
            if reason is Reason.SUCCESS or self.version != MQTT_5:
                session.received.add(publish.packet_id)
                if session.persistent:
                    self.hub.journal.received(session, publish.packet_id)
            self.hub.acknowledge(
                self, packets.pack_ack(PacketType.PUBREC, publish.packet_id, self.version, reason)
            )

    def _route(self, publish: Publish) -> Route | None:
        raw = publish.topic
        route = self.routes.get(raw) if raw and not publish.retain else None
        if route is not None and Property.TOPIC_ALIAS not in publish.properties:
            return route
        topic = self._topic(publish)
        if not is_topic(topic):
            raise ProtocolError(Reason.TOPIC_NAME_INVALID, "PUBLISH to an invalid topic name")
        if topic.startswith(("$SYS/", "$share/")) or not self.grant.may_publish(topic, publish.retain):
            self.hub.refused_publish(self, topic)
            return None
        route = self.hub.route(topic)
        if not publish.retain and raw:
            if len(self.routes) >= _REMEMBERED:
                self.routes.clear()
            self.routes[raw] = route
        return route

    def _topic(self, publish: Publish) -> str:
        try:
            topic = publish.topic.decode()
        except UnicodeDecodeError:
            raise malformed("topic is not UTF-8") from None
        alias = publish.properties.get(Property.TOPIC_ALIAS)
        if alias is None:
            if not topic and self.version == MQTT_5:
                raise ProtocolError(Reason.PROTOCOL_ERROR, "PUBLISH without topic and alias")
            return topic
        if not 0 < alias <= self.hub.limits.topic_aliases:
            raise ProtocolError(Reason.TOPIC_ALIAS_INVALID, f"topic alias {alias}")
        if self.aliases is None:
            self.aliases = {}
        if topic:
            self.aliases[alias] = topic
        elif alias not in self.aliases:
            raise ProtocolError(Reason.PROTOCOL_ERROR, f"topic alias {alias} is not set")
        return self.aliases[alias]

    def _message(self, topic: str, publish: Publish) -> Message:
        return make_message(
            topic, publish.payload, publish.qos, publish.retain, publish.properties, self.hub.now
        )

    def _on_acknowledged(self, first: int, body: bytes) -> None:
        ack = packets.read_ack(first >> 4, body, self.version)
        if self.session is not None:
            self.session.acknowledged(ack.packet_id)

    def _on_pubrec(self, first: int, body: bytes) -> None:
        ack = packets.read_ack(first >> 4, body, self.version)
        if self.session is None:
            return
        if ack.reason >= Reason.UNSPECIFIED_ERROR:
            self.session.acknowledged(ack.packet_id)
            return
        known = self.session.received_by_client(ack.packet_id)
        reason = Reason.SUCCESS if known else Reason.PACKET_IDENTIFIER_NOT_FOUND
        self.hub.acknowledge(self, packets.pack_ack(PacketType.PUBREL, ack.packet_id, self.version, reason))

    def _on_pubrel(self, first: int, body: bytes) -> None:
        ack = packets.read_ack(first >> 4, body, self.version)
        session = self.session
        if session is None:
            return
        reason = Reason.SUCCESS if ack.packet_id in session.received else Reason.PACKET_IDENTIFIER_NOT_FOUND
        session.received.discard(ack.packet_id)
        if session.persistent:
            self.hub.journal.completed(session, ack.packet_id)
        self.hub.acknowledge(self, packets.pack_ack(PacketType.PUBCOMP, ack.packet_id, self.version, reason))

    def _on_subscribe(self, first: int, body: bytes) -> None:
        del first
        self.hub.subscribe(self, packets.read_subscribe(body, self.version))

    def _on_unsubscribe(self, first: int, body: bytes) -> None:
        del first
        request = packets.read_unsubscribe(body, self.version)
        if not all(is_filter(topic_filter) for topic_filter in request.filters):
            raise ProtocolError(Reason.TOPIC_FILTER_INVALID, "UNSUBSCRIBE with an invalid filter")
        self.hub.unsubscribe(self, request)

    def _on_ping(self, first: int, body: bytes) -> None:
        del first
        if body:
            raise malformed("PINGREQ with a body")
        self.send(packets.PINGRESP)

    def _on_disconnect(self, first: int, body: bytes) -> None:
        del first
        wish = packets.read_disconnect(body, self.version)
        session = self.session
        if wish.expiry is not None and session is not None:
            if wish.expiry and not session.expiry:
                raise ProtocolError(Reason.PROTOCOL_ERROR, "session expiry raised from 0 in DISCONNECT")
            session.expiry = self.hub.session_life(wish.expiry)
        self.close(clean=wish.reason != Reason.DISCONNECT_WITH_WILL)

    _FLAGS: ClassVar[dict[int, int]] = {
        PacketType.PUBREL: 2,
        PacketType.SUBSCRIBE: 2,
        PacketType.UNSUBSCRIBE: 2,
    }
    _HANDLERS: ClassVar[dict[tuple[Phase, int], Callable[[Connection, int, bytes], None]]] = {
        (Phase.FRESH, PacketType.CONNECT): _on_connect,
        (Phase.OPEN, PacketType.PUBLISH): _on_publish,
        (Phase.OPEN, PacketType.PUBACK): _on_acknowledged,
        (Phase.OPEN, PacketType.PUBREC): _on_pubrec,
        (Phase.OPEN, PacketType.PUBREL): _on_pubrel,
        (Phase.OPEN, PacketType.PUBCOMP): _on_acknowledged,
        (Phase.OPEN, PacketType.SUBSCRIBE): _on_subscribe,
        (Phase.OPEN, PacketType.UNSUBSCRIBE): _on_unsubscribe,
        (Phase.OPEN, PacketType.PINGREQ): _on_ping,
        (Phase.OPEN, PacketType.DISCONNECT): _on_disconnect,
    }


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
