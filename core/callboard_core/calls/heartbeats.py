"""When each node's heartbeat was heard last, and when the connection was lost meanwhile, over one link."""

from __future__ import annotations

import threading
import weakref
from time import monotonic
from typing import Protocol

from callboard_core.link.link import Link
from callboard_core.link.values import Message

__all__ = ["MISSED", "Heartbeats", "Listener"]

#: Heartbeats after whose absence a node hangs.
MISSED = 3

_by_link: weakref.WeakKeyDictionary[Link, Heartbeats] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


class Listener(Protocol):
    """Who wants to know."""

    def beat(self, node: str) -> None:
        """A node's heart beats (dispatcher thread)."""

    def reconnected(self) -> None:
        """The connection was lost and is there again (greeter thread)."""

    def stopped(self) -> None:
        """The link was stopped."""


class Heartbeats:
    """Hears the heartbeats of all nodes of a site; :meth:`of` gives the one that a link's pools share."""

    def __init__(self, link: Link) -> None:
        self._link = weakref.ref(link)
        self._session = link.session
        self._heard: dict[str, float] = {}
        self.began = monotonic()  # to listen; anew at every reconnect
        self._listeners: tuple[Listener, ...] = ()
        self._ends = (
            link.subscribe(f"{link.site}/+/event/heartbeat", self._receive, qos=0),
            link.on_connect(self._connected),
            link.on_stop(self._stopped),
        )

    @classmethod
    def of(cls, link: Link, listener: Listener) -> Heartbeats:
        """Return the link's, made for its first listener; ``listener`` is told from now on."""
        with _lock:
            found = _by_link.get(link)
            if found is None:
                found = _by_link[link] = cls(link)
            found._listeners = (*found._listeners, listener)
            return found

    def heard(self, node: str) -> float:
        """When a node was heard last, on the monotonic clock; minus infinity if never."""
        return self._heard.get(node, float("-inf"))

    def forget(self, listener: Listener) -> None:
        """Tell it no more; after the last one nothing is heard any more."""
        with _lock:
            self._listeners = tuple(one for one in self._listeners if one is not listener)
            link = self._link()
            unheard = not self._listeners and link is not None and _by_link.get(link) is self
            if unheard and link is not None:
                del _by_link[link]
        if unheard:
            for end in self._ends:
                end.cancel()

    def _receive(self, message: Message) -> None:
        if message.retain:
            return  # old news is no sign of life
        node = message.topic.split("/", 2)[1]
        self._heard[node] = monotonic()
        for listener in self._listeners:
            listener.beat(node)

    def _connected(self) -> None:
        link = self._link()
        if link is None or link.session == self._session:
            return  # the connection that was there already
        first, self._session = self._session == 0, link.session
        self.began = monotonic()
        if not first:
            for listener in self._listeners:
                listener.reconnected()

    def _stopped(self) -> None:
        for listener in self._listeners:
            listener.stopped()
