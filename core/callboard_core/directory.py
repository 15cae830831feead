"""The directory: a live, thread-safe view of all cards and statuses, kept current over a link."""

from __future__ import annotations

import fnmatch
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from callboard_core import topics
from callboard_core.calls.names import service_filter
from callboard_core.cards import WorkerCard
from callboard_core.errors import BadRequest, CallboardError, TimedOut
from callboard_core.follower import Available, Changed, Dropped, Event, Follower
from callboard_core.link.hooks import Hook
from callboard_core.link.link import Link
from callboard_core.link.subscriptions import Subscription
from callboard_core.link.values import Message
from callboard_core.topics import Kind
from callboard_core.view import Change, Entry, Generation, NodeEntry, Refused, View

if TYPE_CHECKING:
    from callboard_core.calls.pool import Pool
    from callboard_core.calls.proxy import Proxy

__all__ = [
    "Available",
    "Changed",
    "Directory",
    "Dropped",
    "Entry",
    "Event",
    "Filter",
    "Follower",
    "NodeEntry",
    "Refused",
]

_log = logging.getLogger("callboard.directory")

#: Seconds to wait for the broker to return a nonce before asking again.
ROUND_TRIP = 10.0


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are meant; what is None (or empty) does not matter."""

    kind: str | None = None
    name: re.Pattern[str] | None = None
    node: str | None = None
    tags: frozenset[str] = frozenset()
    live: bool | None = True
    service: re.Pattern[str] | None = None

    @classmethod
    def make(
        cls,
        kind: str | None,
        name: str | re.Pattern[str] | None,
        node: str | None,
        tags: Iterable[str],
        live: bool | None,
        service: str | re.Pattern[str] | None = None,
    ) -> Filter:
        """Check and compile what the user gave.

        Raises:
            BadRequest: there is no such kind, or the service is neither a name nor a glob.
        """
        services = service_filter(service) if service is not None else None
        kind = Kind.WORKER if kind is None and services is not None else kind
        if kind is not None and kind != "node" and kind not in set(Kind):
            raise BadRequest(f"kind {kind!r}: use node, {', '.join(Kind)}")
        pattern = re.compile(fnmatch.translate(name)) if isinstance(name, str) else name
        wanted = frozenset([tags] if isinstance(tags, str) else tags)
        return cls(None if kind is None else str(kind), pattern, node, wanted, live, services)

    def __contains__(self, entry: object) -> bool:
        return (
            isinstance(entry, Entry)
            and (self.live is None or entry.live == self.live)
            and (self.kind is None or (entry.kind or "node") == self.kind)
            and (self.node is None or entry.node == self.node)
            and (self.name is None or self.name.fullmatch(entry.name) is not None)
            and self.tags.issubset(entry.card.tags)
            and (self.service is None or self._offers(entry))
        )

    def _offers(self, entry: Entry) -> bool:
        service = entry.card.service if isinstance(entry.card, WorkerCard) else ""
        return self.service is not None and self.service.fullmatch(service) is not None


@dataclass(slots=True, eq=False)
class _Lent:
    """A pool that several use; whoever does not give it back has it for good."""

    pool: Pool
    borrowers: int = 0


class Directory:
    """All cards and statuses of a site.

    It is *complete* once everything the broker had retained at the connect has been taken in, which a nonce
    sent through the broker tells. After a reconnect, what was cleared meanwhile is dropped at that moment.

    Args:
        link: started and stopped by the caller.
        site: by default the link's.
    """

    def __init__(self, link: Link, *, site: str | None = None) -> None:
        self._link = link
        self._site = site or link.site
        self._view = View(self._site)
        self._lock = threading.Lock()
        self._completed = threading.Condition()
        self._synchronised: Generation = (0, 0)
        self._round = 0  # of looking again within one session; touched on the dispatcher thread only
        self._dropped = 0
        self._subscriptions: list[Subscription] = []
        self._followers: tuple[Follower, ...] = ()
        self._refused_callbacks: list[Callable[[Refused], object]] = []
        self._greeting: Hook | None = None
        self._pools: dict[str | re.Pattern[str], _Lent] = {}
        self._pools_lock = threading.Lock()
        self.refused = 0

    @property
    def complete(self) -> bool:
        """True once everything retained has been taken in since the last connect."""
        return self._link.connected and self._synchronised[0] == self._link.session

    def start(self) -> None:
        """Subscribe."""
        self._dropped = self._link.dropped
        self._subscribe()
        self._greeting = self._link.on_connect(lambda: self._synchronise((self._link.session, self._round)))

    def stop(self) -> None:
        """Subscribe no more; ends its followers and closes its pools. Not needed before the link is stopped."""
        if self._greeting is not None:
            self._greeting.cancel()
        for subscription in self._subscriptions:
            subscription.cancel()
        for follower in self._followers:
            follower.close()
        with self._pools_lock:
            pools = [lent.pool for lent in self._pools.values()]
            self._pools.clear()
        for pool in pools:
            pool.close()

    def wait_complete(self, timeout: float) -> None:
        """Wait until the directory is complete.

        Raises:
            TimedOut: not within ``timeout`` seconds.
        """
        with self._completed:
            complete = self._completed.wait_for(lambda: self.complete, timeout)
        if not complete:
            raise TimedOut(f"the directory was not complete within {timeout:g} s")

    def find(
        self,
        service: str | re.Pattern[str] | None = None,
        *,
        kind: str | None = None,
        name: str | re.Pattern[str] | None = None,
        node: str | None = None,
        tags: Iterable[str] = (),
        live: bool | None = True,
    ) -> list[Entry]:
        """Find entries.

        Args:
            service: only workers whose service is this one, or matches this glob or regular expression.
            kind: a thing's kind, or ``node`` for the nodes' own cards.
            name: a glob (``temp*``) or a compiled regular expression that must match all of the name.
            node: a node id.
            tags: all of them must be on the card.
            live: whether the node must be alive (None: either).

        Raises:
            BadRequest: there is no such kind, or the service is neither a name nor a glob.
        """
        wanted = Filter.make(kind, name, node, tags, live, service)
        return [entry for entry in self._candidates(wanted) if entry in wanted]

    def node(self, node_id: str) -> NodeEntry | None:
        """One node, or None if nothing is known of it."""
        with self._lock:
            return self._view.node(node_id)

    def nodes(self) -> list[NodeEntry]:
        """All nodes of which something is known, alive or not."""
        with self._lock:
            return self._view.nodes()

    def follow(
        self,
        service: str | re.Pattern[str] | None = None,
        *,
        kind: str | None = None,
        name: str | re.Pattern[str] | None = None,
        node: str | None = None,
        tags: Iterable[str] = (),
        live: bool | None = True,
        callback: Callable[[Event], object] | None = None,
    ) -> Follower:
        """Follow what comes, changes and goes among the entries that :meth:`find` would return.

        What is there already comes first, as ``Available``. Use the result with ``for``, with ``async for``, or
        give a ``callback``, which is run on the link's dispatcher thread (for what is there already: on the
        caller's). A slow reader skips intermediate states of an entry, never its last one.
        """
        wanted = Filter.make(kind, name, node, tags, live, service)
        follower = Follower(wanted, callback, self._forget_follower)
        with self._lock:
            there = self._view.candidates(kind=wanted.kind, node=wanted.node, tags=wanted.tags)
            follower.push([Change(None, entry, "announced") for entry in there.values()])
            self._followers = (*self._followers, follower)
        follower.deliver()
        return follower

    def pool(self, service: str | re.Pattern[str], **settings: Any) -> Pool:
        """Return the pool of all workers whose service matches; without settings, always the same one.

        Args:
            service: a name, a glob (``render:*``) or a compiled regular expression.
            settings: those of :class:`~callboard_core.calls.pool.Pool`.
        """
        from callboard_core.calls.pool import Pool  # noqa: PLC0415 - only who calls needs it

        if settings:
            return Pool(self, self._link, service, **settings)
        return self.borrow(service)

    def borrow(self, service: str | re.Pattern[str]) -> Pool:
        """Return the pool that :meth:`pool` returns, to be given back; it is closed when nobody has it any more."""
        from callboard_core.calls.pool import Pool  # noqa: PLC0415 - only who calls needs it

        with self._pools_lock:
            lent = self._pools.get(service)
            if lent is None or lent.pool.closed:
                lent = self._pools[service] = _Lent(Pool(self, self._link, service))
            lent.borrowers += 1
            return lent.pool

    def give_back(self, service: str | re.Pattern[str], pool: Pool) -> None:
        """Give back a pool that was borrowed."""
        with self._pools_lock:
            lent = self._pools.get(service)
            if lent is None or lent.pool is not pool:
                return  # it was closed meanwhile
            lent.borrowers -= 1
            if lent.borrowers > 0:
                return
            del self._pools[service]
        pool.close()

    def proxy(self, name: str) -> Proxy:
        """Return what is offered as ``name`` and ``name:…``, to be used like an object."""
        from callboard_core.calls.proxy import Proxy  # noqa: PLC0415 - only who calls needs it

        return Proxy(self, name)

    def on_refused(self, callback: Callable[[Refused], object]) -> None:
        """Tell ``callback``, on the dispatcher thread, of every message that did not parse."""
        self._refused_callbacks.append(callback)

    def _candidates(self, wanted: Filter) -> list[Entry]:
        with self._lock:
            found = self._view.candidates(kind=wanted.kind, node=wanted.node, tags=wanted.tags)
            return list(found.values())

    def _forget_follower(self, follower: Follower) -> None:
        with self._lock:
            self._followers = tuple(one for one in self._followers if one is not follower)

    def _subscribe(self) -> None:
        """Ask for everything, also what is already subscribed: that brings all retained messages again."""
        earlier = self._subscriptions
        # QoS 0: a flood of retained QoS 1 messages must pass the broker's in-flight window and bounded
        # queue, where Mosquitto's defaults lose all but the first ones (docs/decisions/0005).
        filters = (topics.every_status(self._site), topics.every_card(self._site))
        self._subscriptions = [self._link.subscribe(one, self._receive, qos=0) for one in filters]
        for subscription in earlier:
            subscription.cancel()

    def _receive(self, message: Message) -> None:
        if self._link.dropped != self._dropped:
            self._look_again(message.session)
        now = time.time()
        try:
            with self._lock:
                changes = self._view.apply(message, now, (message.session, self._round))
                self._push(changes)
        except CallboardError as error:
            self._refuse(Refused(message.topic, len(message.payload), error.message, now))
            return
        self._deliver(changes)

    def _refuse(self, refused: Refused) -> None:
        self.refused += 1
        _log.info("refused %s (%d bytes): %s", refused.topic, refused.size, refused.reason)
        for callback in self._refused_callbacks:
            callback(refused)

    def _push(self, changes: list[Change]) -> None:
        if changes:
            for follower in self._followers:
                follower.push(changes)

    def _deliver(self, changes: list[Change]) -> None:
        if changes:
            for follower in self._followers:
                follower.deliver()

    def _look_again(self, session: int) -> None:
        """Messages were dropped because handlers were stuck; some may have been ours."""
        self._dropped = self._link.dropped
        self._round += 1
        self._subscribe()
        self._synchronise((session, self._round))

    def _synchronise(self, generation: Generation) -> None:
        self._link.round_trip(ROUND_TRIP).add_done_callback(partial(self._sweep, generation))

    def _sweep(self, generation: Generation, returned: Future[None]) -> None:
        """Everything retained has been taken in: what was not among it is gone."""
        if returned.exception() is not None:
            if self._link.connected and self._link.session == generation[0]:
                self._synchronise(generation)
            return
        with self._lock:
            changes = self._view.sweep(generation)
            self._push(changes)
        self._deliver(changes)
        with self._completed:
            self._synchronised = max(generation, self._synchronised)
            self._completed.notify_all()
