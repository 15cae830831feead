"""What a host may do to be told of messages on topics that it cares about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from callboard_broker.mqtt.connection import Connection
    from callboard_broker.mqtt.reasons import Reason
    from callboard_broker.mqtt.session import Session

__all__ = ["Watch"]


class Watch(Protocol):
    """Every method is quick and doesn't raise."""

    def concerns(self, topic: str) -> bool:
        """Tell whether messages on ``topic`` are to be told; asked once per topic."""

    def saw(self, session: Session, topic: str, payload: bytes) -> None:
        """A message was published, or left as a will."""

    def refused(self, session: Session, topic: str) -> None:
        """A message was refused by access rules."""

    def kept_out(self, connection: Connection, reason: Reason) -> None:
        """A CONNECT is refused."""
