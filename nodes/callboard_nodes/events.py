"""Events of nodes, as others hear them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import JsonValue

from callboard_core import topics
from callboard_core.errors import CallboardError
from callboard_core.link import Link, Message, Subscription
from callboard_core.messages import Event, Severity, parse
from callboard_core.topics import Address

__all__ = ["Heard", "listen"]

_log = logging.getLogger("callboard.node")


@dataclass(frozen=True)
class Heard:
    """One event: who published it, its name and what it says; ``t`` is Unix seconds of the publisher's clock."""

    node: str
    name: str
    t: float
    severity: Severity
    message: str
    data: dict[str, JsonValue]


def listen(
    link: Link,
    site: str,
    event: str,
    hear: Callable[[Heard], object],
    *,
    node: str = "*",
    where: Callable[[Heard], object] | None = None,
) -> Subscription:
    """Hear events over a link, on its dispatcher thread.

    Args:
        link: any link of the site.
        site: first level of the topics.
        event: name, or ``*`` for every one.
        hear: takes each event.
        node: whose, or ``*`` for everybody's.
        where: only those for which this is true.

    Raises:
        BadRequest: the event's or node's name is no id.
    """

    def receive(message: Message) -> None:
        heard = _read(message)
        if heard is not None and (where is None or where(heard)):
            hear(heard)

    return link.subscribe(topics.event(site, _level(node), _level(event)), receive)


def _level(name: str) -> str:
    return "+" if name == "*" else topics.check_id(name)


def _read(message: Message) -> Heard | None:
    try:
        address = Address.parse(message.topic)
        event = parse(Event, message.payload)
    except CallboardError as error:
        _log.debug("an event that does not parse was ignored: %s", error)
        return None
    return Heard(address.node, address.name or "", event.t, event.severity, event.message, event.data)
