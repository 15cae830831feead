"""The directory as a value: what cards and statuses say, applied message by message. Pure; no I/O, no clock.

``View.apply`` takes a message and the receiver's time and returns what changed. Nothing in it takes longer
the more nodes there are; a change of liveness touches the things of one node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from callboard_core.cards import AnyCard, NodeCard, parse_card
from callboard_core.link.values import Message
from callboard_core.messages import CARD_LIMIT, Status, StatusName, parse
from callboard_core.topics import Address, Kind, Leaf

__all__ = ["ALIVE", "Change", "Entry", "Generation", "Key", "NodeEntry", "Refused", "View", "is_stale"]

#: Statuses of a process that runs.
ALIVE = frozenset({StatusName.INIT, StatusName.READY, StatusName.SLEEPING})
#: Statuses of one that does not.
GONE = frozenset({StatusName.LOST, StatusName.DISCONNECTED})

#: Which look at the broker's retained messages brought a message: (connection, look within it).
Generation = tuple[int, int]
#: (node, kind, name); the node's own card has kind None and the node's id as name.
Key = tuple[str, Kind | None, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """One card and whether its node is alive."""

    node: str
    kind: Kind | None
    name: str
    card: AnyCard
    live: bool

    @property
    def key(self) -> Key:
        """What tells it from every other entry."""
        return (self.node, self.kind, self.name)


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """One node. ``since`` is when its status last changed, by the receiver's clock (Unix seconds)."""

    id: str
    card: NodeCard | None
    status: Status | None
    since: float
    live: bool


@dataclass(frozen=True, slots=True)
class Change:
    """An entry before and after (None: it was not, or is no more, there) and why."""

    before: Entry | None
    after: Entry | None
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that did not parse; ``t`` is the receiver's clock (Unix seconds)."""

    topic: str
    size: int
    reason: str
    t: float


@dataclass(slots=True, eq=False)
class _Node:
    card: NodeCard | None = None
    status: Status | None = None
    status_seen: Generation = (0, 0)
    since: float = 0.0
    entries: dict[Key, Entry] = field(default_factory=dict)
    seen: dict[Key, Generation] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        return self.status is not None and self.status.status in ALIVE

    @property
    def empty(self) -> bool:
        return self.status is None and not self.entries


def is_stale(status: Status, card: NodeCard | None) -> bool:
    """Tell whether a status is an earlier life's: an old session's will must never bury a live node."""
    return status.status in GONE and card is not None and status.epoch < card.epoch


class View:
    """Every node and card of a site. Not thread-safe; what it returns never changes."""

    def __init__(self, site: str, *, card_limit: int = CARD_LIMIT) -> None:
        self._site = site
        self._card_limit = card_limit
        self._nodes: dict[str, _Node] = {}
        self._entries: dict[Key, Entry] = {}
        self._by_kind: dict[Kind | None, dict[Key, Entry]] = {}
        self._by_tag: dict[str, dict[Key, Entry]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def apply(self, message: Message, now: float, generation: Generation = (0, 0)) -> list[Change]:
        """Take in a card or status; returns what changed, nothing for a repetition.

        Args:
            message: what came.
            now: the receiver's clock, Unix seconds.
            generation: which look brought it, see :meth:`sweep`.

        Raises:
            CallboardError: it does not parse; the view is as before.
        """
        address = Address.parse(message.topic)
        if address.site != self._site:
            return []
        if address.leaf is Leaf.STATUS:
            return self._apply_status(address, message, now, generation)
        if address.leaf is Leaf.ANNOUNCE:
            return self._apply_card(address, message, generation)
        return []

    def sweep(self, generation: Generation) -> list[Change]:
        """Forget what no look since ``generation`` has shown: it was cleared while nobody looked."""
        changes: list[Change] = []
        for node_id, node in list(self._nodes.items()):
            if node.status is not None and node.status_seen < generation:
                changes += self._set_status(node, None, node.since)
            for key in [key for key, seen in node.seen.items() if seen < generation]:
                changes += self._remove(key, "removed")
            self._drop_if_empty(node_id)
        return changes

    def node(self, node_id: str) -> NodeEntry | None:
        """One node, or None if nothing is known of it."""
        node = self._nodes.get(node_id)
        if node is None:
            return None
        return NodeEntry(node_id, node.card, node.status, node.since, node.live)

    def nodes(self) -> list[NodeEntry]:
        """All nodes."""
        return [
            NodeEntry(one, node.card, node.status, node.since, node.live) for one, node in self._nodes.items()
        ]

    def candidates(self, *, kind: str | None, node: str | None, tags: Iterable[str]) -> Mapping[Key, Entry]:
        """The smallest index that holds every entry of this node, kind (``"node"``: nodes' cards) and tags."""
        indexes: list[Mapping[Key, Entry]] = [self._entries]
        if node is not None:
            found = self._nodes.get(node)
            indexes.append(found.entries if found else {})
        if kind is not None:
            indexes.append(self._by_kind.get(None if kind == "node" else Kind(kind), {}))
        indexes += [self._by_tag.get(tag, {}) for tag in tags]
        return min(indexes, key=len)

    def _apply_status(
        self, address: Address, message: Message, now: float, generation: Generation
    ) -> list[Change]:
        status = parse(Status, message.payload) if message.payload else None
        node = self._nodes.setdefault(address.node, _Node())
        if status is not None and is_stale(status, node.card):
            return []
        node.status_seen = generation
        changes = self._set_status(node, status, now)
        self._drop_if_empty(address.node)
        return changes

    def _set_status(self, node: _Node, status: Status | None, now: float) -> list[Change]:
        before, was_live = node.status, node.live
        node.status = status
        if (before and before.status) != (status and status.status):
            node.since = now
        if node.live == was_live:
            return []
        reason = status.status.value if status is not None else "forgotten"
        return [self._put(replace(entry, live=node.live), reason) for entry in list(node.entries.values())]

    def _apply_card(self, address: Address, message: Message, generation: Generation) -> list[Change]:
        key: Key = (address.node, address.kind, address.name or address.node)
        if not message.payload:
            changes = self._remove(key, "removed")
            self._drop_if_empty(address.node)
            return changes
        card = parse_card(message.payload, address=address, limit=self._card_limit)
        node = self._nodes.setdefault(address.node, _Node())
        node.seen[key] = generation
        changes = self._renew(node, card) if isinstance(card, NodeCard) else []
        before = node.entries.get(key)
        if before is not None and before.card == card and before.live == node.live:
            return changes
        return [*changes, self._put(Entry(*key, card, node.live), "announced")]

    def _renew(self, node: _Node, card: NodeCard) -> list[Change]:
        """Take a node's own card; a status of an earlier life then counts no more."""
        node.card = card
        if node.status is not None and is_stale(node.status, card):
            return self._set_status(node, None, node.since)
        return []

    def _put(self, entry: Entry, reason: str) -> Change:
        before = self._entries.get(entry.key)
        if before is not None:
            self._unlist(before)
        self._entries[entry.key] = entry
        self._nodes[entry.node].entries[entry.key] = entry
        self._by_kind.setdefault(entry.kind, {})[entry.key] = entry
        for tag in entry.card.tags:
            self._by_tag.setdefault(tag, {})[entry.key] = entry
        return Change(before, entry, reason)

    def _remove(self, key: Key, reason: str) -> list[Change]:
        entry = self._entries.pop(key, None)
        if entry is None:
            return []
        node = self._nodes[entry.node]
        del node.entries[key]
        node.seen.pop(key, None)
        if entry.kind is None:
            node.card = None
        self._unlist(entry)
        return [Change(entry, None, reason)]

    def _unlist(self, entry: Entry) -> None:
        self._by_kind[entry.kind].pop(entry.key, None)
        for tag in entry.card.tags:
            tagged = self._by_tag.get(tag, {})
            tagged.pop(entry.key, None)
            if not tagged:
                self._by_tag.pop(tag, None)

    def _drop_if_empty(self, node_id: str) -> None:
        node = self._nodes.get(node_id)
        if node is not None and node.empty:
            del self._nodes[node_id]
