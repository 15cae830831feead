"""SUBSCRIBE and UNSUBSCRIBE: what is granted, and the retained messages that a new subscription is owed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callboard_broker.mqtt import packets
from callboard_broker.mqtt.reasons import ProtocolError, Reason
from callboard_broker.mqtt.topics import is_filter, split_share
from callboard_broker.mqtt.tree import Subscription
from callboard_broker.mqtt.wire import MQTT_5

if TYPE_CHECKING:
    from callboard_broker.mqtt.connection import Connection
    from callboard_broker.mqtt.hub import Hub
    from callboard_broker.mqtt.packets import Request, Subscribe, Unsubscribe
    from callboard_broker.mqtt.session import Session

__all__ = ["add_subscription", "send_retained", "subscribe", "unsubscribe"]


def subscribe(hub: Hub, connection: Connection, packet: Subscribe) -> None:
    """Answer a SUBSCRIBE, then send what is retained (MQTT-3.3.1-6)."""
    session = connection.session
    if session is None:
        return
    since = hub.journal.told
    codes: list[int] = []
    owed: list[Subscription] = []
    for request in packet.requests:
        code, subscription = _subscribe_one(hub, connection, session, request, packet.identifier)
        codes.append(code)
        if subscription is not None:
            owed.append(subscription)
    hub.acknowledge(connection, packets.pack_suback(connection.version, packet.packet_id, codes), since)
    for subscription in owed:
        send_retained(hub, session, subscription, judged=session.grant.subscribe_covers_receive)


def _subscribe_one(
    hub: Hub, connection: Connection, session: Session, request: Request, identifier: int
) -> tuple[int, Subscription | None]:
    group, topic_filter = split_share(request.filter)
    reason = _judge_filter(hub, connection, session, request, topic_filter)
    if reason is not None:
        return reason, None
    ids = (identifier,) if identifier else ()
    made = Subscription(
        request.filter, request.qos, request.no_local, request.retain_as_published, ids, group
    )
    new = add_subscription(hub, session, made)
    wanted = not group and (request.retain_handling == 0 or (request.retain_handling == 1 and new))
    return request.qos, made if wanted else None


def add_subscription(hub: Hub, session: Session, made: Subscription) -> bool:
    """Make or replace a subscription that was judged. Return whether it is new."""
    new = hub.router.tree.add(session, made, split_share(made.filter)[1])
    session.subscriptions[made.filter] = made
    if session.persistent:
        hub.journal.subscribed(session, made)
    if hub.observer is not None:
        hub.observer.subscribed(session, made.filter, made.qos)
    return new


def _judge_filter(
    hub: Hub, connection: Connection, session: Session, request: Request, topic_filter: str
) -> Reason | None:
    if not is_filter(topic_filter):
        if connection.version != MQTT_5:
            raise ProtocolError(Reason.TOPIC_FILTER_INVALID, "SUBSCRIBE with an invalid filter")
        return Reason.TOPIC_FILTER_INVALID
    if request.no_local and topic_filter != request.filter:
        raise ProtocolError(Reason.PROTOCOL_ERROR, "no-local on a shared subscription")
    if not connection.grant.may_subscribe(topic_filter):
        hub.counters.refused["subscribe"] += 1
        return Reason.NOT_AUTHORIZED
    known = request.filter in session.subscriptions
    if not known and len(session.subscriptions) >= hub.limits.subscriptions:
        hub.counters.bounds["subscriptions"] += 1
        return Reason.QUOTA_EXCEEDED
    if session.pending > hub.limits.retained_pending:
        hub.counters.bounds["retained_pending"] += 1
        return Reason.QUOTA_EXCEEDED
    return None


def send_retained(hub: Hub, session: Session, subscription: Subscription, *, judged: bool) -> None:
    """Send what is retained; ``judged`` says that the right to subscribe was checked and covers delivery."""
    now, grant = hub.now, session.grant
    found = hub.router.retained.match(subscription.filter)
    session.add_retained(
        [
            message
            for message in found
            if message.expires > now and (judged or grant.may_receive(message.topic))
        ],
        subscription,
    )


def unsubscribe(hub: Hub, connection: Connection, packet: Unsubscribe) -> None:
    """Answer an UNSUBSCRIBE."""
    session = connection.session
    if session is None:
        return
    since = hub.journal.told
    codes: list[int] = []
    for name in packet.filters:
        group, topic_filter = split_share(name)
        session.subscriptions.pop(name, None)
        there = hub.router.tree.remove(session, topic_filter, group)
        codes.append(Reason.SUCCESS if there else Reason.NO_SUBSCRIPTION_EXISTED)
        if there and session.persistent:
            hub.journal.unsubscribed(session, name)
        if there and hub.observer is not None:
            hub.observer.unsubscribed(session, name)
    hub.acknowledge(connection, packets.pack_unsuback(connection.version, packet.packet_id, codes), since)
