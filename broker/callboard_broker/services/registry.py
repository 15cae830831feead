"""The list of nodes: who is there, who was, what they offer; kept so that it outlives broker and board."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from callboard_broker.errors import StoreUnavailable
from callboard_broker.services.clocks import Clocks
from callboard_broker.services.feed import Feed
from callboard_broker.services.refusals import Notes, Refusals
from callboard_broker.services.skew import Skew
from callboard_broker.store import cards, nodes, statuses
from callboard_broker.store.database import Database
from callboard_broker.store.nodes import NodeRecord
from callboard_broker.store.statuses import StatusRecord
from callboard_core import topics
from callboard_core.cards import AnyCard, NodeCard, parse_card
from callboard_core.directory import Directory, Dropped, Entry
from callboard_core.directory import Event as Happened
from callboard_core.errors import CallboardError, NotFound, Unavailable
from callboard_core.link import Link, Message
from callboard_core.messages import Event, Status, StatusName, parse
from callboard_core.topics import Address, Kind
from callboard_core.view import ALIVE, Refused, is_stale

__all__ = ["NodeView", "Registry"]

_DAY = 86_400.0
#: Seconds between two times that last_seen and skew are written down.
_NOTE_EVERY = 60.0


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node as the board sees it; times in Unix seconds by the board's clock."""

    id: str
    status: StatusName | None
    epoch: int | None
    since: float | None
    last_seen: float | None
    skew: Skew
    card: NodeCard | None
    things: int
    forgettable: bool

    @property
    def live(self) -> bool:
        """True while its process runs."""
        return self.status in ALIVE


class Registry:
    """Safe from any thread.

    Args:
        directory: what is retained now.
        database: for reading.
        notes: for writing.
        forget_after: seconds after which forgetting an offline node is offered.
    """

    def __init__(
        self,
        *,
        directory: Directory,
        database: Database,
        notes: Notes,
        clocks: Clocks,
        refusals: Refusals,
        feed: Feed,
        forget_after: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._database = database
        self._notes = notes
        self._clocks = clocks
        self._refusals = refusals
        self._feed = feed
        self._forget_after = forget_after
        self._clock = clock
        self._number = itertools.count()
        #: Held while what is known and what is written of it change together.
        self._lock = threading.RLock()
        self._records: dict[str, NodeRecord] = {}
        self._cards: dict[tuple[str, str, str], str] = {}
        self._last: dict[str, StatusRecord] = {}
        self._reconciled = False
        self._noted = 0.0

    def load(self, connection: Connection) -> None:
        """Take over what the last run knew."""
        self._records = {record.id: record for record in nodes.load(connection)}
        self._cards = cards.load(connection)
        self._last = statuses.last(connection)
        for record in self._records.values():
            clock = self._clocks.of(record.id)
            clock.skew = Skew(record.skew)
            clock.last_seen = record.last_seen

    def listen(self, link: Link) -> None:
        """Subscribe; the directory must have done so before."""
        link.subscribe(topics.every_status(link.site), self.on_status, qos=0)
        link.subscribe(f"{link.site}/+/event/+", self.on_event)
        self._directory.on_refused(self.on_refused)
        self._directory.follow(live=None, callback=self.on_card)

    # What arrives

    def on_status(self, message: Message) -> None:
        """Note that a node came or went."""
        try:
            address = Address.parse(message.topic)
            status = parse(Status, message.payload) if message.payload else None
        except CallboardError:
            return  # the directory has refused it
        if status is None:
            with self._lock:
                self._last.pop(address.node, None)
            return
        now = self._clock()
        known = self._directory.node(address.node)
        if is_stale(status, known.card if known else None):
            return
        if not message.retain and status.status in ALIVE:
            clock = self._clocks.of(address.node)
            clock.last_seen = now
            clock.skew = clock.skew.stamped(status.t, now)
        self._note_status(address.node, status, now)

    def on_card(self, happened: Happened) -> None:
        """Note what a node pinned or took down."""
        entry = happened.entry
        dropped = isinstance(happened, Dropped)
        text = "" if dropped else entry.card.model_dump_json(exclude_none=True)
        if entry.kind is None:
            self._note_node(entry.node)
        else:
            self._note_card((entry.node, entry.kind.value, entry.name), text)
        if self._feed.wants("card"):
            change = type(happened).__name__.lower()
            self._feed.publish("card", _card_event(change, entry))

    def on_event(self, message: Message) -> None:
        """Pass an event on; keep what a node refused."""
        now = self._clock()
        try:
            address = Address.parse(message.topic)
            event = parse(Event, message.payload)
        except CallboardError as error:
            self._refusals.add(message.topic, error.message, len(message.payload), now)
            return
        self._clocks.of(address.node).last_seen = now
        if address.name == "refused":
            self._refused_by(address.node, event, now)
        if self._feed.wants("event"):
            said = {
                "node": address.node,
                "name": address.name,
                **event.model_dump(mode="json"),
                "received": now,
            }
            self._feed.publish("event", _json(said))

    def on_refused(self, refused: Refused) -> None:
        """Keep what the directory could not take."""
        self._refusals.add(refused.topic, refused.reason, refused.size, refused.t)

    # What is asked

    def nodes(self) -> list[NodeView]:
        """Return every node, by id."""
        ids = {entry.id for entry in self._directory.nodes()}
        if not self._reconciled:
            with self._lock:
                ids |= self._records.keys()
        return [self._view(one) for one in sorted(ids)]

    def node(self, node_id: str) -> NodeView:
        """Return one node.

        Raises:
            NotFound: nothing is known of it.
        """
        known = self._directory.node(node_id) is not None
        if not known and (self._reconciled or node_id not in self._records):
            raise NotFound(f"there is no node {node_id!r}; `callboard ls` shows all")
        return self._view(node_id)

    def cards(
        self,
        *,
        kind: Kind | None = None,
        name: str | None = None,
        node: str | None = None,
        tags: Iterable[str] = (),
    ) -> list[Entry]:
        """Return the cards of things that match everything given; ``name`` is a glob."""
        found = self._directory.find(kind=kind, name=name, node=node, tags=tags, live=None)
        things = (entry for entry in found if entry.kind is not None)
        return sorted(things, key=lambda entry: (entry.node, str(entry.kind), entry.name))

    def unit(self, thing: tuple[str, str, str]) -> str | None:
        """Return the unit of a thing's values, if its card says one."""
        text = self._cards.get(thing)
        unit = json.loads(text).get("unit") if text else None
        return unit if isinstance(unit, str) else None

    def statuses(self, node_id: str, start: float, end: float) -> list[StatusRecord]:
        """Return a node's changes of liveness with ``start <= t < end``, oldest first.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        try:
            with self._database.read() as connection:
                return statuses.between(connection, node_id, start, end)
        except SQLAlchemyError as error:
            raise StoreUnavailable("the database does not answer; try again in a while") from error

    def check_callable(self, node_id: str, kind: Kind, name: str) -> None:
        """Check that a thing can be called now.

        Raises:
            NotFound: there is no such node or thing.
            Unavailable: its node is offline.
        """
        view = self.node(node_id)
        if not view.live:
            raise Unavailable(f"node {node_id} is {view.status or 'not there'}; wait until it is back")
        built_in = kind is Kind.ACTION and name == "ping"
        if not built_in and (node_id, kind.value, name) not in self._cards:
            raise NotFound(f"node {node_id} has no {kind} {name!r}")

    # What is kept

    def forgotten(self, node_id: str) -> None:
        """Drop a node whose retained messages have been cleared."""

        def forget(connection: Connection) -> None:
            nodes.forget(connection, node_id)
            cards.forget_node(connection, node_id)
            statuses.forget_node(connection, node_id)

        with self._lock:
            self._clocks.forget(node_id)
            self._records.pop(node_id, None)
            self._last.pop(node_id, None)
            for key in [key for key in self._cards if key[0] == node_id]:
                del self._cards[key]
            self._notes.submit(("forget", node_id), forget)

    def tidy(self) -> None:
        """Write down what changes all the time, and drop what the broker no longer has; call it every few seconds."""
        if self._directory.complete and not self._reconciled:
            self._reconcile()
        now = self._clock()
        if now - self._noted >= _NOTE_EVERY:
            self._noted = now
            self.note_all()

    def note_all(self) -> None:
        """Write down when every node was last seen."""
        for entry in self._directory.nodes():
            before = self._records.get(entry.id)
            clock = self._clocks.of(entry.id)
            if before is None or (before.last_seen, before.skew) != (clock.last_seen, clock.skew.seconds):
                self._note_node(entry.id)

    def _reconcile(self) -> None:
        self._reconciled = True
        there = {entry.id for entry in self._directory.nodes()}
        pinned = {
            (entry.node, str(entry.kind), entry.name)
            for entry in self._directory.find(live=None)
            if entry.kind
        }
        with self._lock:
            for gone in self._records.keys() - there:
                self.forgotten(gone)
            for key in self._cards.keys() - pinned:
                self._note_card(key, "")

    def _view(self, node_id: str) -> NodeView:
        entry = self._directory.node(node_id)
        record = self._records.get(node_id)
        clock = self._clocks.of(node_id)
        last = self._last.get(node_id)
        status = _status(entry.status, record) if entry else _status(None, record)
        since = last.t if last is not None else (record.since if record else None)
        return NodeView(
            id=node_id,
            status=status,
            epoch=last.epoch if last is not None else None,
            since=since,
            last_seen=clock.last_seen,
            skew=clock.skew,
            card=entry.card if entry else _card(record),
            things=sum(one.kind is not None for one in self._directory.find(node=node_id, live=None)),
            forgettable=status not in ALIVE and self._offline_long(clock.last_seen, since),
        )

    def _offline_long(self, last_seen: float | None, since: float | None) -> bool:
        known = [t for t in (last_seen, since) if t is not None]
        return bool(known) and self._clock() - max(known) > self._forget_after

    def _note_status(self, node_id: str, status: Status, now: float) -> None:
        with self._lock:
            last = self._last.get(node_id)
            if last is not None and (last.status, last.epoch) == (status.status, status.epoch):
                return
            record = self._last[node_id] = StatusRecord(now, status.status.value, status.epoch)
            self._notes.submit(
                ("status", node_id, next(self._number)),
                lambda connection: statuses.add(connection, node_id, record),
            )
        self._note_node(node_id)
        said = {"node": node_id, "status": status.status, "epoch": status.epoch, "t": now}
        self._feed.publish("status", _json(said))

    def _note_node(self, node_id: str) -> None:
        entry = self._directory.node(node_id)
        card = entry.card.model_dump_json(exclude_none=True) if entry and entry.card else None
        with self._lock:
            before = self._records.get(node_id)
            record = self._record(node_id, card, before)
            if record != before:
                self._records[node_id] = record
                self._notes.submit(("node", node_id), lambda connection: nodes.save(connection, record))

    def _record(self, node_id: str, card: str | None, before: NodeRecord | None) -> NodeRecord:
        last = self._last.get(node_id)
        clock = self._clocks.of(node_id)
        now = self._clock()
        return NodeRecord(
            id=node_id,
            since=last.t if last else now,
            first_seen=before.first_seen if before else now,
            last_seen=clock.last_seen,
            card=card,
            status=last.status if last else None,
            epoch=last.epoch if last else None,
            skew=clock.skew.seconds,
        )

    def _note_card(self, key: tuple[str, str, str], text: str) -> None:
        now = self._clock()
        with self._lock:
            if self._cards.get(key, "") == text:
                return
            if text:
                self._cards[key] = text
                self._notes.submit(("card", *key), lambda connection: cards.save(connection, key, text, now))
            else:
                del self._cards[key]
                self._notes.submit(("card", *key), lambda connection: cards.forget(connection, key))

    def _refused_by(self, node: str, event: Event, now: float) -> None:
        topic, reason, size = (event.data.get(key) for key in ("topic", "reason", "size"))
        self._refusals.add(
            topic if isinstance(topic, str) else f"{node}/?",
            reason if isinstance(reason, str) else event.message,
            size if isinstance(size, int) and 0 <= size < 2**63 else 0,
            now,
            node,
        )


def _status(status: Status | None, record: NodeRecord | None) -> StatusName | None:
    if status is not None:
        return status.status
    return StatusName(record.status) if record is not None and record.status else None


def _card(record: NodeRecord | None) -> NodeCard | None:
    if record is None or record.card is None:
        return None
    card: AnyCard = parse_card(record.card)
    return card if isinstance(card, NodeCard) else None


def _card_event(change: str, entry: Entry) -> bytes:
    return _json(
        {
            "change": change,
            "node": entry.node,
            "kind": entry.kind,
            "name": entry.name,
            "live": entry.live,
            "card": entry.card.model_dump(mode="json", exclude_none=True),
        }
    )


def _json(value: dict[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
