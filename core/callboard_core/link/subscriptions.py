"""Who wants which messages: filters, their handlers, and the handlers of a topic. No I/O."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from callboard_core.errors import CallboardError, Forbidden
from callboard_core.link.inbox import Handler

__all__ = ["Subscription", "Subscriptions"]

#: Topics whose handlers are remembered; past it the memory starts afresh.
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
    """All subscriptions of a link. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_filter: dict[str, list[Subscription]] = {}
        self._patterns: dict[str, re.Pattern[str]] = {}
        self._handlers: dict[str, tuple[Handler, ...]] = {}

    def add(self, subscription: Subscription) -> None:
        """Add a subscription."""
        with self._lock:
            self._by_filter.setdefault(subscription.topic_filter, []).append(subscription)
            self._patterns[subscription.topic_filter] = pattern(subscription.topic_filter)
            self._handlers = {}

    def remove(self, subscription: Subscription) -> bool:
        """Remove a subscription; returns True if nobody wants its filter any more."""
        with self._lock:
            those = self._by_filter.get(subscription.topic_filter, [])
            if subscription not in those:
                return False
            those.remove(subscription)
            self._handlers = {}
            if those:
                return False
            del self._by_filter[subscription.topic_filter]
            del self._patterns[subscription.topic_filter]
            return True

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
        return [lambda s=s: s.granted(error) for s in those]  # type: ignore[misc]

    def handlers(self, topic: str) -> Sequence[Handler]:
        """The handlers of a topic, in the order they were added."""
        found = self._handlers.get(topic)
        if found is None:
            with self._lock:
                found = tuple(
                    subscription.handler
                    for one, pattern in self._patterns.items()
                    if pattern.fullmatch(topic)
                    for subscription in self._by_filter[one]
                )
                if len(self._handlers) >= CACHE_LIMIT:
                    self._handlers = {}
                self._handlers[topic] = found
        return found
