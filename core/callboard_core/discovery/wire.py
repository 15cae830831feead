"""What travels during discovery, and what is believed of it. Pure; no I/O.

A query and its answer are one UDP datagram each, a JSON object with ``"callboard": 1`` as the mark of this
protocol's first version. The same facts are the TXT record of the DNS-SD service.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError

from callboard_core.errors import BadPayload, BadRequest
from callboard_core.messages import Payload, describe, parse
from callboard_core.topics import ID_PATTERN, check_id

__all__ = ["DEFAULT_PORT", "Answer", "Board", "Found", "Query", "Txt", "answer", "nearest"]

#: UDP port of the query. Not assigned to anybody by IANA.
DEFAULT_PORT = 18831
#: Largest datagrams in bytes; both fit into one Ethernet frame.
QUERY_LIMIT = 512
ANSWER_LIMIT = 1024


def _id(value: str) -> str:
    try:
        return check_id(value, "site")
    except BadRequest as error:
        raise BadPayload(error.message, key="site") from None


def _http_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not value.isprintable():
        raise BadPayload("http: expected a URL such as http://192.168.1.2:8470", key="http")
    return value


_Site = Annotated[str, AfterValidator(_id), Field(json_schema_extra={"pattern": f"^{ID_PATTERN}$"})]
_HttpUrl = Annotated[str, Field(max_length=200), AfterValidator(_http_url)]
_Port = Annotated[int, Field(ge=1, le=65535)]
_Version = Annotated[str, Field(max_length=50)]
_Nonce = Annotated[str, Field(min_length=8, max_length=64)]


class Query(Payload):
    """Who asks for a board; ``site`` is missing when any will do.

    Nothing that marks a query has a default: a board must never take an answer for one.
    """

    callboard: Literal[1]
    ask: Literal["board"]
    nonce: _Nonce
    site: _Site | None = None


class Answer(Payload):
    """A board's answer to the query with the same nonce."""

    callboard: Literal[1]
    nonce: _Nonce
    site: _Site
    mqtt: _Port
    http: _HttpUrl | None = None
    version: _Version = ""
    mqtts: _Port | None = None
    https: _Port | None = None


class Txt(Payload):
    """The TXT record of the DNS-SD service; the MQTT port is the service's own."""

    site: _Site
    http: _HttpUrl | None = None
    version: _Version = ""
    mqtts: _Port | None = None
    https: _Port | None = None

    @classmethod
    def of(cls, properties: Mapping[str, str | None]) -> Txt:
        """Read a record as zeroconf decodes it.

        Raises:
            BadPayload: a key is missing or wrong.
        """
        try:
            return cls.model_validate({key: value for key, value in properties.items() if value is not None})
        except ValidationError as error:
            raise describe(error) from None


@dataclass(frozen=True)
class Board:
    """What a board tells about itself.

    The host of ``http_url`` may be ``0.0.0.0``: it then stands for the address the asker reached the board at.
    ``mqtts`` and ``https`` are the ports of MQTT over TLS and of HTTPS, at the same addresses.
    """

    site: str
    mqtt_port: int
    http_url: str | None = None
    version: str = ""
    mqtts: int | None = None
    https: int | None = None


@dataclass(frozen=True)
class Found:
    """A board that was found. A hint where to connect, not a proof of who is there."""

    site: str
    host: str
    mqtt_port: int
    http_url: str | None = None
    version: str = ""
    via: Literal["udp", "mdns"] = "udp"
    mqtts: int | None = None
    https: int | None = None

    @property
    def mqtt_url(self) -> str:
        """For example ``mqtt://192.168.1.2:1883``."""
        return f"mqtt://{self.host}:{self.mqtt_port}"

    @classmethod
    def from_answer(cls, packet: bytes, host: str, nonce: str) -> Found | None:
        """Read a datagram that came from ``host``; ``None`` when it answers somebody else's query.

        Raises:
            BadPayload: it is no answer.
            TooLarge: it is over :data:`ANSWER_LIMIT`.
        """
        found = parse(Answer, packet, limit=ANSWER_LIMIT)
        if found.nonce != nonce:
            return None
        return cls(
            found.site,
            host,
            found.mqtt,
            reachable(found.http, host),
            found.version,
            "udp",
            found.mqtts,
            found.https,
        )

    @classmethod
    def from_service(cls, txt: Txt, host: str, port: int) -> Found:
        """Read a DNS-SD service that is reached at ``host``.

        Raises:
            BadPayload: the port is not one.
        """
        if not 0 < port <= 65535:  # noqa: PLR2004 - the range of TCP
            raise BadPayload(f"port: {port} is no TCP port", key="port")
        return cls(txt.site, host, port, reachable(txt.http, host), txt.version, "mdns", txt.mqtts, txt.https)


def answer(packet: bytes, board: Board) -> bytes | None:
    """Return what ``board`` answers to a datagram; ``None`` when another site is asked for.

    Raises:
        BadPayload: it is no query.
        TooLarge: it is over :data:`QUERY_LIMIT`.
    """
    query = parse(Query, packet, limit=QUERY_LIMIT)
    if query.site not in {None, board.site}:
        return None
    return Answer(
        callboard=1,
        nonce=query.nonce,
        site=board.site,
        mqtt=board.mqtt_port,
        http=board.http_url,
        version=board.version,
        mqtts=board.mqtts,
        https=board.https,
    ).encode()


def reachable(http_url: str | None, host: str) -> str | None:
    """Return the HTTP API's URL as seen by somebody who reached the board at ``host``.

    An unspecified host becomes ``host``; one that is bound to the board's loopback cannot be reached from elsewhere.
    """
    if http_url is None:
        return None
    try:
        bound = ipaddress.ip_address(urlsplit(http_url).hostname or "")
    except ValueError:
        return http_url
    if bound.is_unspecified:
        parts = urlsplit(http_url)
        return parts._replace(netloc=host if parts.port is None else f"{host}:{parts.port}").geturl()
    return http_url if not bound.is_loopback or ipaddress.ip_address(host).is_loopback else None


def nearest(addresses: Iterable[str], networks: Iterable[ipaddress.IPv4Interface]) -> str | None:
    """Return the first address that lies in one of our own networks, or the first one."""
    addresses = list(addresses)
    ours = [own.network for own in networks]
    near = (text for text in addresses if any(ipaddress.ip_address(text) in network for network in ours))
    return next(near, addresses[0] if addresses else None)
