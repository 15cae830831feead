"""Records of the durability log: each change of the hub as bytes, and the hub built again from them. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, ClassVar

from callboard_broker.mqtt.delivery import Delivery
from callboard_broker.mqtt.message import NEVER, Message
from callboard_broker.mqtt.packets import WillSpec
from callboard_broker.mqtt.properties import WILL, pack_properties, read_properties
from callboard_broker.mqtt.session import Session
from callboard_broker.mqtt.topics import split_share
from callboard_broker.mqtt.tree import Subscription
from callboard_broker.mqtt.wire import Cursor, pack_binary, pack_text, pack_u16, pack_u32

if TYPE_CHECKING:
    from callboard_broker.mqtt.hub import Hub

__all__ = ["Kind", "Replay", "pack", "pack_delivery", "pack_message", "split", "state_of"]

_U64 = Struct(">Q")
_F64 = Struct(">d")
pack_u64 = _U64.pack
pack_f64 = _F64.pack


class Kind(IntEnum):
    """What a record says."""

    RETAINED = 1
    CLEARED = 2
    SESSION = 3
    ENDED = 4
    SUBSCRIBED = 5
    UNSUBSCRIBED = 6
    MESSAGE = 7
    QUEUED = 8
    SENT = 9
    RELEASED = 10
    DONE = 11
    RECEIVED = 12
    COMPLETED = 13
    WILL = 14
    WILL_GONE = 15


def pack(kind: Kind, *parts: bytes) -> bytes:
    """Return one record: its length, its kind, its content."""
    body = b"".join(parts)
    return pack_u32(len(body) + 1) + bytes((kind,)) + body


def split(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield kind and content of every record in ``data``."""
    cursor = Cursor(data)
    while cursor.left:
        record = cursor.take(cursor.u32())
        yield record[0], record[1:]


# ---- content of records


def pack_message(message: Message) -> bytes:
    """Encode a message; read back by :func:`_read_message`."""
    head = bytes((message.qos | message.retain << 2,))
    expires = pack_f64(message.expires)
    return head + expires + pack_text(message.topic) + _long(message.properties) + message.payload


def _read_message(cursor: Cursor) -> Message:
    head = cursor.u8()
    expires = _F64.unpack(cursor.take(8))[0]
    topic = cursor.text()
    properties = cursor.take(cursor.u32())
    return Message(topic, cursor.rest(), head & 3, bool(head & 4), properties, expires)


def _long(data: bytes) -> bytes:
    return pack_u32(len(data)) + data


def pack_session(session: Session) -> bytes:
    """Encode what a session is, without what it holds."""
    since = math.nan if session.connection is not None else session.disconnected_at
    return session.key + pack_text(session.user) + pack_f64(session.expiry) + pack_f64(since)


def pack_subscription(session: Session, subscription: Subscription) -> bytes:
    """Encode one subscription of a session."""
    flags = subscription.qos | subscription.no_local << 2 | subscription.retain_as_published << 3
    identifier = subscription.identifiers[0] if subscription.identifiers else 0
    return session.key + pack_text(subscription.filter) + bytes((flags,)) + pack_u32(identifier)


def pack_delivery(session: Session, delivery: Delivery) -> bytes:
    """Encode that a session is owed a message, which has a record of its own."""
    ids = b"".join(pack_u32(number) for number in delivery.identifiers)
    flags = bytes((delivery.qos | delivery.retain << 2,))
    return session.key + pack_u64(delivery.number) + pack_u64(delivery.message.number) + flags + ids


def pack_will(session: Session, will: WillSpec) -> bytes:
    """Encode a connected client's will."""
    flags = bytes((will.qos | will.retain << 2,))
    properties = pack_binary(pack_properties(will.properties))
    owner = session.key + pack_text(session.user)
    return owner + flags + pack_u32(will.delay) + pack_text(will.topic) + properties + will.payload


def state_of(hub: Hub) -> Iterator[bytes]:
    """Return the records that build the hub's durable state from nothing.

    What can change is read before this returns, so the hub may go on while the records are taken.
    """
    kept = [message for topic, message in hub.retained.messages.items() if not topic.startswith("$")]
    owed: dict[int, Message] = {}
    rest: list[bytes] = []
    for session in hub.sessions.values():
        if session.will is not None:
            rest.append(pack(Kind.WILL, pack_will(session, session.will)))
        if session.persistent:
            rest.extend(_session_state(session, owed))
    retained = (pack(Kind.RETAINED, pack_message(message)) for message in kept)
    bodies = (pack(Kind.MESSAGE, pack_u64(number), pack_message(message)) for number, message in owed.items())
    return itertools.chain(retained, bodies, rest)


def _session_state(session: Session, owed: dict[int, Message]) -> Iterator[bytes]:
    yield pack(Kind.SESSION, pack_session(session))
    for subscription in session.subscriptions.values():
        yield pack(Kind.SUBSCRIBED, pack_subscription(session, subscription))
    for number in session.received:
        yield pack(Kind.RECEIVED, session.key, pack_u16(number))
    for packet_id, delivery in session.inflight.items():
        if delivery is not None and delivery.number:
            owed[delivery.message.number] = delivery.message
            yield pack(Kind.QUEUED, pack_delivery(session, delivery))
            yield pack(Kind.SENT, pack_u64(delivery.number), pack_u16(packet_id))
            if delivery.released:
                yield pack(Kind.RELEASED, pack_u64(delivery.number))
    for delivery in session.queue:
        if delivery.number:
            owed[delivery.message.number] = delivery.message
            yield pack(Kind.QUEUED, pack_delivery(session, delivery))


class Replay:
    """Applies records, in order, to an empty hub; :meth:`finish` hands over what is left.

    Attributes:
        highest: the highest number seen on a message or delivery.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._messages: dict[int, Message] = {}
        self._owed: dict[int, tuple[Session, Delivery]] = {}
        self._sent: dict[int, int] = {}
        self.highest = 0

    def apply(self, records: Iterable[tuple[int, bytes]]) -> None:
        """Apply records.

        Raises:
            ProtocolError: one cannot be read.
            ValueError: one has an unknown kind.
        """
        for kind, body in records:
            self._APPLY[Kind(kind)](self, Cursor(body))

    def finish(self) -> None:
        """Put what is owed into the sessions, in its order, those already sent first."""
        for number, (session, delivery) in self._owed.items():
            packet_id = self._sent.get(number)
            if packet_id is None:
                session.queue.append(delivery)
                session.queue_bytes += delivery.message.size
            else:
                session.inflight[packet_id] = delivery
                session.packet_id = packet_id
        self._messages.clear()
        self._owed.clear()

    def _session(self, cursor: Cursor) -> Session | None:
        return self._hub.sessions.get(cursor.text())

    def _retained(self, cursor: Cursor) -> None:
        self._hub.router.keep(_read_message(cursor))

    def _cleared(self, cursor: Cursor) -> None:
        self._hub.retained.clear(cursor.text())

    def _begin(self, cursor: Cursor) -> None:
        client_id, user = cursor.text(), cursor.text()
        session = self._hub.sessions.get(client_id)
        if session is None:
            session = self._hub.sessions[client_id] = Session(self._hub, client_id, user)
        session.expiry = _F64.unpack(cursor.take(8))[0]
        session.disconnected_at = _F64.unpack(cursor.take(8))[0]

    def _ended(self, cursor: Cursor) -> None:
        session = self._hub.sessions.pop(cursor.text(), None)
        if session is None:
            return
        for subscription in session.subscriptions.values():
            self._hub.tree.remove(session, split_share(subscription.filter)[1], subscription.group)
        for number in [number for number, (owner, _) in self._owed.items() if owner is session]:
            del self._owed[number]

    def _subscribed(self, cursor: Cursor) -> None:
        session = self._session(cursor)
        if session is None:
            return
        name, flags, identifier = cursor.text(), cursor.u8(), cursor.u32()
        group, topic_filter = split_share(name)
        ids = (identifier,) if identifier else ()
        made = Subscription(name, flags & 3, bool(flags & 4), bool(flags & 8), ids, group)
        session.subscriptions[name] = made
        self._hub.tree.add(session, made, topic_filter)

    def _unsubscribed(self, cursor: Cursor) -> None:
        session = self._session(cursor)
        if session is None:
            return
        name = cursor.text()
        group, topic_filter = split_share(name)
        session.subscriptions.pop(name, None)
        self._hub.tree.remove(session, topic_filter, group)

    def _number(self, cursor: Cursor) -> int:
        number: int = _U64.unpack(cursor.take(8))[0]
        self.highest = max(self.highest, number)
        return number

    def _message(self, cursor: Cursor) -> None:
        number = self._number(cursor)
        message = self._messages[number] = _read_message(cursor)
        message.number = number

    def _queued(self, cursor: Cursor) -> None:
        session = self._session(cursor)
        number, message = self._number(cursor), self._messages.get(self._number(cursor))
        flags = cursor.u8()
        if session is None or message is None:
            return
        ids = tuple(cursor.u32() for _ in range(cursor.left // 4))
        delivery = Delivery(message, flags & 3, bool(flags & 4), ids)
        delivery.number = number
        self._owed[number] = (session, delivery)

    def _was_sent(self, cursor: Cursor) -> None:
        number = self._number(cursor)
        self._sent[number] = cursor.u16()

    def _released(self, cursor: Cursor) -> None:
        found = self._owed.get(self._number(cursor))
        if found is not None:
            found[1].released = True

    def _done(self, cursor: Cursor) -> None:
        number = self._number(cursor)
        self._owed.pop(number, None)
        self._sent.pop(number, None)

    def _received(self, cursor: Cursor) -> None:
        session = self._session(cursor)
        if session is not None:
            session.received.add(cursor.u16())

    def _completed(self, cursor: Cursor) -> None:
        session = self._session(cursor)
        if session is not None:
            session.received.discard(cursor.u16())

    def _will(self, cursor: Cursor) -> None:
        client_id, user, flags, delay = cursor.text(), cursor.text(), cursor.u8(), cursor.u32()
        topic = cursor.text()
        properties = read_properties(Cursor(cursor.binary()), WILL)
        session = self._hub.sessions.get(client_id)
        if session is None:
            session = self._hub.sessions[client_id] = Session(self._hub, client_id, user)
            session.disconnected_at = math.nan
        session.will = WillSpec(topic, cursor.rest(), flags & 3, bool(flags & 4), properties, delay)

    def _will_gone(self, cursor: Cursor) -> None:
        session = self._session(cursor)
        if session is not None:
            session.will, session.will_at = None, NEVER
            if not session.persistent:
                del self._hub.sessions[session.client_id]

    _APPLY: ClassVar[dict[Kind, Callable[[Replay, Cursor], None]]] = {
        Kind.RETAINED: _retained,
        Kind.CLEARED: _cleared,
        Kind.SESSION: _begin,
        Kind.ENDED: _ended,
        Kind.SUBSCRIBED: _subscribed,
        Kind.UNSUBSCRIBED: _unsubscribed,
        Kind.MESSAGE: _message,
        Kind.QUEUED: _queued,
        Kind.SENT: _was_sent,
        Kind.RELEASED: _released,
        Kind.DONE: _done,
        Kind.RECEIVED: _received,
        Kind.COMPLETED: _completed,
        Kind.WILL: _will,
        Kind.WILL_GONE: _will_gone,
    }
