"""What each packet does to its connection: one function per packet type, and the table of when each may come."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from callboard_broker.mqtt import packets
from callboard_broker.mqtt.phase import Phase
from callboard_broker.mqtt.properties import Property
from callboard_broker.mqtt.publishing import on_publish
from callboard_broker.mqtt.reasons import ProtocolError, Reason
from callboard_broker.mqtt.subscribing import subscribe, unsubscribe
from callboard_broker.mqtt.topics import is_filter, is_topic
from callboard_broker.mqtt.wire import MQTT_3_1, MQTT_5, PacketType, malformed

if TYPE_CHECKING:
    from callboard_broker.mqtt.connection import Connection
    from callboard_broker.mqtt.session import Session

__all__ = ["FLAGS", "HANDLERS", "Handler"]

Handler = Callable[["Connection", int, bytes], None]


def _on_connect(connection: Connection, first: int, body: bytes) -> None:
    del first
    login = packets.read_connect(body)
    connection.version = login.version
    connection.login = login
    connection.phase = Phase.CHECKING
    if (not login.client_id and not login.clean and login.version != MQTT_5) or (
        not login.client_id and login.version == MQTT_3_1
    ):
        connection.refuse(Reason.CLIENT_IDENTIFIER_NOT_VALID)
    elif Property.AUTHENTICATION_METHOD in login.properties:
        connection.refuse(Reason.BAD_AUTHENTICATION_METHOD)
    elif login.will is not None and not is_topic(login.will.topic):
        connection.fail(ProtocolError(Reason.TOPIC_NAME_INVALID, "will topic"))
    else:
        connection.hub.logins.append(connection)


def _on_acknowledged(connection: Connection, first: int, body: bytes) -> None:
    ack = packets.read_ack(first >> 4, body, connection.version)
    if connection.session is not None:
        connection.session.acknowledged(ack.packet_id)


def _on_pubrec(connection: Connection, first: int, body: bytes) -> None:
    ack = packets.read_ack(first >> 4, body, connection.version)
    if connection.session is None:
        return
    if ack.reason >= Reason.UNSPECIFIED_ERROR:
        connection.session.acknowledged(ack.packet_id)
        return
    known = connection.session.received_by_client(ack.packet_id)
    _answer(connection, connection.session, PacketType.PUBREL, ack.packet_id, known=known)


def _on_pubrel(connection: Connection, first: int, body: bytes) -> None:
    ack = packets.read_ack(first >> 4, body, connection.version)
    session = connection.session
    if session is None:
        return
    known = session.complete(ack.packet_id)
    _answer(connection, session, PacketType.PUBCOMP, ack.packet_id, known=known)


def _answer(
    connection: Connection, session: Session, kind: PacketType, packet_id: int, *, known: bool
) -> None:
    reason = Reason.SUCCESS if known else Reason.PACKET_IDENTIFIER_NOT_FOUND
    hub = connection.hub
    since = None if session.persistent else hub.journal.told
    hub.acknowledge(connection, packets.pack_ack(kind, packet_id, connection.version, reason), since)


def _on_subscribe(connection: Connection, first: int, body: bytes) -> None:
    del first
    subscribe(connection.hub, connection, packets.read_subscribe(body, connection.version))


def _on_unsubscribe(connection: Connection, first: int, body: bytes) -> None:
    del first
    request = packets.read_unsubscribe(body, connection.version)
    if not all(is_filter(topic_filter) for topic_filter in request.filters):
        raise ProtocolError(Reason.TOPIC_FILTER_INVALID, "UNSUBSCRIBE with an invalid filter")
    unsubscribe(connection.hub, connection, request)


def _on_ping(connection: Connection, first: int, body: bytes) -> None:
    del first
    if body:
        raise malformed("PINGREQ with a body")
    connection.send(packets.PINGRESP)


def _on_disconnect(connection: Connection, first: int, body: bytes) -> None:
    del first
    wish = packets.read_disconnect(body, connection.version)
    session = connection.session
    if wish.expiry is not None and session is not None:
        if wish.expiry and not session.expiry:
            raise ProtocolError(Reason.PROTOCOL_ERROR, "session expiry raised from 0 in DISCONNECT")
        session.expiry = connection.hub.session_life(wish.expiry)
    connection.close(clean=wish.reason != Reason.DISCONNECT_WITH_WILL)


#: The low four bits of the first byte, where they are not 0 (MQTT 2.2.2); PUBLISH has its own.
FLAGS: Final[dict[int, int]] = {PacketType.PUBREL: 2, PacketType.SUBSCRIBE: 2, PacketType.UNSUBSCRIBE: 2}
#: What may come when; everything else closes the connection.
HANDLERS: Final[dict[tuple[Phase, int], Handler]] = {
    (Phase.FRESH, PacketType.CONNECT): _on_connect,
    (Phase.OPEN, PacketType.PUBLISH): on_publish,
    (Phase.OPEN, PacketType.PUBACK): _on_acknowledged,
    (Phase.OPEN, PacketType.PUBREC): _on_pubrec,
    (Phase.OPEN, PacketType.PUBREL): _on_pubrel,
    (Phase.OPEN, PacketType.PUBCOMP): _on_acknowledged,
    (Phase.OPEN, PacketType.SUBSCRIBE): _on_subscribe,
    (Phase.OPEN, PacketType.UNSUBSCRIBE): _on_unsubscribe,
    (Phase.OPEN, PacketType.PINGREQ): _on_ping,
    (Phase.OPEN, PacketType.DISCONNECT): _on_disconnect,
}
