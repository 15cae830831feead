"""The hub: sessions, subscriptions, retained messages and routing. It knows no socket and no clock of its own."""

from __future__ import annotations

import heapq
import itertools
import logging
import secrets
from typing import TYPE_CHECKING

from callboard_broker.mqtt import packets
from callboard_broker.mqtt.connection import Connection, Phase, make_message
from callboard_broker.mqtt.counters import Counters
from callboard_broker.mqtt.journal import Journal
from callboard_broker.mqtt.limits import HEADROOM, Limits
from callboard_broker.mqtt.message import NEVER, Message
from callboard_broker.mqtt.properties import Properties, Property
from callboard_broker.mqtt.reasons import ProtocolError, Reason
from callboard_broker.mqtt.routes import Route
from callboard_broker.mqtt.session import Session
from callboard_broker.mqtt.topics import is_filter, split_share
from callboard_broker.mqtt.tree import Group, RetainedTree, Subscription, SubscriptionTree
from callboard_broker.mqtt.wire import MAX_REMAINING, MQTT_5

if TYPE_CHECKING:
    from callboard_broker.mqtt.access import Grant
    from callboard_broker.mqtt.observer import Observer
    from callboard_broker.mqtt.packets import Request, Subscribe, Unsubscribe, WillSpec

__all__ = ["Hub"]

log = logging.getLogger("callboard.broker")
#: Routes remembered over all topics.
_ROUTES = 50_000
#: Client ids whose take-overs are counted.
_CLIENTS = 10_000
_FOREVER = 0xFFFFFFFF


class Hub:
    """Everything connections share.

    The host feeds connections, then calls :meth:`settle`, writes the journal, and takes :attr:`dirty`.

    Attributes:
        now: board's clock in Unix seconds; the host sets it through :meth:`tick`.
        dirty: connections with something to write or to close.
        logins: connections whose CONNECT waits for a decision.
        held: acknowledgements that wait for the journal.
        crowded: connected sessions whose queue is so full that their publishers wait a little.
        pressed: connections that are not read from until their turn comes again.
    """

    def __init__(
        self, limits: Limits | None = None, journal: Journal | None = None, *, now: float = 0.0
    ) -> None:
        self.limits = limits or Limits()
        self.largest_packet = min(self.limits.message_bytes + HEADROOM, MAX_REMAINING)
        self.journal: Journal = journal or Journal()
        self.now = now
        self.counters = Counters()
        self.observer: Observer | None = None
        self.connections: set[Connection] = set()
        self.sessions: dict[str, Session] = {}
        self.tree = SubscriptionTree()
        self.retained = RetainedTree()
        self.dirty: list[Connection] = []
        self.logins: list[Connection] = []
        self.held: list[tuple[Connection, bytes]] = []
        self.crowded: set[Session] = set()
        self.pressed: list[Connection] = []
        self._doomed: list[tuple[Connection, Reason]] = []
        self._postponed: list[Session] = []
        self._routes: dict[str, Route] = {}
        self._lanes: dict[tuple[Connection, ...], tuple[Connection, ...]] = {}
        self._lanes_version = 0
        self._expiring: list[tuple[float, str]] = []
        self._timers: list[tuple[float, int, Session]] = []
        self._serial = itertools.count()

    # ---- connecting

    def session_life(self, wanted: float) -> float:
        """Return how long a session outlives its connection, in seconds."""
        return self.limits.session_expiry if wanted >= _FOREVER else min(wanted, self.limits.session_expiry)

    def admit(self, connection: Connection, user: str, grant: Grant) -> None:
        """Let a checked CONNECT in: take the session over, answer, and go on where it was."""
        login = connection.login
        if login is None or connection.phase is not Phase.CHECKING:
            return
        client_id = login.client_id or f"auto-{secrets.token_hex(10)}"
        old = self.sessions.get(client_id)
        if old is not None and old.user != user:
            connection.refuse(Reason.CLIENT_IDENTIFIER_NOT_VALID)
            return
        if login.will is not None and not grant.may_publish(login.will.topic, login.will.retain):
            connection.refuse(Reason.NOT_AUTHORIZED)
            return
        if old is None and len(self.sessions) >= self.limits.sessions:
            self.counters.bounds["sessions"] += 1
            connection.refuse(Reason.SERVER_BUSY)
            return
        session, present = self._take(client_id, user, clean=login.clean)
        connection.session = session
        connection.user = user
        connection.grant = grant
        session.restrict(grant)
        session.connection = connection
        self._apply(connection, session)
        connection.phase = Phase.OPEN
        connection.open = connection.direct = True
        connection.keepalive = login.keepalive * 1.5
        connection.send(self._connack(connection, client_id, present=present))
        self.counters.connects += 1
        self._note(session)
        if session.subscriptions:
            self.tree.version += 1
        session.resume()
        owed, session.owed = session.owed, []
        for subscription in owed:
            if session.subscriptions.get(subscription.filter) is subscription:
                self._send_retained(session, subscription, judged=False)
        connection.login = None
        if self.observer is not None:
            self.observer.connected(session)
        connection.receive(b"")

    def _note(self, session: Session) -> None:
        if session.persistent:
            session.noted = True
            self.journal.session(session)
        if session.will is not None:
            session.noted = True
            self.journal.will(session, session.will)

    def revive(self, session: Session, will_grace: float) -> None:
        """Take in a session that the journal brought back: its client has ``will_grace`` seconds to return."""
        session.noted = True
        if session.will is not None:
            session.will_at = self.now + will_grace
            self._wake_at(session.will_at, session)
        if session.persistent:
            self._wake_at(session.disconnected_at + session.expiry, session)

    def _take(self, client_id: str, user: str, *, clean: bool) -> tuple[Session, bool]:
        old = self.sessions.get(client_id)
        if old is not None and old.connection is not None:
            if len(self.counters.taken_over) > _CLIENTS:
                self.counters.taken_over.clear()
            self.counters.taken_over[client_id] += 1
            old.connection.close(Reason.SESSION_TAKEN_OVER)
            old = self.sessions.get(client_id)
        if old is not None and not old.persistent:
            old.will = None  # it was brought back only for its will, and the client is here again
        if old is not None and (clean or not old.persistent):
            self.end(old)
            old = None
        if old is not None:
            old.will_at = NEVER
            return old, True
        session = self.sessions[client_id] = Session(self, client_id, user)
        return session, False

    def _apply(self, connection: Connection, session: Session) -> None:
        login = connection.login
        if login is None:
            return
        session.will = login.will
        given = login.properties
        if login.version == MQTT_5:
            session.expiry = self.session_life(given.get(Property.SESSION_EXPIRY, 0))
            session.window = min(self.limits.inflight, given.get(Property.RECEIVE_MAXIMUM, 65535))
            connection.largest = given.get(Property.MAXIMUM_PACKET_SIZE, 0)
        else:
            session.expiry = 0.0 if login.clean else self.limits.session_expiry
            session.window = self.limits.inflight

    def _connack(self, connection: Connection, client_id: str, *, present: bool) -> bytes:
        login, limits = connection.login, self.limits
        properties: Properties = {}
        if login is not None and connection.version == MQTT_5:
            properties = {
                Property.RECEIVE_MAXIMUM: min(limits.inflight, 65535),
                Property.MAXIMUM_PACKET_SIZE: self.largest_packet,
                Property.TOPIC_ALIAS_MAXIMUM: limits.topic_aliases,
            }
            if not login.client_id:
                properties[Property.ASSIGNED_CLIENT_IDENTIFIER] = client_id
            wanted = login.properties.get(Property.SESSION_EXPIRY, 0)
            if connection.session is not None and connection.session.expiry != wanted:
                properties[Property.SESSION_EXPIRY] = int(connection.session.expiry)
        return packets.pack_connack(
            connection.version, Reason.SUCCESS, present=present, properties=properties
        )

    # ---- disconnecting

    def detach(self, connection: Connection, *, clean: bool) -> None:
        """A connection is over: its will, and what becomes of its session."""
        self.connections.discard(connection)
        session = connection.session
        if session is None or session.connection is not connection:
            return
        if self.observer is not None:
            self.observer.disconnected(session)
        session.detach()
        session.disconnected_at = self.now
        will, session.will = session.will, None
        if session.subscriptions:
            self.tree.version += 1
        if will is not None and not clean:
            self._leave_will(session, will)
        if session.persistent:
            if will is not None and session.will is None:
                self.journal.will(session, None)
            self.journal.session(session)
            self._wake_at(self.now + session.expiry, session)
        else:
            self.end(session)

    def _leave_will(self, session: Session, will: WillSpec) -> None:
        if will.delay and session.persistent:
            session.will = will
            session.will_at = self.now + min(will.delay, session.expiry)
            self._wake_at(session.will_at, session)
        else:
            self._publish_will(session, will)

    def _publish_will(self, session: Session, will: WillSpec) -> None:
        if not session.grant.may_publish(will.topic, will.retain):
            return
        message = make_message(will.topic, will.payload, will.qos, will.retain, will.properties, self.now)
        self.publish(message, self.route(will.topic), session)

    def end(self, session: Session) -> None:
        """Forget a session with all it has; a will that still waits is published first."""
        if self.sessions.get(session.client_id) is not session:
            return
        del self.sessions[session.client_id]
        if session.will_at != NEVER and session.will is not None:
            session.will_at = NEVER
            self._publish_will(session, session.will)
        for subscription in session.subscriptions.values():
            self.tree.remove(session, split_share(subscription.filter)[1], subscription.group)
        session.subscriptions.clear()
        if session.noted:
            self.journal.ended(session)

    # ---- subscriptions

    def subscribe(self, connection: Connection, packet: Subscribe) -> None:
        """Answer a SUBSCRIBE, then send what is retained (MQTT-3.3.1-6)."""
        session = connection.session
        if session is None:
            return
        codes: list[int] = []
        owed: list[Subscription] = []
        for request in packet.requests:
            code, subscription = self._subscribe_one(connection, session, request, packet.identifier)
            codes.append(code)
            if subscription is not None:
                owed.append(subscription)
        self.acknowledge(connection, packets.pack_suback(connection.version, packet.packet_id, codes))
        for subscription in owed:
            self._send_retained(session, subscription, judged=session.grant.subscribe_covers_receive)

    def _subscribe_one(
        self, connection: Connection, session: Session, request: Request, identifier: int
    ) -> tuple[int, Subscription | None]:
        group, topic_filter = split_share(request.filter)
        reason = self._judge_filter(connection, session, request, topic_filter)
        if reason is not None:
            return reason, None
        ids = (identifier,) if identifier else ()
        made = Subscription(
            request.filter, request.qos, request.no_local, request.retain_as_published, ids, group
        )
        new = self.subscribe_session(session, made)
        wanted = not group and (request.retain_handling == 0 or (request.retain_handling == 1 and new))
        return request.qos, made if wanted else None

    def subscribe_session(self, session: Session, made: Subscription) -> bool:
        """Make or replace a subscription that was judged. Return whether it is new."""
        new = self.tree.add(session, made, split_share(made.filter)[1])
        session.subscriptions[made.filter] = made
        if session.persistent:
            self.journal.subscribed(session, made)
        if self.observer is not None:
            self.observer.subscribed(session, made.filter, made.qos)
        return new

    def _judge_filter(
        self, connection: Connection, session: Session, request: Request, topic_filter: str
    ) -> Reason | None:
        if not is_filter(topic_filter):
            if connection.version != MQTT_5:
                raise ProtocolError(Reason.TOPIC_FILTER_INVALID, "SUBSCRIBE with an invalid filter")
            return Reason.TOPIC_FILTER_INVALID
        if request.no_local and topic_filter != request.filter:
            raise ProtocolError(Reason.PROTOCOL_ERROR, "no-local on a shared subscription")
        if not connection.grant.may_subscribe(topic_filter):
            self.counters.refused["subscribe"] += 1
            return Reason.NOT_AUTHORIZED
        known = request.filter in session.subscriptions
        if not known and len(session.subscriptions) >= self.limits.subscriptions:
            self.counters.bounds["subscriptions"] += 1
            return Reason.QUOTA_EXCEEDED
        if session.pending > self.limits.retained_pending:
            self.counters.bounds["retained_pending"] += 1
            return Reason.QUOTA_EXCEEDED
        return None

    def _send_retained(self, session: Session, subscription: Subscription, *, judged: bool) -> None:
        now, grant = self.now, session.grant
        found = self.retained.match(subscription.filter)
        session.add_retained(
            [
                message
                for message in found
                if message.expires > now and (judged or grant.may_receive(message.topic))
            ],
            subscription,
        )

    def unsubscribe(self, connection: Connection, packet: Unsubscribe) -> None:
        """Answer an UNSUBSCRIBE."""
        session = connection.session
        if session is None:
            return
        codes: list[int] = []
        for name in packet.filters:
            group, topic_filter = split_share(name)
            session.subscriptions.pop(name, None)
            there = self.tree.remove(session, topic_filter, group)
            codes.append(Reason.SUCCESS if there else Reason.NO_SUBSCRIPTION_EXISTED)
            if there and session.persistent:
                self.journal.unsubscribed(session, name)
            if there and self.observer is not None:
                self.observer.unsubscribed(session, name)
        self.acknowledge(connection, packets.pack_unsuback(connection.version, packet.packet_id, codes))

    # ---- routing

    def route(self, topic: str) -> Route:
        """Return the one route of a topic."""
        route = self._routes.get(topic)
        if route is None:
            if len(self._routes) >= _ROUTES:
                self._routes.clear()
            route = self._routes[topic] = Route(topic)
        return route

    def refresh(self, route: Route) -> None:
        """Work out a route again after subscriptions changed."""
        if self._lanes_version != self.tree.version:
            self._lanes.clear()
            self._lanes_version = self.tree.version
        route.refresh(self.tree, self._lanes)

    def publish(self, message: Message, route: Route, source: Session | None) -> bool:
        """Deliver a message, and keep it if it is to be retained. Return False if there is no room to keep it."""
        if message.retain and not self.retain(message):
            return False
        if route.version != self.tree.version:
            self.refresh(route)
        for session, subscription in route.targets:
            if subscription.no_local and session is source:
                continue
            qos = min(message.qos, subscription.qos)
            session.deliver(
                message, qos, message.retain and subscription.retain_as_published, subscription.identifiers
            )
        for group in route.groups:
            self._share(message, group)
        return True

    def _share(self, message: Message, group: Group) -> None:
        offline: tuple[Session, Subscription] | None = None
        for session, subscription in group.rotation():
            if not session.grant.may_receive(message.topic):
                continue
            if session.connection is not None and not session.connection.choked:
                session.deliver(message, min(message.qos, subscription.qos), False, subscription.identifiers)
                return
            offline = offline or (session, subscription)
        if offline is not None:
            session, subscription = offline
            session.deliver(message, min(message.qos, subscription.qos), False, subscription.identifiers)

    def forward(
        self,
        source: Connection,
        lane: tuple[Connection, ...] | None,
        data: bytes,
        start: int,
        end: int,
        count: int,
    ) -> None:
        """Pass ``count`` whole QoS 0 packets on unchanged to everybody in ``lane``."""
        source.publish_in += count
        size = end - start
        counters = self.counters
        counters.messages_in += count
        counters.publish_in += count
        counters.publish_bytes_in += size
        if not lane:
            return
        chunk = data if size == len(data) else data[start:end]
        sent, dirty = 0, self.dirty
        for target in lane:
            if target.direct:
                if not target.out:
                    dirty.append(target)
                target.out.append(chunk)
                sent += 1
            elif target.session is not None:
                self._offer(target.session, chunk, count)
        counters.messages_out += sent * count
        counters.publish_out += sent * count
        counters.publish_bytes_out += sent * size

    def _offer(self, session: Session, chunk: bytes, count: int) -> None:
        if not session.backlog:
            session.dropped += count
            self.counters.dropped += count
            return
        for message in _messages(chunk):
            session.deliver(message, 0)

    def retain(self, message: Message) -> bool:
        """Keep a message as its topic's retained one; an empty payload clears (MQTT-3.3.1-10).

        Returns:
            False if a bound keeps it from being kept.
        """
        topic, kept = message.topic, self.retained
        if not message.payload:
            if kept.clear(topic):
                self.journal.cleared(topic)
        elif topic.startswith("$"):
            kept.set(message)
        elif not self._has_room(message):
            self.counters.bounds["retained"] += 1
            return False
        else:
            self.keep(message)
            self.journal.retained(message)
        return True

    def _has_room(self, message: Message) -> bool:
        kept, limits = self.retained, self.limits
        known = kept.messages.get(message.topic)
        if known is None:
            fits = kept.count < limits.retained_messages
            return fits and kept.size + message.size <= limits.retained_bytes
        return kept.size + message.size - known.size <= limits.retained_bytes

    def keep(self, message: Message) -> None:
        """Keep a retained message and remember when it expires."""
        self.retained.set(message)
        if message.expires != NEVER:
            heapq.heappush(self._expiring, (message.expires, message.topic))

    def announce(self, topic: str, payload: str) -> None:
        """Publish something of the broker's own, retained and never stored."""
        self.publish(Message(topic, payload.encode(), retain=True), self.route(topic), None)

    def acknowledge(self, connection: Connection, packet: bytes) -> None:
        """Send what promises that something was kept, or hold it until the journal has it (in order)."""
        if self.journal.waiting or self.held:
            self.held.append((connection, packet))
        else:
            connection.send(packet)

    def release(self, count: int | None = None) -> None:
        """The journal has everything: send what was held, or the first ``count`` of it."""
        held = self.held[:count]
        del self.held[:count]
        for connection, packet in held:
            if connection.phase is not Phase.CLOSED:
                connection.send(packet)

    # ---- bounds and errors

    def refused_publish(self, connection: Connection, topic: str) -> None:
        """Count a PUBLISH that access rules refuse."""
        self.counters.refused["publish"] += 1
        log.debug("%s may not publish to %s", connection.user, topic)

    def note_error(self, connection: Connection, error: ProtocolError) -> None:
        """Count and log a broken protocol."""
        self.counters.refused[error.reason.name.lower()] += 1
        client_id = connection.session.client_id if connection.session is not None else "?"
        log.info("closing %s (%s): %s", client_id, connection.address, error)

    def slow_reader(self, session: Session) -> None:
        """Doom a session whose queue is full: it is disconnected at the end of this turn."""
        if session.connection is not None:
            session.connection.direct = False
            self._doomed.append((session.connection, Reason.QUOTA_EXCEEDED))

    def postpone(self, session: Session) -> None:
        """Let a session go on sending after others had their turn."""
        self._postponed.append(session)

    def settle(self) -> None:
        """End a turn: disconnect the doomed."""
        while self._doomed:
            connection, reason = self._doomed.pop()
            if connection.open and connection.session is not None:
                log.warning("dropping slow reader %s: its queue is full", connection.session.client_id)
                self.counters.bounds["slow_reader"] += 1
                connection.close(reason, "queue is full")

    def go_on(self) -> bool:
        """Let those go on that let others go first. Return whether there were any."""
        waiting, self._postponed = self._postponed, []
        for session in waiting:
            session.pump()
        if self.crowded or not self.pressed:
            return bool(waiting)
        pressed, self.pressed = self.pressed, []
        for connection in pressed:
            connection.unpress()
        return True

    # ---- time

    def _wake_at(self, when: float, session: Session) -> None:
        heapq.heappush(self._timers, (when, next(self._serial), session))

    def tick(self, now: float) -> None:
        """Let time pass: silent clients, late CONNECTs, delayed wills, expired sessions."""
        self.now = now
        for connection in list(self.connections):
            if connection.heard:
                connection.heard = False
                if connection.open:
                    connection.heard_at = now
            elif (
                connection.keepalive
                and not connection.pressed
                and now - connection.heard_at >= connection.keepalive
            ):
                self._silent(connection)
            if not connection.open and now - connection.heard_at >= self.limits.connect_timeout:
                self._silent(connection)
            if connection.choked and now - connection.choked_at >= self.limits.stall_timeout:
                self.counters.bounds["stall_timeout"] += 1
                connection.close(Reason.QUOTA_EXCEEDED)
        for session in [each for each in self.crowded if now - each.crowded_at >= self.limits.patience]:
            self.crowded.discard(session)
        while self._expiring and self._expiring[0][0] <= now:
            self._retained_due(heapq.heappop(self._expiring)[1])
        while self._timers and self._timers[0][0] <= now:
            self._due(heapq.heappop(self._timers)[2])

    def _retained_due(self, topic: str) -> None:
        found = self.retained.messages.get(topic)
        if found is not None and found.expires <= self.now:
            self.retained.clear(topic)
            self.journal.cleared(topic)

    def _silent(self, connection: Connection) -> None:
        self.counters.bounds["keepalive" if connection.open else "connect_timeout"] += 1
        connection.close(Reason.KEEP_ALIVE_TIMEOUT)

    def _due(self, session: Session) -> None:
        if session.connection is not None or self.sessions.get(session.client_id) is not session:
            return
        if session.will is not None and session.will_at <= self.now:
            will, session.will, session.will_at = session.will, None, NEVER
            self._publish_will(session, will)
            if session.persistent:
                self.journal.will(session, None)
        if session.disconnected_at + session.expiry <= self.now:
            self.counters.expired_sessions += 1
            self.end(session)


def _messages(chunk: bytes) -> list[Message]:
    found: list[Message] = []
    position = 0
    while position < len(chunk):
        size, shift, start = 0, 0, position + 1
        while True:
            byte = chunk[start]
            start += 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:  # noqa: PLR2004 - the continuation bit is clear
                break
        split = start + 2 + int.from_bytes(chunk[start : start + 2], "big")
        position = start + size
        found.append(Message(chunk[start + 2 : split].decode(), chunk[split:position]))
    return found
