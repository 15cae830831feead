"""Where messages on one topic go, worked out once and remembered until a subscription changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callboard_broker.mqtt.wire import MQTT_5

if TYPE_CHECKING:
    from callboard_broker.mqtt.connection import Connection
    from callboard_broker.mqtt.session import Session
    from callboard_broker.mqtt.tree import Group, Subscription, SubscriptionTree

__all__ = ["Route"]


class Route:
    """The receivers of one topic.

    Attributes:
        watched: the host is told of every message, so that none is passed on unread.
        version: of the tree when this was worked out; another one means that it must be done again.
        targets: every session that may receive it, with its merged subscription.
        groups: shared subscriptions to serve.
        lane: QoS 0 only: the connections that get the publisher's own packet unchanged, or None where one of
            the receivers needs another encoding.
        express: QoS 1 only: the sessions (clean, connected, MQTT 3.1.1, granted QoS 1 or 2), or None likewise.
    """

    __slots__ = ("express", "groups", "lane", "targets", "topic", "version", "watched")

    def __init__(self, topic: str, *, watched: bool = False) -> None:
        self.topic = topic
        self.watched = watched
        self.version = 0
        self.targets: list[tuple[Session, Subscription]] = []
        self.groups: list[Group] = []
        self.lane: tuple[Connection, ...] | None = None
        self.express: tuple[Session, ...] | None = None

    def refresh(
        self, tree: SubscriptionTree, lanes: dict[tuple[Connection, ...], tuple[Connection, ...]]
    ) -> None:
        """Work it out. ``lanes`` makes equal lanes the same object, so that comparing them is cheap."""
        sessions, self.groups = tree.match(self.topic)
        self.targets = [
            (session, found) for session, found in sessions.items() if _may_receive(session, self.topic)
        ]
        self.version = tree.version
        self.lane = self.express = None
        if self.groups or not all(_is_plain(session) for session, _ in self.targets):
            return
        lane = tuple(session.connection for session, _ in self.targets if session.connection is not None)
        self.lane = None if self.watched else lanes.setdefault(lane, lane)
        if all(_is_express(session, found) for session, found in self.targets):
            self.express = tuple(session for session, _ in self.targets)


def _may_receive(session: Session, topic: str) -> bool:
    return session.grant.may_receive(topic)


def _is_plain(session: Session) -> bool:
    return session.connection is None or session.connection.version != MQTT_5


def _is_express(session: Session, subscription: Subscription) -> bool:
    return session.connection is not None and not session.expiry and subscription.qos > 0
