"""What a host may do with MQTT 5 requests whose receivers know nothing of properties, and with their answers."""

from __future__ import annotations

from typing import Protocol

from callboard_broker.mqtt.message import Message
from callboard_broker.mqtt.properties import Properties

__all__ = ["Requests"]


class Requests(Protocol):
    """Translates. Both methods are quick and don't raise.

    Attributes:
        mark: how the payloads of answers to translated requests begin.
    """

    mark: bytes

    def translate(self, topic: str, payload: bytes, properties: Properties) -> bytes:
        """Return the payload of a message with a response topic, as its receivers understand it."""

    def correlation(self, message: Message) -> bytes:
        """Return an answer's encoded properties, with the request's correlation data among them."""
