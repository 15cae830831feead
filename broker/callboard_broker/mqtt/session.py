"""One client's session: what is in flight, what waits, and in which order it goes out.

Order: retained messages of a new subscription first, then what waits, then what is published now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from callboard_broker.mqtt.access import Everything, Grant
from callboard_broker.mqtt.delivery import Delivery
from callboard_broker.mqtt.message import NEVER, Message
from callboard_broker.mqtt.tree import Subscription
from callboard_broker.mqtt.wire import PacketType, pack_text, pack_u16

if TYPE_CHECKING:
    from callboard_broker.mqtt.connection import Connection
    from callboard_broker.mqtt.hub import Hub
    from callboard_broker.mqtt.packets import WillSpec

__all__ = ["Session"]

_NOBODY = Everything()
_NOT: Final = -1.0
#: Publishers wait while a connected client's queue is fuller than this, until it is emptier than that. The two are
#: close, because who waits for long is not read from and takes the broker for dead.
_HALF, _EASED = 0.5, 0.49
#: Publishers wait for one session no longer than so many times the patience in all, be there progress or not. With the
#: defaults that is less than a keep-alive (10 s), so that nobody who waits takes the broker for dead.
_LONGEST = 3
#: Bytes one session may put out in one go before others get their turn.
_BURST = 262_144


class Session:
    """The state that MQTT says a server keeps for a client (MQTT 5, 4.1), plus whose it is.

    Attributes:
        user: who made it; nobody else may take it over.
        expiry: seconds it outlives its connection; 0 is a clean session.
        inflight: what was sent and not acknowledged, by packet id; None where nothing will ever be sent again
            (QoS 1 to a clean session, unless it is shared).
        received: packet ids of QoS 2 messages that were passed on and not yet released.
        silent: seconds without progress while publishers wait for it; below 0 while its queue is short enough.
        strained: seconds that publishers waited for it since its queue was short enough.
        backlog: retained messages still to be sent, for each new subscription.
        owed: subscriptions whose retained messages were cut short by a disconnect.
        noted: the journal knows about it.
    """

    __slots__ = (
        "backlog",
        "client_id",
        "connection",
        "disconnected_at",
        "dropped",
        "expiry",
        "grant",
        "hub",
        "inflight",
        "key",
        "noted",
        "owed",
        "packet_id",
        "pending",
        "queue",
        "queue_bytes",
        "received",
        "silent",
        "strained",
        "subscriptions",
        "user",
        "will",
        "will_at",
        "window",
    )

    def __init__(self, hub: Hub, client_id: str, user: str) -> None:
        self.hub = hub
        self.client_id = client_id
        self.key = pack_text(client_id)
        self.user = user
        self.expiry = 0.0
        self.grant: Grant = _NOBODY
        self.connection: Connection | None = None
        self.disconnected_at = 0.0
        self.will: WillSpec | None = None
        self.will_at = NEVER
        self.subscriptions: dict[str, Subscription] = {}
        self.inflight: dict[int, Delivery | None] = {}
        self.received: set[int] = set()
        self.queue: deque[Delivery] = deque()
        self.queue_bytes = 0
        self.backlog: deque[tuple[Subscription, Iterator[Message]]] = deque()
        self.pending = 0
        self.owed: list[Subscription] = []
        self.noted = False
        self.packet_id = 0
        self.window = hub.limits.inflight
        self.dropped = 0
        self.silent = _NOT
        self.strained = 0.0

    @property
    def persistent(self) -> bool:
        """Whether it outlives its connection."""
        return self.expiry > 0

    def next_packet_id(self) -> int:
        """Return a packet id that is not in flight, 1 to 65535."""
        number = self.packet_id % 65535 + 1
        while number in self.inflight:
            number = number % 65535 + 1
        self.packet_id = number
        return number

    # ---- outwards

    def deliver(
        self,
        message: Message,
        qos: int,
        retain: bool = False,
        identifiers: tuple[int, ...] = (),
        share: Subscription | None = None,
    ) -> None:
        """Send a message now, or let it wait its turn, or count it as dropped."""
        connection = self.connection
        if qos == 0:
            if connection is None:
                return
            if connection.direct:
                connection.send_message(message, 1 if retain else 0, 0, identifiers)
            elif self.backlog and self._fill() < _HALF:
                self._enqueue(Delivery(message, 0, retain, identifiers))
            else:
                self.drop(message)
            return
        ready = connection if self._may_go_at_once(connection) else None
        if ready is None and not self._has_room(message):
            return
        delivery = Delivery(message, qos, retain, identifiers, share)
        if self.persistent:
            self.hub.journal.queued(self, delivery)
        if ready is not None:
            self._transmit(ready, delivery)
        else:
            self._enqueue(delivery)

    def _may_go_at_once(self, connection: Connection | None) -> bool:
        return (
            connection is not None
            and connection.direct
            and not self.queue
            and len(self.inflight) < self.window
        )

    def drop(self, message: Message) -> None:
        """Count a message that this session will not get."""
        del message
        self.dropped += 1
        self.hub.counters.dropped += 1

    def _has_room(self, message: Message) -> bool:
        limits = self.hub.limits
        room = (
            len(self.queue) < limits.queue_messages and self.queue_bytes + message.size <= limits.queue_bytes
        )
        if not room:
            self.hub.counters.bounds["queue"] += 1
            self.drop(message)
            self.hub.slow_reader(self)
        return room

    def _enqueue(self, delivery: Delivery) -> None:
        self.queue.append(delivery)
        self.queue_bytes += delivery.message.size
        hub = self.hub
        if self.connection is None:
            return
        hub.queued += 1
        if self.silent == _NOT and self._fill() > _HALF:
            self.silent = 0.0
            hub.crowd(self)
        if self in hub.crowded:
            hub.strained = True

    def _fill(self) -> float:
        limits = self.hub.limits
        return max(
            len(self.queue) / max(1, limits.queue_messages), self.queue_bytes / max(1, limits.queue_bytes)
        )

    def relieved(self) -> None:
        """The queue is short again, or nobody is there to wait for."""
        self.silent, self.strained = _NOT, 0.0
        self.hub.crowded.discard(self)

    def _progressed(self) -> None:
        """It takes something: publishers go on waiting for it, or wait again."""
        self.silent = 0.0
        if self not in self.hub.crowded and self.strained < _LONGEST * self.hub.limits.patience:
            self.hub.crowd(self)

    def tried(self, seconds: float) -> bool:
        """Count time in which publishers waited and it could be heard. Return whether they shall wait on."""
        self.silent += seconds
        self.strained += seconds
        patience = self.hub.limits.patience
        return self.silent < patience and self.strained < _LONGEST * patience

    def _transmit(self, connection: Connection, delivery: Delivery) -> None:
        number = self.next_packet_id()
        kept = self.persistent or delivery.qos > 1 or delivery.share is not None
        self.inflight[number] = delivery if kept else None
        if delivery.number:
            self.hub.journal.sent(delivery, number)
        flags = delivery.qos << 1 | delivery.retain
        connection.send_message(delivery.message, flags, number, delivery.identifiers)

    def forget(self, delivery: Delivery | None) -> None:
        """Take a delivery out of the journal."""
        if delivery is not None and delivery.number:
            self.hub.journal.done(delivery)

    def add_retained(self, messages: list[Message], subscription: Subscription) -> None:
        """Put a new subscription's retained messages before everything that is published from now on."""
        if not messages:
            return
        self.pending += len(messages)
        self.backlog.append((subscription, iter(messages)))
        if self.connection is not None:
            self.connection.direct = False
        self.pump()

    def pump(self) -> None:
        """Send what waits, as far as window, socket and fairness allow."""
        connection = self.connection
        if self.silent != _NOT:
            self._progressed()
        if connection is None or connection.choked or not connection.open:
            return
        budget = self._pump_retained(connection, _BURST)
        if budget >= 0 and not self.backlog:
            budget = self._pump_queue(connection, budget)
        if budget < 0:
            self.hub.postpone(self)
        connection.direct = not self.backlog
        if self.silent != _NOT and self._fill() < _EASED:
            self.relieved()

    def _pump_retained(self, connection: Connection, budget: int) -> int:
        """Send retained messages; return what is left of the budget, below 0 if it is used up."""
        while self.backlog:
            subscription, messages = self.backlog[0]
            highest, ids = subscription.qos, subscription.identifiers
            if highest and len(self.inflight) >= self.window:
                return budget
            light = not self.persistent
            for message in messages:
                self.pending -= 1
                qos = min(message.qos, highest)
                if not qos:
                    connection.send_message(message, 1, 0, ids)
                elif qos == 1 and light:
                    number = self.next_packet_id()
                    self.inflight[number] = None
                    connection.send_message(message, 3, number, ids)
                else:
                    self._transmit(connection, Delivery(message, qos, True, ids))
                if qos and len(self.inflight) >= self.window:
                    return budget
                budget -= message.size
                if budget < 0:
                    return budget
            self.backlog.popleft()
        return budget

    def _pump_queue(self, connection: Connection, budget: int) -> int:
        now = self.hub.now
        while self.queue and budget >= 0 and len(self.inflight) < self.window:
            delivery = self.queue.popleft()
            self.queue_bytes -= delivery.message.size
            if delivery.message.expires <= now:
                self.forget(delivery)
            elif delivery.qos:
                self._transmit(connection, delivery)
            else:
                connection.send_message(delivery.message, delivery.retain, 0, delivery.identifiers)
            budget -= delivery.message.size
        return budget

    # ---- acknowledgements from the client

    def acknowledged(self, packet_id: int) -> None:
        """PUBACK, PUBCOMP, or a PUBREC that refuses: the message is done with."""
        if packet_id not in self.inflight:
            return
        delivery = self.inflight.pop(packet_id)
        if delivery is not None:
            self.forget(delivery)
        if self.queue or self.backlog:
            self.pump()

    def received_by_client(self, packet_id: int) -> bool:
        """PUBREC: from now on PUBREL is what is repeated. Return whether the id is known."""
        delivery = self.inflight.get(packet_id)
        if delivery is None:
            return False
        if not delivery.released:
            delivery.released = True
            if delivery.number:
                self.hub.journal.released(delivery)
        return True

    def complete(self, packet_id: int) -> bool:
        """PUBREL from the sender of a QoS 2 message: its id is free again. Return whether it is known."""
        if packet_id not in self.received:
            return False
        self.received.discard(packet_id)
        if self.persistent:
            self.hub.journal.completed(self, packet_id)
        return True

    # ---- life

    def restrict(self, grant: Grant) -> None:
        """Take over the rights of a new connection; what waits and may no longer be received is dropped."""
        self.grant = grant
        refused = [each for each in self.queue if not grant.may_receive(each.message.topic)]
        for delivery in refused:
            self.queue.remove(delivery)
            self.queue_bytes -= delivery.message.size
            self.forget(delivery)
        for packet_id, sent in list(self.inflight.items()):
            if sent is not None and not sent.released and not grant.may_receive(sent.message.topic):
                self.forget(self.inflight.pop(packet_id))

    def resume(self) -> None:
        """Repeat what was in flight on a new connection (MQTT-4.4.0-1), then send what waits."""
        connection = self.connection
        if connection is None:
            return
        for packet_id, delivery in self.inflight.items():
            if delivery is None:
                continue
            if delivery.released:
                connection.send_exactly_once(bytes((PacketType.PUBREL << 4 | 2, 2)) + pack_u16(packet_id))
            else:
                flags = 8 | delivery.qos << 1 | delivery.retain
                connection.send_message(delivery.message, flags, packet_id, delivery.identifiers)
        self.pump()

    def unfinished_shares(self) -> Iterator[Delivery]:
        """Yield what this session had to do for a group and has not: not QoS 2 once it was sent (MQTT-4.8.2-4)."""
        for sent in self.inflight.values():
            if sent is not None and sent.share is not None and sent.qos == 1:
                yield sent
        for delivery in self.queue:
            if delivery.share is not None:
                yield delivery

    def detach(self) -> None:
        """Forget what only a live connection can use: QoS 0, and retained messages, which are looked up again."""
        self.connection = None
        self.relieved()
        self.owed.extend(subscription for subscription, _ in self.backlog)
        self.backlog.clear()
        self.pending = 0
        if any(delivery.qos == 0 for delivery in self.queue):
            self.queue = deque(delivery for delivery in self.queue if delivery.qos)
            self.queue_bytes = sum(delivery.message.size for delivery in self.queue)
