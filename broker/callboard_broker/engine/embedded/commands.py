"""Commands of MQTT 5 clients: response topic and correlation data as our calls' JSON, and back. Stateless.

Callees speak MQTT 3.1.1 and see no properties. A command that names a response topic and is JSON without ``id`` and
``reply_to`` gets both; its correlation data travels inside the id, which the answer repeats.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import time

from callboard_broker.mqtt.message import Message
from callboard_broker.mqtt.properties import Properties, Property, pack_properties
from callboard_core.topics import Leaf

__all__ = ["LONGEST", "Commands"]

#: Longest correlation data that fits in an id, in bytes.
LONGEST = 120
_PREFIX = "mqtt5."
#: Levels of ``{site}/{node}/command/{kind}/{name}``.
_LEVELS = 5


class Commands:
    """Translates commands of one site."""

    #: Answers begin with their id (JSON).
    mark = b'{"id":"' + _PREFIX.encode()

    def __init__(self, site: str) -> None:
        self._site = site

    def translate(self, topic: str, payload: bytes, properties: Properties) -> bytes:
        """Return a command as a call; what is none, or says itself where its answer goes, as it is."""
        levels = topic.split("/")
        if len(levels) != _LEVELS or levels[0] != self._site or levels[2] != Leaf.COMMAND:
            return payload
        correlation: bytes = properties.get(Property.CORRELATION_DATA, b"")
        call = _read(payload)
        if call is None or "id" in call or "reply_to" in call or len(correlation) > LONGEST:
            return payload
        call |= {
            "id": _PREFIX + secrets.token_hex(8) + "." + base64.urlsafe_b64encode(correlation).decode(),
            "reply_to": properties[Property.RESPONSE_TOPIC],
            "brief": True,
        }
        lifetime = properties.get(Property.MESSAGE_EXPIRY)
        if lifetime is not None:
            now = time.time()
            call |= {"t": now, "expires": now + lifetime}
        return json.dumps(call, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")

    def correlation(self, message: Message) -> bytes:
        """Return the properties of an answer with the correlation data that its id carries."""
        if not message.topic.endswith("/reply") or message.properties:
            return message.properties
        start = len(self.mark)
        end = message.payload.find(b'"', start)
        _, _, text = message.payload[start:end].partition(b".")
        try:
            data = base64.b64decode(text, b"-_", validate=True)
        except (binascii.Error, ValueError):
            return message.properties
        if not data or len(data) > LONGEST:
            return message.properties
        return pack_properties({Property.CORRELATION_DATA: data})[1:]  # so short that its length is one byte


def _read(payload: bytes) -> dict[str, object] | None:
    try:
        found = json.loads(payload) if payload else {}
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
