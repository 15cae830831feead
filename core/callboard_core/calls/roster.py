"""Who belongs to a pool: members as they are announced, lost, hang and wake, told one by one."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from functools import partial
from time import monotonic
from typing import Protocol

from pydantic import JsonValue

from callboard_core.calls.heartbeats import MISSED, Heartbeats
from callboard_core.calls.place import Nearness, here, nearness
from callboard_core.cards import WorkerCard
from callboard_core.follower import Dropped, Event, Follower
from callboard_core.link.link import Link
from callboard_core.messages import Status
from callboard_core.topics import Address, Kind, Leaf
from callboard_core.view import Entry, Key, NodeEntry

__all__ = ["Cards", "Listener", "Roster", "is_news"]

#: Seconds between two looks whether members that have calls still beat.
LOOK = 0.25
#: Why an entry is dropped whose card was cleared, or was not among the retained ones after a reconnect.
REMOVED = "removed"
#: Seconds the broker has to return a nonce, which shows that it is not the broker that is silent.
ECHO = 2.0


class Cards(Protocol):
    """What is needed of a directory."""

    @property
    def complete(self) -> bool:
        """True once everything retained has been taken in."""

    def node(self, node_id: str) -> NodeEntry | None:
        """One node."""

    def follow(self, *, kind: str, callback: Callable[[Event], object]) -> Follower:
        """Follow entries of a kind."""


class Listener(Protocol):
    """Who wants to know. Everything is told from whatever thread noticed it, one thing at a time."""

    def joined(self, entry: Entry, near: Nearness) -> None:
        """A member is there, or its card has changed."""

    def left(self, key: Key, reason: str) -> None:
        """A member's process is gone."""

    def retired(self, key: Key) -> None:
        """A member is no longer announced; what it has it may still answer."""

    def doubted(self, keys: Collection[Key]) -> None:
        """Members are about to leave or hang, one after the other; none of them is to be given anything."""

    def hung(self, key: Key, reason: str) -> None:
        """A member makes no progress."""

    def woke(self, key: Key, instance: str | None) -> None:
        """A member that hung, or was not heard of since a reconnect, makes progress; in the process ``instance``."""

    def reconnected(self) -> None:
        """The connection was lost and is there again; who is heard of from now on is told as woken."""

    def busy(self) -> bool:
        """Tell whether there are calls on members, so that it matters whether these hang."""


def is_news(status: Status | None, before: Status | None) -> bool:
    """Tell whether a node's status was published after ``before``, by what the node itself says.

    A broker that comes back with an old store shows the dead as alive; they are not until they say so anew.
    """
    if status is None or before is None:
        return True
    if status.instance != before.instance:
        return status.epoch >= before.epoch
    return (status.epoch, status.t) > (before.epoch, before.t)


class Roster:
    """Follows the workers whose service matches.

    A worker hangs when three of its node's heartbeats are missing although the broker is there and everything
    that has arrived was handled; that is looked at only while there are calls on members.

    Args:
        directory: started.
        link: the directory's.
        wanted: what a service must match in full.
        listener: who is told.
        on_stop: called when the link was stopped.
    """

    def __init__(
        self,
        directory: Cards,
        link: Link,
        wanted: re.Pattern[str],
        listener: Listener,
        on_stop: Callable[[], None],
    ) -> None:
        self.stopped = on_stop
        self._directory, self._link, self._wanted, self._listener = directory, link, wanted, listener
        self._place = here()
        self._lock = threading.RLock()
        self._entries: dict[Key, Entry] = {}
        self._since: dict[Key, float] = {}  # from when on heartbeats are expected
        self._alive: dict[Key, Status | None] = {}
        self._lost: dict[Key, Status | None] = {}
        self._leftovers: dict[Key, Entry] = {}
        self._hung: set[Key] = set()
        self._doubtful: set[Key] = set()
        self._unheard: set[Key] = set()  # since a reconnect, also of those that have no heartbeat to wait for
        self._looking = False
        self._look_lock = threading.Lock()
        self._glanced = -math.inf
        self._closed = False
        self._heartbeats: Heartbeats | None = None
        self._follower: Follower | None = None

    def start(self) -> None:
        """Begin to follow."""
        self._heartbeats = Heartbeats.of(self._link, self)
        self._follower = self._directory.follow(kind="worker", callback=self._on_event)
        self._doubt_the_silent()
        if self._closed:
            self.close()

    def _doubt_the_silent(self) -> None:
        """Who was silent before anybody looked at this pool is given nothing until it is heard."""
        now, wall = monotonic(), time.time()
        with self._lock:
            for key in self._entries:
                node = self._directory.node(key[0])
                if self._heartbeats is not None and node is not None:
                    alive = now - max(0.0, wall - node.since)
                    self._since[key] = max(alive, self._heartbeats.began)
            self._doubt([key for key, entry in self._entries.items() if self._late(entry, now)])

    def close(self) -> None:
        """Follow no more."""
        self._closed = True
        if self._follower is not None:
            self._follower.close()
        if self._heartbeats is not None:
            self._heartbeats.forget(self)

    def glance(self) -> None:
        """Before a call: doubt who has fallen silent while nobody looked, as long as others are heard.

        While nobody is heard it may be the broker that is silent.
        """
        now = monotonic()
        if self._looking or now - self._glanced < LOOK or not self._link.connected:
            return
        self._glanced = now
        with self._lock:
            silent = {key for key in self._silent() if key not in self._doubtful}
            others = self._entries.keys() - silent - self._hung - self._doubtful
            if silent and any(_heartbeat(self._entries[key]) is not None for key in others):
                self._doubt(silent)

    def watch(self) -> None:
        """Look after the members from now on, as long as the listener is busy (which it must be already)."""
        with self._look_lock:
            if self._looking or self._closed:
                return
            self._looking = True
        self._look()

    # -- cards -----------------------------------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        entry = event.entry
        if not isinstance(entry.card, WorkerCard):
            return
        near = nearness(entry.card, self._place)
        with self._lock:
            if isinstance(event, Dropped):
                gone = None if event.reason == REMOVED else f"{entry.node} is gone ({event.reason})"
                if gone is not None and entry.key not in self._doubtful:
                    self._doubt([key for key in self._entries if key[0] == entry.node])
                self._leave(entry.key, gone)
            elif near is None or not self._wanted.fullmatch(entry.card.service):
                self._leave(entry.key, None)
            elif not self._is_leftover(entry):
                self._join(entry, near)

    def _join(self, entry: Entry, near: Nearness) -> None:
        key = entry.key
        before = self._entries.get(key)
        if before is not None and _life(before) != _life(entry):
            self._leave(key, f"{entry.node} has started anew")
        node = self._directory.node(entry.node)
        self._alive[key] = node.status if node is not None else None
        self._entries[key] = entry
        self._since.setdefault(key, monotonic())
        self._leftovers.pop(key, None)
        self._lost.pop(key, None)
        self._listener.joined(entry, near)

    def _leave(self, key: Key, gone: str | None) -> None:
        """A member is gone, or (without a reason) only announced no more."""
        self._leftovers.pop(key, None)
        if self._entries.pop(key, None) is None:
            return
        self._since.pop(key, None)
        self._hung.discard(key)
        self._doubtful.discard(key)
        self._unheard.discard(key)
        before = self._alive.pop(key, None)
        if gone is None:
            self._listener.retired(key)
        else:
            self._lost[key] = before
            self._listener.left(key, gone)

    def _doubt(self, keys: Collection[Key]) -> None:
        self._doubtful.update(key for key in keys if _heartbeat(self._entries[key]) is not None)
        self._listener.doubted(keys)

    def _is_leftover(self, entry: Entry) -> bool:
        key = entry.key
        if key in self._entries or key not in self._lost:
            return False
        node = self._directory.node(entry.node)
        if is_news(node.status if node is not None else None, self._lost[key]):
            return False
        self._leftovers[key] = entry
        return True

    def reconnected(self) -> None:
        """Nothing was heard while there was no connection; who is still there shows by a ping or a heartbeat."""
        with self._lock:
            self._since = dict.fromkeys(self._since, monotonic())
            self._doubtful = {key for key, entry in self._entries.items() if _heartbeat(entry) is not None}
            self._unheard = set(self._entries)
            nodes = {key[0] for key in self._unheard}
            self._listener.reconnected()
        for node in nodes:
            address = Address(self._link.site, node, Leaf.COMMAND, Kind.ACTION, "ping")
            pinged = self._link.call(address, {}, timeout=ECHO)
            pinged.add_done_callback(partial(self._on_ping, node))

    # -- heartbeats ------------------------------------------------------------------------------------------

    def _on_ping(self, node: str, answer: Future[JsonValue]) -> None:
        if answer.exception() is None:
            self.beat(node)

    def beat(self, node: str) -> None:
        """A node's heart beats."""
        if not (self._hung or self._doubtful or self._unheard or self._leftovers):
            return
        with self._lock:
            silent = self._hung | self._doubtful | self._unheard
            for key in [key for key in silent if key[0] == node]:
                self._hung.discard(key)
                self._doubtful.discard(key)
                self._unheard.discard(key)
                alive = self._alive.get(key)
                self._listener.woke(key, alive.instance if alive is not None else None)
            for entry in [one for key, one in self._leftovers.items() if key[0] == node]:
                near = nearness(entry.card, self._place) if isinstance(entry.card, WorkerCard) else None
                if near is not None:
                    self._join(entry, near)

    def _look(self) -> None:
        with self._look_lock:
            self._looking = not self._closed and self._listener.busy()
            if not self._looking:
                return
        self._link.later(LOOK, self._look)
        if self._link.connected and self._silent():
            self._link.round_trip(ECHO).add_done_callback(self._confirm)

    def _confirm(self, returned: Future[None]) -> None:
        """The broker is there and we have handled all that came: who is still silent hangs."""
        if returned.exception() is not None:
            return
        with self._lock:
            silent = self._silent()
            self._doubt(silent)
            for key in silent:
                self._hung.add(key)
                self._doubtful.discard(key)
                self._listener.hung(key, f"{key[0]} hangs (no heartbeat)")

    def _silent(self) -> list[Key]:
        now = monotonic()
        with self._lock:
            return [
                key
                for key, entry in self._entries.items()
                if key not in self._hung and self._late(entry, now)
            ]

    def _late(self, entry: Entry, now: float) -> bool:
        every = _heartbeat(entry)
        if every is None or self._heartbeats is None:
            return False
        heard = max(self._heartbeats.heard(entry.node), self._since[entry.key])
        return now - heard > MISSED * every


def _life(entry: Entry) -> tuple[int | None, str | None]:
    """What changes when a worker's process is another."""
    process = entry.card.process if isinstance(entry.card, WorkerCard) else None
    return entry.card.epoch, process


def _heartbeat(entry: Entry) -> float | None:
    return entry.card.heartbeat if isinstance(entry.card, WorkerCard) else None
