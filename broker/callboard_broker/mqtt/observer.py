"""Who wants to hear what happens in the hub: plugins, through the host. Usually nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from callboard_broker.mqtt.connection import Connection
    from callboard_broker.mqtt.message import Message
    from callboard_broker.mqtt.session import Session

__all__ = ["Observer"]


class Observer(Protocol):
    """Called as it happens; must not raise."""

    def connected(self, session: Session) -> None:
        """A client was let in."""

    def disconnected(self, session: Session) -> None:
        """A client is gone."""

    def subscribed(self, session: Session, topic_filter: str, qos: int) -> None:
        """A subscription was made."""

    def unsubscribed(self, session: Session, topic_filter: str) -> None:
        """A subscription was removed."""

    def published(self, session: Session, message: Message, *, allowed: bool) -> None:
        """A client published, and may or may not."""

    def packet_received(self, connection: Connection, first: int, body: bytes) -> None:
        """A packet came in."""
