"""Topic trees: which subscriptions match a topic, and which retained messages match a filter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callboard_broker.mqtt.message import Message
    from callboard_broker.mqtt.session import Session

__all__ = ["Group", "Matches", "RetainedTree", "Subscription", "SubscriptionTree"]


@dataclass(frozen=True, slots=True)
class Subscription:
    """What one session asked for with one filter. ``identifiers`` has at most one member until merged."""

    filter: str
    qos: int
    no_local: bool = False
    retain_as_published: bool = False
    identifiers: tuple[int, ...] = ()
    group: str = ""

    def merged(self, other: Subscription) -> Subscription:
        """Return what an overlap of both delivers: once, at the higher QoS (MQTT-3.3.5-1)."""
        high, low = (self, other) if self.qos >= other.qos else (other, self)
        return Subscription(
            high.filter,
            high.qos,
            high.no_local and low.no_local,
            high.retain_as_published,
            high.identifiers + low.identifiers,
        )


class Group:
    """Sessions that share one filter; each message goes to one of them."""

    __slots__ = ("members", "turn")

    def __init__(self) -> None:
        self.members: dict[Session, Subscription] = {}
        self.turn = 0

    def rotation(self) -> Iterator[tuple[Session, Subscription]]:
        """Yield every member once, beginning behind the one at which the last look ended."""
        members = list(self.members.items())
        first = self.turn
        for step in range(len(members)):
            place = (first + step) % len(members)
            self.turn = place + 1
            yield members[place]


class _Node:
    __slots__ = ("children", "groups", "subscribers")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.subscribers: dict[Session, Subscription] = {}
        self.groups: dict[str, Group] = {}

    def empty(self) -> bool:
        return not (self.children or self.subscribers or self.groups)


Matches = tuple[dict["Session", Subscription], list[Group]]


class SubscriptionTree:
    """All subscriptions. ``version`` rises with every change, so that whoever remembers a match can tell it is old."""

    def __init__(self) -> None:
        self._root = _Node()
        self.version = 1
        self.count = 0

    def add(self, session: Session, subscription: Subscription, topic_filter: str) -> bool:
        """Add or replace; ``topic_filter`` is without ``$share``. Return whether it is new."""
        node = self._root
        for level in topic_filter.split("/"):
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        place = node.subscribers
        if subscription.group:
            place = node.groups.setdefault(subscription.group, Group()).members
        new = session not in place
        place[session] = subscription
        self.version += 1
        self.count += new
        return new

    def remove(self, session: Session, topic_filter: str, group: str = "") -> bool:
        """Remove one subscription and the branches it leaves empty. Return whether it was there."""
        path: list[tuple[_Node, str]] = []
        node = self._root
        for level in topic_filter.split("/"):
            child = node.children.get(level)
            if child is None:
                return False
            path.append((node, level))
            node = child
        if not self._remove_from(node, session, group):
            return False
        while path and node.empty():
            node, level = path.pop()
            del node.children[level]
        self.version += 1
        self.count -= 1
        return True

    @staticmethod
    def _remove_from(node: _Node, session: Session, group: str) -> bool:
        if not group:
            return node.subscribers.pop(session, None) is not None
        found = node.groups.get(group)
        if found is None or found.members.pop(session, None) is None:
            return False
        if not found.members:
            del node.groups[group]
        return True

    def group(self, topic_filter: str, name: str) -> Group | None:
        """Return the group that shares ``topic_filter`` under ``name``."""
        node: _Node | None = self._root
        for level in topic_filter.split("/"):
            node = node.children.get(level) if node is not None else None
        return node.groups.get(name) if node is not None else None

    def match(self, topic: str) -> Matches:
        """Return the sessions to serve, each with its merged subscription, and the groups to serve."""
        sessions: dict[Session, Subscription] = {}
        groups: list[Group] = []
        for node in self._walk(topic):
            for session, subscription in node.subscribers.items():
                known = sessions.get(session)
                sessions[session] = subscription if known is None else known.merged(subscription)
            groups.extend(node.groups.values())
        return sessions, groups

    def _walk(self, topic: str) -> Iterator[_Node]:
        levels = topic.split("/")
        nodes = [self._root]
        for depth, level in enumerate(levels):
            wild = depth > 0 or not topic.startswith("$")
            below: list[_Node] = []
            for node in nodes:
                children = node.children
                if wild and "#" in children:
                    yield children["#"]
                if level in children:
                    below.append(children[level])
                if wild and "+" in children:
                    below.append(children["+"])
            if not below:
                return
            nodes = below
        for node in nodes:
            yield node
            if "#" in node.children:
                yield node.children["#"]


class _Leaf:
    __slots__ = ("children", "message")

    def __init__(self) -> None:
        self.children: dict[str, _Leaf] = {}
        self.message: Message | None = None


class RetainedTree:
    """Retained messages by topic.

    Attributes:
        messages: the flat view.
        count: how many, and ``size``, how many bytes; the broker's own (``$SYS``) are in neither.
    """

    def __init__(self) -> None:
        self.messages: dict[str, Message] = {}
        self.count = 0
        self.size = 0
        self._root = _Leaf()

    def set(self, message: Message) -> None:
        """Keep ``message`` as its topic's retained one."""
        old = self.messages.get(message.topic)
        if message.topic[:1] != "$":
            self.count += old is None
            self.size += message.size - (old.size if old is not None else 0)
        self.messages[message.topic] = message
        node = self._root
        for level in message.topic.split("/"):
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Leaf()
            node = child
        node.message = message

    def clear(self, topic: str) -> bool:
        """Forget a topic's retained message. Return whether there was one."""
        old = self.messages.pop(topic, None)
        if old is None:
            return False
        if topic[:1] != "$":
            self.count -= 1
            self.size -= old.size
        path: list[tuple[_Leaf, str]] = []
        node = self._root
        for level in topic.split("/"):
            path.append((node, level))
            node = node.children[level]
        node.message = None
        while path and node.message is None and not node.children:
            node, level = path.pop()
            del node.children[level]
        return True

    def match(self, topic_filter: str) -> list[Message]:
        """Return the retained messages a filter matches."""
        if topic_filter == "#":
            return [message for topic, message in self.messages.items() if topic[:1] != "$"]
        if topic_filter.endswith("/#") and topic_filter.find("/") == len(topic_filter) - 2:
            # Probably most of what there is: a look at each name costs less than a walk over the tree.
            root = topic_filter[:-2]
            if root != "+":
                start = f"{root}/"
                return [
                    found
                    for topic, found in self.messages.items()
                    if topic.startswith(start) or topic == root
                ]
        if "+" not in topic_filter and "#" not in topic_filter:
            found = self.messages.get(topic_filter)
            return [] if found is None else [found]
        return self._walk(topic_filter.split("/"))

    def _walk(self, levels: list[str]) -> list[Message]:
        nodes = [self._root]
        for depth, level in enumerate(levels):
            if level == "#":
                return _at_and_below(nodes)
            if level == "+":
                hidden = depth == 0
                nodes = [
                    child
                    for node in nodes
                    for name, child in node.children.items()
                    if not (hidden and name[:1] == "$")
                ]
            else:
                nodes = [node.children[level] for node in nodes if level in node.children]
        return [node.message for node in nodes if node.message is not None]


def _at_and_below(nodes: list[_Leaf]) -> list[Message]:
    found: list[Message] = []
    while nodes:
        found += [node.message for node in nodes if node.message is not None]
        nodes = [child for node in nodes for child in node.children.values()]
    return found
