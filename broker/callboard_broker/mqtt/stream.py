"""The reader loop: cuts a chunk of bytes into packets and does the frequent ones on the spot.

This is the hot path, so it is one long loop on purpose: a QoS 0 PUBLISH from and to MQTT 3.1.1 clients is
passed on as the very bytes that came in, and neighbours with the same receivers go out as one slice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callboard_broker.mqtt.message import Message
from callboard_broker.mqtt.reasons import ProtocolError, Reason
from callboard_broker.mqtt.wire import MQTT_5, pack_u16, read_varint

if TYPE_CHECKING:
    from callboard_broker.mqtt.connection import Connection
    from callboard_broker.mqtt.routes import Route

__all__ = ["QUEUED", "consume"]

_PLAIN_0 = 0x30
_PLAIN_1 = 0x32
_PUBACK = 0x40
_PUBLISH = 3
#: Deliveries one client may cause before others get their turn.
_FAIR = 10_000
#: What a delivery that has to wait in a queue counts for: its receiver's acknowledgements may be what lies unread.
QUEUED = 10


def consume(connection: Connection, data: bytes) -> tuple[int, int]:  # noqa: C901, PLR0912, PLR0915 - the hot loop
    """Handle every whole packet in ``data``.

    Returns:
        How many bytes were used, and how many the next packet needs in all (0: not known yet, or nothing is left).

    Raises:
        ProtocolError: a packet is malformed, too large or out of place; packets before it have been handled.
    """
    hub = connection.hub
    routes = connection.routes
    router = hub.router
    tree = router.tree
    limit = hub.largest_packet if connection.open else hub.largest_connect
    largest = hub.limits.message_bytes
    quick = connection.open and connection.version != MQTT_5 and connection.tap is None
    position, total, need = 0, len(data), 0
    lane: tuple[Connection, ...] | None = None
    start = count = 0
    try:
        while total - position >= 2:  # noqa: PLR2004 - the shortest packet
            first = data[position]
            size = data[position + 1]
            body = position + 2
            if size > 127:  # noqa: PLR2004 - more than one byte of length
                size, body = read_varint(data, position + 1)
                if not body:
                    break
                if size + body - position > limit:
                    raise ProtocolError(
                        Reason.PACKET_TOO_LARGE, f"packet of {size} bytes, at most {limit} allowed"
                    )
            end = body + size
            if end > total:
                need = end - position
                break
            if quick:
                if first == _PLAIN_0 and 1 < size <= largest:
                    name = body + 2
                    split = name + (data[body] << 8 | data[body + 1])
                    route = routes.get(data[name:split])
                    if route is not None and split <= end:
                        if route.version != tree.version:
                            router.refresh(route)
                        if route.lane is not None:
                            if route.lane is not lane:
                                if count:
                                    router.forward(connection, lane, data, start, position, count)
                                lane, start, count = route.lane, position, 0
                            count += 1
                            position = end
                            continue
                elif first == _PLAIN_1 and 3 < size <= largest:  # noqa: PLR2004 - topic length, packet id
                    name = body + 2
                    split = name + (data[body] << 8 | data[body + 1])
                    payload = split + 2
                    route = routes.get(data[name:split])
                    if route is not None and payload <= end:
                        if count:
                            router.forward(connection, lane, data, start, position, count)
                            lane, count = None, 0
                        if route.version != tree.version:
                            router.refresh(route)
                        number = data[split:payload]
                        if route.express is not None and number != b"\0\0":
                            express(connection, route, data[position:split], data[payload:end])
                            if connection.held:
                                hub.acknowledge(connection, b"\x40\x02" + number, hub.journal.told)
                            elif connection.out:
                                connection.out.append(b"\x40\x02" + number)
                            else:
                                connection.send(b"\x40\x02" + number)
                            position = end
                            if hub.strained or connection.work > _FAIR:
                                connection.press()
                                break
                            continue
                elif first == _PUBACK and size == 2:  # noqa: PLR2004 - a packet id
                    session = connection.session
                    if session is not None:
                        number_in = data[body] << 8 | data[body + 1]
                        if number_in in session.inflight:
                            delivery = session.inflight.pop(number_in)
                            if delivery is not None:
                                session.forget(delivery)
                            if session.queue or session.backlog:
                                session.pump()
                        if number_in:
                            hub.counters.messages_in += 1
                            position = end
                            continue
            if count:
                router.forward(connection, lane, data, start, position, count)
                lane, count = None, 0
            position = end
            connection.dispatch(first, data[body:end])
            if not connection.open:
                break
            if first >> 4 == _PUBLISH and (hub.strained or connection.work > _FAIR):
                connection.press()
                break
            quick = connection.version != MQTT_5 and connection.tap is None
            routes = connection.routes
    finally:
        if count:
            router.forward(connection, lane, data, start, position, count)
    return position, need


def express(connection: Connection, route: Route, head: bytes, payload: bytes) -> None:
    """Pass a QoS 1 message on to clean sessions of MQTT 3.1.1: only the packet id differs from what came in."""
    hub = connection.hub
    connection.publish_in += 1
    counters = hub.counters
    counters.messages_in += 1
    counters.publish_in += 1
    counters.publish_bytes_in += len(payload)
    message: Message | None = None
    dirty, queued = hub.dirty, hub.queued
    last, packet, sent = 0, b"", 0
    for session in route.express or ():
        target = session.connection
        inflight = session.inflight
        if target is not None and target.direct and not session.queue and len(inflight) < session.window:
            number = session.packet_id % 65535 + 1
            while number in inflight:
                number = number % 65535 + 1
            session.packet_id = number
            inflight[number] = None
            if number != last:
                packet = head + pack_u16(number) + payload
                last = number
            if not target.out:
                dirty.append(target)
            target.out.append(packet)
            sent += 1
        else:
            if message is None:
                message = Message(route.topic, payload, 1)
            session.deliver(message, 1)
    if route.watched and hub.watch is not None and connection.session is not None:
        hub.watch.saw(connection.session, route.topic, payload)
    connection.work += sent + QUEUED * (hub.queued - queued)
    counters.messages_out += sent + 1
    counters.publish_out += sent
    counters.publish_bytes_out += sent * len(payload)
