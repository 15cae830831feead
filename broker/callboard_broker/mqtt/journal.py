"""What the core tells about changes that must survive: and nothing more: this one forgets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callboard_broker.mqtt.delivery import Delivery
    from callboard_broker.mqtt.message import Message
    from callboard_broker.mqtt.packets import WillSpec
    from callboard_broker.mqtt.session import Session
    from callboard_broker.mqtt.tree import Subscription

__all__ = ["Journal"]


class Journal:
    """Told before the change is acknowledged to anybody, and only about persistent sessions. Keeps nothing.

    Attributes:
        waiting: something was told that is not safe yet, so nothing that depends on it may be acknowledged.
        told: how many changes were told so far; whoever told none while it worked depends on none.
        deferred: what is told becomes safe some time after what it caused is sent, and not at the end of the turn.
    """

    waiting = False
    told = 0
    deferred = False

    def retained(self, message: Message) -> None:
        """A topic's retained message was set."""

    def cleared(self, topic: str) -> None:
        """A topic's retained message was cleared."""

    def session(self, session: Session) -> None:
        """A persistent session began, came back, or changed its owner's wishes (expiry, disconnect time)."""

    def ended(self, session: Session) -> None:
        """A session is gone with all it had."""

    def subscribed(self, session: Session, subscription: Subscription) -> None:
        """A subscription was made or replaced."""

    def unsubscribed(self, session: Session, topic_filter: str) -> None:
        """A subscription was removed."""

    def queued(self, session: Session, delivery: Delivery) -> None:
        """A QoS 1 or 2 message is owed to the session."""

    def sent(self, delivery: Delivery, packet_id: int) -> None:
        """It was sent under a packet id."""

    def released(self, delivery: Delivery) -> None:
        """The receiver has it (PUBREC)."""

    def done(self, delivery: Delivery) -> None:
        """It is no longer owed."""

    def received(self, session: Session, packet_id: int) -> None:
        """A QoS 2 message with this id was passed on."""

    def completed(self, session: Session, packet_id: int) -> None:
        """Its id was released by the sender (PUBREL)."""

    def will(self, session: Session, will: WillSpec | None) -> None:
        """A client connected that leaves this will, or the will is no longer wanted (None)."""
