"""Routing: who gets a message, what is retained, and the short way for what can be passed on unchanged."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from callboard_broker.mqtt.message import NEVER, Message
from callboard_broker.mqtt.routes import Route
from callboard_broker.mqtt.topics import split_share
from callboard_broker.mqtt.tree import Group, RetainedTree, Subscription, SubscriptionTree

if TYPE_CHECKING:
    from callboard_broker.mqtt.connection import Connection
    from callboard_broker.mqtt.delivery import Delivery
    from callboard_broker.mqtt.hub import Hub
    from callboard_broker.mqtt.session import Session

__all__ = ["Router"]

#: Routes remembered over all topics.
_ROUTES = 50_000
#: Expiries that may lie about although their message was replaced.
_SLACK = 1_000


class Router:
    """The subscriptions and retained messages of a hub.

    Attributes:
        tree: all subscriptions.
        retained: all retained messages.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._counters = hub.counters
        self._limits = hub.limits
        self.tree = SubscriptionTree()
        self.retained = RetainedTree()
        self._routes: dict[str, Route] = {}
        self._lanes: dict[tuple[Connection, ...], tuple[Connection, ...]] = {}
        self._lanes_version = 0
        self._expiring: list[tuple[float, str]] = []

    def route(self, topic: str) -> Route:
        """Return the one route of a topic."""
        route = self._routes.get(topic)
        if route is None:
            if len(self._routes) >= _ROUTES:
                self._routes.clear()
            watch = self._hub.watch
            watched = watch is not None and watch.concerns(topic)
            route = self._routes[topic] = Route(topic, watched=watched)
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
                break
            offline = offline or (session, subscription)
        else:
            if offline is None:
                return
            session, subscription = offline
        qos = min(message.qos, subscription.qos)
        session.deliver(message, qos, False, subscription.identifiers, subscription)

    def share_again(self, delivery: Delivery) -> None:
        """Give what a member of a group left undone to another one (MQTT-4.8.2-5)."""
        message, share = delivery.message, delivery.share
        if share is None or message.expires <= self._hub.now:
            return
        group = self.tree.group(split_share(share.filter)[1], share.group)
        if group is not None:
            self._share(message, group)

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
        counters = self._counters
        counters.messages_in += count
        counters.publish_in += count
        counters.publish_bytes_in += size
        if not lane:
            return
        chunk = data if size == len(data) else data[start:end]
        sent, dirty = 0, self._hub.dirty
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
            self._counters.dropped += count
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
                self._hub.journal.cleared(topic)
        elif topic.startswith("$"):
            kept.set(message)
        elif not self._has_room(message):
            self._counters.bounds["retained"] += 1
            return False
        else:
            self.keep(message)
            self._hub.journal.retained(message)
        return True

    def _has_room(self, message: Message) -> bool:
        kept, limits = self.retained, self._limits
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
            if len(self._expiring) > _SLACK + 4 * self.retained.count:
                kept = self.retained.messages.values()
                self._expiring = [(each.expires, each.topic) for each in kept if each.expires != NEVER]
                heapq.heapify(self._expiring)

    def announce(self, topic: str, payload: str) -> None:
        """Publish something of the broker's own, retained and never stored."""
        self.publish(Message(topic, payload.encode(), retain=True), self.route(topic), None)

    def expire(self, now: float) -> None:
        """Forget retained messages whose time is over."""
        while self._expiring and self._expiring[0][0] <= now:
            topic = heapq.heappop(self._expiring)[1]
            found = self.retained.messages.get(topic)
            if found is not None and found.expires <= now:
                self.retained.clear(topic)
                self._hub.journal.cleared(topic)


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
