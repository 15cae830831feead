"""When each node's heartbeat was heard last, over one link."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from time import monotonic

from callboard_core.link.link import Link
from callboard_core.link.values import Message

__all__ = ["MISSED", "Heartbeats"]

#: Heartbeats after whose absence a node hangs.
MISSED = 3

_by_link: weakref.WeakKeyDictionary[Link, Heartbeats] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


class Heartbeats:
    """Hears the heartbeats of all nodes of a site; :meth:`of` gives the one that a link's pools share."""

    def __init__(self, link: Link, site: str) -> None:
        self._heard: dict[str, float] = {}
        self._listeners: list[Callable[[str], object]] = []
        link.subscribe(f"{site}/+/event/heartbeat", self._receive, qos=0)

    @classmethod
    def of(cls, link: Link) -> Heartbeats:
        """Return the link's, made when first asked for."""
        with _lock:
            if link not in _by_link:
                _by_link[link] = cls(link, link.site)
            return _by_link[link]

    def heard(self, node: str) -> float:
        """When a node was heard last, on the monotonic clock; minus infinity if never."""
        return self._heard.get(node, float("-inf"))

    def listen(self, listener: Callable[[str], object]) -> None:
        """Tell ``listener`` the node of every heartbeat, on the link's dispatcher thread."""
        self._listeners = [*self._listeners, listener]

    def forget(self, listener: Callable[[str], object]) -> None:
        """Tell it no more."""
        self._listeners = [one for one in self._listeners if one != listener]

    def _receive(self, message: Message) -> None:
        if message.retain:
            return  # old news is no sign of life
        node = message.topic.split("/", 2)[1]
        self._heard[node] = monotonic()
        for listener in self._listeners:
            listener(node)
