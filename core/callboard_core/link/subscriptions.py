"""Who wants which messages: filters, their handlers, and the handlers of a topic. No I/O."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

from callboard_core.errors import CallboardError, Forbidden
from callboard_core.link.inbox import Handler

__all__ = ["Subscription", "Subscriptions"]

_Table = tuple[tuple[Callable[[str], object], tuple[Handler, ...]], ...]

#: Topics whose handlers are remembered; those of any more are looked up each time.
CACHE_LIMIT = 50_000


def pattern(topic_filter: str) -> re.Pattern[str]:
    """Return what matches the topics of a filter; the same rules as :func:`callboard_core.topics.matches`."""
    levels = topic_filter.split("/")
    parts = ["[^/]*" if one == "+" else re.escape(one) for one in levels if one != "#"]
    text = "/".join(parts)
    if levels[-1] == "#":
        text = f"{text}(?:/.*)?" if parts else ".*"
    if levels[0] in {"+", "#"}:
        text = rf"(?!\$){text}"
    return re.compile(text, re.DOTALL)


class Subscription:
    """One handler's interest in a filter.

    Attributes:
        topic_filter: the MQTT filter.
        qos: 0 or 1.
        ready: done when the broker has granted it (``Forbidden`` if it refused).
    """

    def __init__(
        self, topic_filter: str, handler: Handler, qos: int, cancel: Callable[[Subscription], None]
    ) -> None:
        self.topic_filter = topic_filter
        self.handler = handler
        self.qos = qos
        self.ready: Future[None] = Future()
        self._cancel = cancel

    def cancel(self) -> None:
        """Stop receiving. A message that is being handled is not interrupted."""
        self._cancel(self)

    def granted(self, error: CallboardError | None) -> None:
        """Note the broker's answer; only the first one counts."""
        if self.ready.done() or not self.ready.set_running_or_notify_cancel():
            return
        if error is None:
            self.ready.set_result(None)
        else:
            self.ready.set_exception(error)


class Subscriptions:
    """All subscriptions of a link. Thread-safe; finding the handlers of a topic takes no lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_filter: dict[str, list[Subscription]] = {}
        # Filters with their handlers, and the handlers of topics seen since; replaced as a whole.
        self._index: tuple[_Table, dict[str, tuple[Handler, ...]]] = ((), {})

    def add(self, subscription: Subscription) -> None:
        """Add a subscription."""
        with self._lock:
            self._by_filter.setdefault(subscription.topic_filter, []).append(subscription)
            self._renew()

    def remove(self, subscription: Subscription) -> bool:
        """Remove a subscription; returns True if nobody wants its filter any more."""
        with self._lock:
            those = self._by_filter.get(subscription.topic_filter, [])
            if subscription not in those:
                return False
            those.remove(subscription)
            if not those:
                del self._by_filter[subscription.topic_filter]
            self._renew()
            return not those

    def wanted(self) -> list[tuple[str, int]]:
        """Every filter with the highest QoS anybody asked for."""
        with self._lock:
            return [(one, max(s.qos for s in those)) for one, those in self._by_filter.items()]

    def qos(self, topic_filter: str) -> int | None:
        """The QoS to ask for, or None if nobody wants the filter."""
        with self._lock:
            return max((s.qos for s in self._by_filter.get(topic_filter, ())), default=None)

    def granted(self, topic_filter: str, *, ok: bool) -> list[Callable[[], None]]:
        """Note the broker's answer; returns what tells those who wait, to be run elsewhere."""
        error = None if ok else Forbidden(f"the broker refused the subscription to {topic_filter!r}")
        with self._lock:
            those = [s for s in self._by_filter.get(topic_filter, ()) if not s.ready.done()]
        return [partial(subscription.granted, error) for subscription in those]

    def handlers(self, topic: str) -> Sequence[Handler]:
        """The handlers of a topic."""
        table, known = self._index
        found = known.get(topic)
        if found is None:
            found = tuple([handler for matches, those in table if matches(topic) for handler in those])
            if len(known) < CACHE_LIMIT:
                known[topic] = found
        return found

    def _renew(self) -> None:
        table = [
            (pattern(one).fullmatch, tuple(s.handler for s in those))
            for one, those in self._by_filter.items()
        ]
        self._index = (tuple(table), {})
