"""The board as the console knows it, taken in message by message. Pure: no I/O, no clock, no threads.

Cards and statuses are core's :class:`View`; here come the last states, short traces, the log of events, what is
retained, and the immutable snapshots of it all. A snapshot costs only what changed since the one before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from callboard_console.web.snapshot import (
    EventLine,
    NodeView,
    Refusal,
    Retained,
    Snapshot,
    Thing,
    ThingKey,
    Topics,
)
from callboard_core.calls.sessions import Sessions
from callboard_core.calls.survey import HEARTBEAT, Survey
from callboard_core.errors import CallboardError
from callboard_core.link import Message
from callboard_core.messages import Event, State, StatusName, parse
from callboard_core.topics import Address, Kind, Leaf
from callboard_core.view import Entry, Generation, View

__all__ = ["Model"]

#: Points of a trace, and the least seconds between two of them.
TRACE_POINTS = 40
TRACE_STEP = 1.0
#: Lines of the event log and of refused messages that are kept.
LOG_LINES = 1000
REFUSED_KEPT = 100
#: Seconds over which the message rate is averaged.
RATE_WINDOW = 5.0

#: What hangs on the board by the rules of the topic tree.
_HANGING = frozenset({Leaf.STATUS, Leaf.ANNOUNCE, Leaf.STATE})


class _Value:
    """The last state of one thing and the trace of its numbers."""

    __slots__ = ("frozen", "received", "seen", "state", "trace", "traced")

    def __init__(self) -> None:
        self.state: State | None = None
        self.received = 0.0
        self.seen: Generation = (0, 0)
        self.trace: deque[float] = deque(maxlen=TRACE_POINTS)
        self.traced = 0.0
        self.frozen: Thing | None = None

    def take(self, state: State, now: float, seen: Generation) -> None:
        self.state, self.received, self.seen, self.frozen = state, now, seen, None
        if isinstance(state.v, bool) or not isinstance(state.v, int | float):
            return
        if self.trace and now - self.traced < TRACE_STEP:
            self.trace[-1] = float(state.v)
        else:
            self.trace.append(float(state.v))
            self.traced = now


class Model:
    """Everything the console has heard. The caller sees to it that one thread at a time is in here."""

    def __init__(self, site: str, now: float) -> None:
        self._site = site
        self._view = View(site)
        self._values: dict[str, dict[ThingKey, _Value]] = {}
        self._retained: dict[str, tuple[Retained, Generation]] = {}
        self._generation: Generation = (0, 0)
        self._heard: dict[str, float] = {}
        self._registry: dict[str, Mapping[str, Any]] = {}
        self._events: deque[EventLine] = deque(maxlen=LOG_LINES)
        self._refusals: deque[Refusal] = deque(maxlen=REFUSED_KEPT)
        self._nodes: dict[str, NodeView] = {}
        self._changed_nodes: set[str] = set()
        self._survey = Survey(now)
        self._sessions = Sessions()
        self._connected, self._connection_changed, self._complete = False, now, False
        self._counted = 0
        self._rates: deque[tuple[float, int]] = deque([(now, 0)])
        self._strays: dict[str, Retained] = {}
        self._sweeping: dict[str, Retained] = {}
        self._topics_changed = True
        self._topics = Topics()
        self.dirty = True
        self.urgent = False

    # -- what comes in -------------------------------------------------------------------------------------

    def apply(self, message: Message, now: float, round_: int = 0) -> None:
        """Take in one message; what does not parse is kept as a refusal and changes nothing else.

        ``round_`` counts the looks at everything retained within one connection, see :meth:`settle`.
        """
        self._counted += 1
        self._generation = (message.session, round_)
        self.dirty = True
        try:
            self._take(message, now)
        except CallboardError as error:
            node = message.topic.split("/")[1:2]
            refusal = Refusal(now, message.topic, node[0] if node else None, str(error), len(message.payload))
            self._refusals.appendleft(refusal)

    def _take(self, message: Message, now: float) -> None:
        address = Address.parse(message.topic)
        if address.leaf is Leaf.EVENT:
            self._take_event(address, message, now)
        elif address.leaf in _HANGING:
            self._hang(message, now)
            if address.leaf is Leaf.STATE:
                self._take_state(address, message, now)
                self.urgent |= address.kind is Kind.CONTROL  # a hand waits for its echo
            else:
                self._take_card(address, message, now)
        if (
            address.name != HEARTBEAT
        ):  # it says nothing of the node itself, and comes from all of them all the time
            self._changed_nodes.add(address.node)
        if not message.retain and address.leaf is not Leaf.STATUS:
            self._heard[address.node] = now

    def _take_card(self, address: Address, message: Message, now: float) -> None:
        self._view.apply(message, now, self._generation)
        self.urgent = True
        node = self._view.node(address.node)
        if address.leaf is Leaf.STATUS and node is not None and node.live and not message.retain:
            self._heard[address.node] = now
        value = (
            self._values.get(address.node, {}).get((address.kind, address.name or ""))
            if address.kind
            else None
        )
        if value is not None:
            value.frozen = None

    def _take_state(self, address: Address, message: Message, now: float) -> None:
        if address.kind is None or address.name is None:
            return
        values, key = self._values.setdefault(address.node, {}), (address.kind, address.name)
        if not message.payload:
            values.pop(key, None)
            return
        state = parse(State, message.payload)
        values.setdefault(key, _Value()).take(state, now, self._generation)

    def _take_event(self, address: Address, message: Message, now: float) -> None:
        event = parse(Event, message.payload)
        if address.name == HEARTBEAT:
            self._survey.note(address.node, event.data, now)
            self._sessions.note(address.node, event.data, now)
            return
        said = event.message or ", ".join(f"{key}: {value}" for key, value in event.data.items())
        self._events.appendleft(EventLine(now, address.node, address.name or "", event.severity, said))

    def _hang(self, message: Message, now: float) -> None:
        self._topics_changed = True
        if message.payload:
            self._retained[message.topic] = (Retained(message.payload, now), self._generation)
        else:
            self._retained.pop(message.topic, None)

    def stray(self, message: Message, now: float) -> None:
        """Note one message that a sweep over everything retained brought."""
        if message.payload:
            self._sweeping[message.topic] = Retained(message.payload, now)

    def swept(self) -> None:
        """The sweep is over: what it found outside the usual tree replaces what an earlier one found."""
        self._strays = {topic: held for topic, held in self._sweeping.items() if topic not in self._retained}
        self._sweeping = {}
        self._topics_changed = True

    def connection(self, now: float, *, connected: bool) -> None:
        """Note that the broker is heard, or no longer."""
        if connected != self._connected:
            self._connected, self._connection_changed = connected, now
            self._complete = False
            self._survey.begin_again(now)
        self.dirty = self.urgent = True

    def settle(self, generation: Generation) -> None:
        """Everything retained has arrived in this look (connection, round): forget what it did not bring."""
        self._view.sweep(generation)
        for node, values in self._values.items():
            self._values[node] = {key: value for key, value in values.items() if value.seen >= generation}
        self._retained = {topic: held for topic, held in self._retained.items() if held[1] >= generation}
        self._topics_changed = True
        self._changed_nodes.update(self._nodes)
        self._complete = self.dirty = self.urgent = True

    def registry(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Take what the board's registry remembers from before the console was started."""
        self._registry = {str(item["id"]): item for item in items if "id" in item}
        self._changed_nodes.update(self._registry)
        self.dirty = True

    # -- what goes out -------------------------------------------------------------------------------------

    def snapshot(self, now: float) -> Snapshot:
        """Return the board as it is."""
        for node in self._changed_nodes:
            seen = self._node(node)
            if seen is not None:
                self._nodes[node] = seen
            else:
                self._nodes.pop(node, None)
        self._changed_nodes.clear()
        self.dirty = self.urgent = False
        return Snapshot(
            t=now,
            site=self._site,
            connected=self._connected,
            changed=self._connection_changed,
            complete=self._complete,
            rate=self._rate(now),
            nodes=MappingProxyType(dict(self._nodes)),
            events=tuple(self._events),
            refusals=tuple(self._refusals),
            services=tuple(self._survey.services(self._workers(), now)),
            sessions=tuple(self._sessions.live(now)),
        )

    def _workers(self) -> Iterable[Entry]:
        return self._view.candidates(kind=Kind.WORKER, node=None, tags=()).values()

    def topics(self) -> Topics:
        """Return every retained message; the same object until something changed."""
        if self._topics_changed:
            held = self._strays | {topic: retained for topic, (retained, _) in self._retained.items()}
            same = len(held) == len(self._topics.held) and held.keys() == self._topics.held.keys()
            self._topics = Topics(self._topics.names if same else tuple(sorted(held)), MappingProxyType(held))
            self._topics_changed = False
        return self._topics

    def _rate(self, now: float) -> float:
        self._rates.append((now, self._counted))
        while len(self._rates) > 2 and now - self._rates[0][0] > RATE_WINDOW:  # noqa: PLR2004 - a rate needs two
            self._rates.popleft()
        (first, before), (last, after) = self._rates[0], self._rates[-1]
        return (after - before) / (last - first) if last > first else 0.0

    def _node(self, node: str) -> NodeView | None:
        entry = self._view.node(node)
        if entry is None:
            return None
        status = entry.status.status if entry.status is not None else None
        kept = self._registry.get(node, {})
        return NodeView(
            id=node,
            card=entry.card,
            status=status,
            epoch=entry.status.epoch if entry.status is not None else None,
            since=_since(entry.since, status, kept),
            last_seen=self._heard.get(node, kept.get("last_seen")),
            skew=kept.get("skew"),
            things=MappingProxyType(self._things(node)),
        )

    def _things(self, node: str) -> dict[ThingKey, Thing]:
        values = self._values.get(node, {})
        cards = {
            (entry.kind, entry.name): entry.card
            for entry in self._view.candidates(kind=None, node=node, tags=()).values()
            if entry.node == node and entry.kind is not None
        }
        things: dict[ThingKey, Thing] = {}
        for kind, name in cards.keys() | values.keys():
            things[kind, name] = _thing(kind, name, cards.get((kind, name)), values.get((kind, name)))
        return things


def _since(seen: float, status: StatusName | None, kept: Mapping[str, Any]) -> float:
    """When the status began: the registry knows better if it agrees on the status."""
    since = kept.get("since")
    return min(seen, float(since)) if since is not None and kept.get("status") == status else seen


def _thing(kind: Kind, name: str, card: Any, value: _Value | None) -> Thing:
    if value is None:
        return Thing(kind, name, card)
    if value.frozen is None or value.frozen.card is not card:
        value.frozen = Thing(kind, name, card, value.state, value.received, tuple(value.trace))
    return value.frozen
