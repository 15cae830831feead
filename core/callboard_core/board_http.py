"""Where the board's HTTP API is, by the card that the board announces, and when that is to be believed."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit

from callboard_core import topics
from callboard_core.cards import NodeCard, parse_card
from callboard_core.errors import CallboardError, Forbidden, Unavailable
from callboard_core.link.link import Link
from callboard_core.link.subscriptions import Subscription
from callboard_core.link.values import Message
from callboard_core.listening import is_loopback
from callboard_core.topics import BOARD

__all__ = ["TOKEN_PREFIX", "BoardHttp", "http_url"]

#: How every API token begins, so that one that was published by mistake, or given for a password, is recognised.
TOKEN_PREFIX = "callboard_"  # noqa: S105 - it is no secret
#: Seconds to wait for the board's card.
_CARD = 5.0


def http_url(card: NodeCard, broker: str) -> str:
    """Return where the board's HTTP API is for who reaches the broker on the host ``broker``.

    A board that listens on all addresses, or only on its own machine, cannot know by which name others reach it.

    Raises:
        Unavailable: the board's card does not tell.
        Forbidden: it is on another machine than the broker; whoever can write that card could collect passwords.
    """
    if card.http is None:
        raise Unavailable("the board's card does not say where its HTTP API is; update the board")
    parts = urlsplit(card.http)
    host = parts.hostname or ""
    if host in {"0.0.0.0", "::", ""} or is_loopback(host):
        host = broker
    elif not _same_machine(host, broker):
        raise Forbidden(
            f"the board says that its HTTP API is at {card.http}, which is not the broker's machine ({broker}); "
            "passwords go there only if you say so: set node.http"
        )
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{parts.path}"


def _same_machine(host: str, broker: str) -> bool:
    if host == broker or _addresses(host) & _addresses(broker):
        return True
    return is_loopback(broker) and any(_is_ours(address) for address in _addresses(host))


def _addresses(host: str) -> set[str]:
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None)}
    except OSError:
        return set()


def _is_ours(address: str) -> bool:
    """Tell whether an address is one of this machine's: only then one can listen on it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


class BoardHttp:
    """Finds the board's HTTP API by the card that the board announces; followed from the first use on."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._lock = threading.Lock()
        self._subscription: Subscription | None = None
        self._card: NodeCard | None = None

    def __call__(self) -> str:
        """Return the URL.

        Raises:
            Unavailable: the board is not there, or does not tell.
            Forbidden: what it tells is not to be trusted.
        """
        if self._card is None:
            self._look()
        card, endpoint = self._card, self._link.endpoint
        if card is None or endpoint is None:
            raise Unavailable("no board has announced itself; artifacts need a board that runs")
        return http_url(card, endpoint.host)

    def _look(self) -> None:
        """Wait until everything the broker has retained about it is here."""
        with self._lock:
            if self._subscription is None:
                topic = topics.announce(self._link.site, BOARD)
                self._subscription = self._link.subscribe(topic, self._take, qos=0)
        with suppress(TimeoutError, CallboardError):
            self._subscription.ready.result(_CARD)
            self._link.round_trip(_CARD).result()

    def _take(self, message: Message) -> None:
        with suppress(CallboardError):
            card = parse_card(message.payload)
            if isinstance(card, NodeCard):
                self._card = card
