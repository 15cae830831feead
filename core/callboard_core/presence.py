"""A node's presence on the board: its cards, states and status, kept true through every reconnect.

The rules are pure functions at the top; :class:`Presence` carries them out over a link.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from enum import Enum, auto

from callboard_core import topics
from callboard_core.cards import AnyCard, NodeCard
from callboard_core.errors import BadRequest, CallboardError, Conflict, TimedOut, TooLarge, Unavailable
from callboard_core.link.link import Link
from callboard_core.link.values import Endpoint, Message, Will
from callboard_core.messages import CARD_LIMIT, State, Status, StatusName, parse
from callboard_core.topics import Address, Kind, Leaf
from callboard_core.view import ALIVE, GONE

__all__ = ["Presence", "Reaction", "must_yield", "new_instance", "react"]

_log = logging.getLogger("callboard.presence")

#: Seconds a running node has to answer the ping of one that wants its id.
PING = 1.0
#: Seconds for everything else that is asked of the broker at a connect.
PATIENCE = 5.0


class Reaction(Enum):
    """What to do about a status seen on the own topic."""

    NOTHING = auto()
    REPEAT = auto()
    YIELD = auto()


def new_instance() -> str:
    """Return a random id for this process."""
    return secrets.token_hex(8)


def must_yield(mine: Status, seen: Status) -> bool:
    """Tell which of two running instances of one node gives way; exactly one of the two does.

    The one that came in the other's place yields to it. If neither saw the other on its first connection they
    started at the same moment, and the larger instance id yields. Both cannot have seen each other: they have
    one client id, so their first connections do not overlap, and who comes first finds nothing of the other.
    """
    if mine.predecessor == seen.instance:
        return True
    if seen.predecessor == mine.instance:
        return False
    return (mine.instance or "") > (seen.instance or "")


def react(mine: Status, seen: Status, *, sessions: int) -> Reaction:
    """Decide about a status on the own topic, seen after our own was published.

    Args:
        mine: what we last published.
        seen: what was there.
        sessions: how many connections we have greeted on.
    """
    if seen.instance == mine.instance:
        return Reaction.REPEAT if seen.status in GONE else Reaction.NOTHING
    if _shows_life(seen, sessions) and must_yield(mine, seen):
        return Reaction.YIELD
    return Reaction.REPEAT


def _shows_life(seen: Status, sessions: int) -> bool:
    """Tell whether another instance is running.

    Its will shows it too, if it knows its predecessor (so it has been through more than one connection) and
    was published after we had once been thrown out; on our first connection it may be a dead one's.
    """
    if seen.instance is None:
        return False
    if seen.status in ALIVE:
        return True
    return seen.status is StatusName.LOST and seen.predecessor is not None and sessions > 1


class Presence:
    """Cards, states and status of one node.

    At every connect it publishes, in this order and before anything else: the node's card, the things' cards,
    their states, the status. Then it clears what is retained under the node's ``announce`` and ``state`` and
    not its own. Before the first connect it makes sure that no other process runs under the node's id.

    Make it before the link is started. All methods are thread-safe and don't wait.

    Args:
        link: its client id is the node's id.
        card: the node's own card.
        epoch: see :func:`callboard_core.epoch.next_epoch`.
        instance: see :func:`new_instance`.
        bound: the link's credential is good for this id only, and no other one is: nobody needs to look, with another
            client id, whether the id is taken.
    """

    def __init__(self, link: Link, *, card: NodeCard, epoch: int, instance: str, bound: bool = False) -> None:
        self.node = card.name
        self.epoch = epoch
        self.instance = instance
        self._link = link
        self._site = link.site
        self._topic = topics.status(link.site, card.name)
        self._lock = threading.RLock()
        self._card = card.model_copy(update={"epoch": epoch})
        self._cards: dict[tuple[Kind, str], AnyCard] = {}
        self._states: dict[tuple[Kind, str], tuple[bytes, int]] = {}
        self._name = StatusName.READY
        self._predecessor: str | None = None
        self._seen_first: Status | None = None
        self._sessions = 0
        self._greeted = 0
        self._leaving = False
        self._conflict: Conflict | None = None
        self._on_conflict: list[Callable[[Conflict], object]] = []
        link.will = self.will(self._site, self.node, epoch, instance)
        if not bound:
            link.before_first_connect(self._probe)
        link.on_disconnect(self._note_disconnect)
        link.subscribe(self._topic, self._on_status)
        link.on_connect(self._greet)

    @staticmethod
    def will(site: str, node: str, epoch: int, instance: str, predecessor: str | None = None) -> Will:
        """Return the last will of a node."""
        status = Status(
            status=StatusName.LOST, epoch=epoch, t=time.time(), instance=instance, predecessor=predecessor
        )
        return Will(topics.status(site, node), status.encode())

    @property
    def card(self) -> NodeCard:
        """The node's own card."""
        return self._card

    def pin(self, card: AnyCard) -> Future[None]:
        """Announce a thing (or renew the node's own card).

        Raises:
            TooLarge: the card is over 64 KiB.
            Overloaded: too much waits to be sent; the card will be announced at the next connect.
        """
        card = card.model_copy(update={"epoch": self.epoch})
        data = card.encode()
        if len(data) > CARD_LIMIT:
            raise TooLarge(f"the card of {card.name} has {len(data)} bytes, more than {CARD_LIMIT}")
        with self._lock:
            if isinstance(card, NodeCard):
                self._card = card
            else:
                self._cards[Kind(card.kind), card.name] = card
            return self._link.publish(self._card_topic(card), data, qos=1, retain=True)

    def unpin(self, kind: Kind, name: str) -> Future[None]:
        """Take a thing's card and state off the board."""
        with self._lock:
            self._cards.pop((kind, name), None)
            self._states.pop((kind, name), None)
            self._clear(topics.state(self._site, self.node, kind, name))
            return self._clear(topics.announce(self._site, self.node, kind, name))

    def state(self, kind: Kind, name: str, state: State, qos: int = 1) -> Future[None]:
        """Publish a thing's state; the last one is published again at every connect.

        Raises:
            Overloaded: too much waits to be sent; the state will be published at the next connect.
        """
        data = state.encode()
        with self._lock:
            self._states[kind, name] = (data, qos)
            topic = topics.state(self._site, self.node, kind, name)
            return self._link.publish(topic, data, qos=qos, retain=True)

    def status(self, name: StatusName) -> Future[None]:
        """Publish the node's status, ``ready`` until it is said otherwise."""
        with self._lock:
            self._name = name
            return self._link.publish(self._topic, self._status(), qos=1, retain=True)

    def on_conflict(self, callback: Callable[[Conflict], object]) -> None:
        """Tell ``callback``, on a thread of its own, that another process has the node's id.

        The link has then been stopped, without a farewell.
        """
        with self._lock:
            self._on_conflict.append(callback)

    def farewell(self) -> list[Message]:
        """Return what to publish last: give it to :meth:`Link.stop`. From now on nothing is repeated."""
        with self._lock:
            self._leaving = True
            self._name = StatusName.DISCONNECTED
            return [Message(self._topic, self._status().encode(), 1, True)]

    # At every connect (on the link's greeter thread).

    def _greet(self) -> None:
        if self._predecessor is None:
            self._learn_predecessor()
        with self._lock:
            if self._leaving:
                return
            self._sessions += 1
            self._greeted = self._link.session
            self._publish_everything()
        self._look_for_ghosts()

    def _learn_predecessor(self) -> None:
        """Find out, before we publish, whose status was there.

        It counts only on our very first connection: later it may be the status of one that came after us.
        """
        self._predecessor = ""
        try:
            self._link.round_trip(PATIENCE).result()
        except (TimedOut, Unavailable) as error:
            _log.info("%s: the status before ours stays unknown: %s", self.node, error)
        else:
            seen = self._seen_first
            if self._link.session == 1 and seen is not None:
                self._predecessor = seen.instance or ""
        self._link.will = self.will(self._site, self.node, self.epoch, self.instance, self._predecessor)

    def _publish_everything(self) -> None:
        for card in (self._card, *self._cards.values()):
            self._link.publish(self._card_topic(card), card, qos=1, retain=True)
        for (kind, name), (data, qos) in self._states.items():
            self._link.publish(topics.state(self._site, self.node, kind, name), data, qos=qos, retain=True)
        self._link.publish(self._topic, self._status(), qos=1, retain=True)

    def _look_for_ghosts(self) -> None:
        filters = [f"{self._site}/{self.node}/{leaf}/#" for leaf in (Leaf.ANNOUNCE, Leaf.STATE)]
        looks = [self._link.subscribe(one, self._on_retained, qos=0) for one in filters]

        def stop_looking(_: object) -> None:
            for look in looks:
                look.cancel()

        self._link.round_trip(PATIENCE).add_done_callback(stop_looking)

    def _on_retained(self, message: Message) -> None:
        if not message.retain or not message.payload:
            return
        with self._lock:
            if not self._leaving and not self._owns(message.topic):
                _log.info("%s: cleared the ghost %s", self.node, message.topic)
                self._clear(message.topic)

    def _owns(self, topic: str) -> bool:
        try:
            address = Address.parse(topic)
        except BadRequest:
            return False
        if address.kind is None or address.name is None:
            return topic == self._card_topic(self._card)
        key = (address.kind, address.name)
        return key in self._cards or (address.leaf is Leaf.STATE and key in self._states)

    # What is said about us.

    def _on_status(self, message: Message) -> None:
        try:
            seen = parse(Status, message.payload) if message.payload else None
        except CallboardError as error:
            _log.warning("%s: somebody wrote nonsense as our status: %s", self.node, error)
            seen = None
        with self._lock:
            if self._sessions == 0:
                self._seen_first = seen if message.session == 1 else self._seen_first
            elif not self._leaving:
                self._carry_out(self._decide(seen), seen)

    def _decide(self, seen: Status | None) -> Reaction:
        if seen is None:
            return Reaction.REPEAT
        return react(self._status(), seen, sessions=self._sessions)

    def _carry_out(self, reaction: Reaction, seen: Status | None) -> None:
        if reaction is Reaction.REPEAT and self._greeted == self._link.session:  # else the greeting will
            self._link.publish(self._topic, self._status(), qos=1, retain=True)
        elif reaction is Reaction.YIELD and seen is not None:
            self._yield_to(f"another process (instance {seen.instance}) runs as node {self.node!r}")

    def _yield_to(self, reason: str) -> None:
        self._leaving = True
        self._conflict = Conflict(f"{reason}; this one gives way. Give one of them another id")
        _log.error("%s", self._conflict.message)
        threading.Thread(target=self._give_way, args=(self._conflict,), daemon=True).start()

    def _give_way(self, conflict: Conflict) -> None:
        self._link.stop()
        for callback in self._on_conflict:
            callback(conflict)

    def _note_disconnect(self, _: str) -> None:
        with self._lock:
            self._greeted = 0

    # Before the first connect (on the link's network thread).

    def _probe(self, _: Endpoint) -> None:
        """Make sure that nobody runs under our id.

        Raises:
            Conflict: somebody does; the message names the host.
        """
        probe = self._link.sibling(f"{self.node[:50]}-probe-{secrets.token_hex(3)}")
        probe.start()
        try:
            probe.wait_connected(PATIENCE, retry=False)
            if self._is_taken(probe):
                self._raise_if_answered(probe)
        finally:
            probe.stop(timeout=0.5)

    def _is_taken(self, probe: Link) -> bool:
        seen: list[Message] = []
        probe.subscribe(self._topic, seen.append)
        try:
            probe.round_trip(PATIENCE).result()
            status = parse(Status, seen[-1].payload) if seen else None
        except CallboardError as error:
            _log.info("%s: whether the id is taken stays unknown: %s", self.node, error)
            return False
        return status is not None and status.status in ALIVE and status.instance != self.instance

    def _raise_if_answered(self, probe: Link) -> None:
        ping = Address(self._site, self.node, Leaf.COMMAND, Kind.ACTION, "ping")
        try:
            answer = probe.call(ping, {}, timeout=PING).result()
        except CallboardError:
            return  # its status is a leftover: it does not run any more
        host = answer.get("host") if isinstance(answer, dict) else None
        raise Conflict(
            f"a node {self.node!r} already runs on host {host or 'unknown'}; stop it or choose another id"
        )

    # Small things.

    def _status(self) -> Status:
        return Status(
            status=self._name,
            epoch=self.epoch,
            t=time.time(),
            instance=self.instance,
            predecessor=self._predecessor,
        )

    def _card_topic(self, card: AnyCard) -> str:
        if isinstance(card, NodeCard):
            return topics.announce(self._site, self.node)
        return topics.announce(self._site, self.node, Kind(card.kind), card.name)

    def _clear(self, topic: str) -> Future[None]:
        return self._link.publish(topic, b"", qos=1, retain=True)
