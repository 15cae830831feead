"""One message on its way to one session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callboard_broker.mqtt.message import Message

if TYPE_CHECKING:
    from callboard_broker.mqtt.tree import Subscription

__all__ = ["Delivery"]


class Delivery:
    """One message for one session.

    Attributes:
        qos: already the lower of published and granted.
        retain: the flag the receiver sees.
        released: QoS 2 only: PUBREC has come, PUBREL is what is repeated.
        number: its key in the journal, 0 while it is not there.
        share: the shared subscription through which it came: another member gets it if this session ends.
    """

    __slots__ = ("identifiers", "message", "number", "qos", "released", "retain", "share")

    def __init__(
        self,
        message: Message,
        qos: int,
        retain: bool = False,
        identifiers: tuple[int, ...] = (),
        share: Subscription | None = None,
    ) -> None:
        self.message = message
        self.qos = qos
        self.retain = retain
        self.identifiers = identifiers
        self.released = False
        self.number = 0
        self.share = share
