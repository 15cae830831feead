"""What the core needs to know about who may do what: compiled, synchronous, cached by whoever makes it."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Everything", "Grant"]


class Grant(Protocol):
    """One client's rights.

    Attributes:
        subscribe_covers_receive: whatever a filter that :meth:`may_subscribe` allows can match may be received.
        rank: whoever outranks the holder of a client id may take it, whichever user that is.
    """

    subscribe_covers_receive: bool
    rank: int

    def may_publish(self, topic: str, retain: bool) -> bool:
        """Tell whether it may publish to ``topic``."""
        ...

    def may_subscribe(self, topic_filter: str) -> bool:
        """Tell whether it may subscribe to ``topic_filter`` (without ``$share``)."""
        ...

    def may_receive(self, topic: str) -> bool:
        """Tell whether a message on ``topic`` may be delivered to it."""
        ...


class Everything:
    """Allows all."""

    subscribe_covers_receive = True
    rank = 0

    def may_publish(self, topic: str, retain: bool) -> bool:
        """Allow."""
        del topic, retain
        return True

    def may_subscribe(self, topic_filter: str) -> bool:
        """Allow."""
        del topic_filter
        return True

    def may_receive(self, topic: str) -> bool:
        """Allow."""
        del topic
        return True
