"""The values a link is made of: where to connect, who connects, and what travels. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

from callboard_core.errors import BadRequest

__all__ = ["Credential", "Endpoint", "Message", "Will"]

#: scheme → (uses TLS, default port); the ports are IANA's for MQTT.
_SCHEMES = {"mqtt": (False, 1883), "mqtts": (True, 8883)}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address of a broker."""

    host: str
    port: int
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read ``mqtt://host[:1883]``, ``mqtts://host[:8883]`` or ``host[:port]``.

        Raises:
            BadRequest: it is none of these; the message says what is wrong.
        """
        url = text if "://" in text else f"mqtt://{text}"
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES:
            raise BadRequest(f"broker {text!r}: use mqtt://HOST[:PORT] or mqtts://HOST[:PORT]")
        tls, default_port = _SCHEMES[parts.scheme]
        try:
            port = parts.port or default_port
        except ValueError:
            raise BadRequest(f"broker {text!r}: the port must be 1 to 65535") from None
        if not parts.hostname or parts.username is not None or parts.path not in {"", "/"}:
            raise BadRequest(f"broker {text!r}: expected only a host and a port")
        return cls(parts.hostname, port, tls)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Credential:
    """A username and its password; the password is never shown."""

    username: str
    password: str = field(repr=False)


class Message(NamedTuple):
    """One received message.

    ``retain`` tells that it was kept by the broker from before the subscription. ``session`` counts the
    link's connections from 1, so that what an earlier one brought can be told from news. ``arrived`` is the
    monotonic clock at arrival, in seconds.
    """

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    session: int = 0
    arrived: float = 0.0


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes when the connection ends without a farewell."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True
