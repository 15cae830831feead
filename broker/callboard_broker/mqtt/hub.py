"""The hub: sessions, subscriptions, retained messages and routing. It knows no socket and no clock of its own."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING

from callboard_broker.mqtt import packets
from callboard_broker.mqtt.connection import Connection
from callboard_broker.mqtt.counters import Counters
from callboard_broker.mqtt.journal import Journal
from callboard_broker.mqtt.limits import HEADROOM, LARGEST_CONNECT, Limits
from callboard_broker.mqtt.message import NEVER
from callboard_broker.mqtt.phase import Phase
from callboard_broker.mqtt.properties import Properties, Property
from callboard_broker.mqtt.publishing import make_message
from callboard_broker.mqtt.reasons import ProtocolError, Reason
from callboard_broker.mqtt.router import Router
from callboard_broker.mqtt.session import Session
from callboard_broker.mqtt.subscribing import send_retained
from callboard_broker.mqtt.timers import Timers
from callboard_broker.mqtt.topics import split_share
from callboard_broker.mqtt.wire import MAX_REMAINING, MQTT_5

if TYPE_CHECKING:
    from callboard_broker.mqtt.access import Grant
    from callboard_broker.mqtt.observer import Observer
    from callboard_broker.mqtt.packets import WillSpec
    from callboard_broker.mqtt.requests import Requests
    from callboard_broker.mqtt.watch import Watch

__all__ = ["Hub"]

log = logging.getLogger("callboard.broker")
#: Client ids whose take-overs are counted.
_CLIENTS = 10_000
_FOREVER = 0xFFFFFFFF
#: Packets held back for one connection: a message and an answer for each of its packet ids.
_HELD = 2 * 65_535
#: The most seconds one tick may use up of the patience with a session: if more have passed since the tick before, the
#: loop was busy, and what the client said meanwhile may lie unread.
_CHANCE = 0.25


class Hub:
    """Everything connections share.

    The host feeds connections, then calls :meth:`settle`, writes the journal, and takes :attr:`dirty`.

    Attributes:
        now: board's clock in Unix seconds; the host sets it through :meth:`tick`.
        dirty: connections with something to write or to close.
        logins: connections whose CONNECT waits for a decision.
        held: acknowledgements, and QoS 2 messages, that wait for the journal.
        crowded: connected sessions whose queue is so full that their publishers wait a little.
        strained: somebody has just published into a crowded session.
        pressed: connections that are not read from until their turn comes again.
        barred: connections that are not read from until no session is crowded.
        queued: deliveries that had to wait for a connected client, since the start.
    """

    def __init__(
        self, limits: Limits | None = None, journal: Journal | None = None, *, now: float = 0.0
    ) -> None:
        self.limits = limits or Limits()
        self.largest_packet = min(self.limits.message_bytes + HEADROOM, MAX_REMAINING)
        self.largest_connect = min(self.largest_packet, LARGEST_CONNECT)
        self.journal: Journal = journal or Journal()
        self.now = now
        self.counters = Counters()
        self.observer: Observer | None = None
        self.requests: Requests | None = None
        self.watch: Watch | None = None
        self.connections: set[Connection] = set()
        self.sessions: dict[str, Session] = {}
        self.router = Router(self)
        self.tree = self.router.tree
        self.retained = self.router.retained
        self.dirty: list[Connection] = []
        self.logins: list[Connection] = []
        self.held: list[tuple[Connection, bytes]] = []
        self.crowded: set[Session] = set()
        self.strained = False
        self.pressed: list[Connection] = []
        self.barred: list[Connection] = []
        self.queued = 0
        self._doomed: list[tuple[Connection, Reason]] = []
        self._postponed: list[Session] = []
        self._timers = Timers(self.sessions)

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
        foreign = old is not None and old.user != user
        if old is not None and foreign and grant.rank <= old.grant.rank:
            self.kept_out(connection, Reason.CLIENT_IDENTIFIER_NOT_VALID)
            connection.refuse(Reason.CLIENT_IDENTIFIER_NOT_VALID)
            return
        if login.will is not None and not grant.may_publish(login.will.topic, login.will.retain):
            self.kept_out(connection, Reason.NOT_AUTHORIZED)
            connection.refuse(Reason.NOT_AUTHORIZED)
            return
        if old is None and len(self.sessions) >= self.limits.sessions:
            self.counters.bounds["sessions"] += 1
            connection.refuse(Reason.SERVER_BUSY)
            return
        session, present = self._take(client_id, user, clean=login.clean or foreign)
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
                send_retained(self, session, subscription, judged=False)
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
            self._timers.wake_at(session.will_at, session)
        if session.persistent:
            self._timers.wake_at(session.disconnected_at + session.expiry, session)

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
            self._timers.wake_at(self.now + session.expiry, session)
        else:
            self.end(session)

    def _leave_will(self, session: Session, will: WillSpec) -> None:
        if will.delay and session.persistent:
            session.will = will
            session.will_at = self.now + min(will.delay, session.expiry)
            self._timers.wake_at(session.will_at, session)
        else:
            self._publish_will(session, will)

    def _publish_will(self, session: Session, will: WillSpec) -> None:
        if not session.grant.may_publish(will.topic, will.retain):
            return
        message = make_message(will.topic, will.payload, will.qos, will.retain, will.properties, self.now)
        route = self.router.route(will.topic)
        if route.watched and self.watch is not None:
            self.watch.saw(session, will.topic, will.payload)
        self.router.publish(message, route, session)

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
        for delivery in session.unfinished_shares():
            self.router.share_again(delivery)
        if session.noted:
            self.journal.ended(session)

    def acknowledge(self, connection: Connection, packet: bytes, since: int | None = None) -> None:
        """Send what promises that something was kept, or hold it until the journal has it (in order).

        ``since`` is :attr:`Journal.told` from before the work whose end this is; None if it depends on all that was told.
        """
        unsafe = self.journal.waiting or bool(self.held) if since is None else self.journal.told != since
        if not (unsafe or connection.held):
            connection.send(packet)
        elif connection.held < _HELD:
            connection.held += 1
            self.held.append((connection, packet))
        else:
            connection.close(Reason.RECEIVE_MAXIMUM_EXCEEDED, "too much that is not acknowledged yet")

    def release(self, count: int | None = None) -> None:
        """The journal has everything: send what was held, or the first ``count`` of it."""
        held = self.held[:count]
        del self.held[:count]
        for connection, packet in held:
            connection.held -= 1
            if connection.phase is not Phase.CLOSED:
                connection.send(packet)

    # ---- bounds and errors

    def refused_publish(self, connection: Connection, topic: str) -> None:
        """Count a PUBLISH that access rules refuse."""
        self.counters.refused["publish"] += 1
        log.debug("%s may not publish to %s", connection.user, topic)
        if self.watch is not None and connection.session is not None:
            self.watch.refused(connection.session, topic)

    def kept_out(self, connection: Connection, reason: Reason) -> None:
        """Tell the host of a CONNECT that is refused for who sends it."""
        if self.watch is not None:
            self.watch.kept_out(connection, reason)

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

    def crowd(self, session: Session) -> None:
        """From now on publishers into a session wait. Its own client must be read: it has to acknowledge."""
        self.crowded.add(session)
        connection = session.connection
        if connection is not None and connection.pressed and connection in self.barred:
            self.barred.remove(connection)
            self.pressed.append(connection)

    def press(self, connection: Connection) -> None:
        """Let a connection wait for its next turn, or for the crowded session it has just published into."""
        barred = self.strained and connection.session not in self.crowded
        (self.barred if barred else self.pressed).append(connection)
        self.strained = False

    def settle(self) -> None:
        """End a turn: disconnect the doomed."""
        while self._doomed:
            connection, reason = self._doomed.pop()
            if connection.open and connection.session is not None:
                log.warning("dropping slow reader %s: its queue is full", connection.session.client_id)
                self.counters.bounds["slow_reader"] += 1
                connection.give_up(reason, "queue is full")

    def go_on(self) -> bool:
        """Let those go on that let others go first. Return whether there were any."""
        waiting, self._postponed = self._postponed, []
        for session in waiting:
            session.pump()
        self.strained = False
        if not self.crowded and self.barred:
            self.pressed += self.barred
            self.barred = []
        if not self.pressed:
            return bool(waiting)
        pressed, self.pressed = self.pressed, []
        for connection in pressed:
            connection.unpress()
        return True

    # ---- time

    def tick(self, now: float) -> None:
        """Let time pass: silent clients, late CONNECTs, delayed wills, expired sessions."""
        chance, self.now = min(max(0.0, now - self.now), _CHANCE), now
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
                connection.give_up(Reason.QUOTA_EXCEEDED, "nothing was taken for too long")
        self.crowded = {session for session in self.crowded if session.tried(chance)}
        self.router.expire(now)
        for session in self._timers.due(now):
            self._due(session)

    def _silent(self, connection: Connection) -> None:
        self.counters.bounds["keepalive" if connection.open else "connect_timeout"] += 1
        connection.close(Reason.KEEP_ALIVE_TIMEOUT)

    def _due(self, session: Session) -> None:
        if session.will is not None and session.will_at <= self.now:
            will, session.will, session.will_at = session.will, None, NEVER
            self._publish_will(session, will)
            if session.persistent:
                self.journal.will(session, None)
        if session.disconnected_at + session.expiry <= self.now:
            self.counters.expired_sessions += 1
            self.end(session)
