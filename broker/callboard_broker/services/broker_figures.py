"""What the broker says about itself under ``$SYS``, as numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from callboard_core.link import Link, Message

__all__ = ["BrokerFigures", "figures", "number"]

_NUMBER = re.compile(r"-?\d+(\.\d+)?")
#: More topics than this are not kept.
_MOST = 300
#: Bytes of a payload that are looked at.
_LONGEST = 16_384


def number(text: str) -> float | None:
    """Return the number a payload begins with (``"123 seconds"``), or None."""
    found = _NUMBER.match(text)
    return float(found[0]) if found else None


def figures(topic: str, text: str) -> Iterator[tuple[str, float]]:
    """Yield the numbers a topic tells: its own; of a JSON object each member's; of a JSON list its length."""
    if text[:1] not in {"{", "["}:
        found = number(text)
        if found is not None:
            yield topic, found
        return
    try:
        told = json.loads(text)
    except ValueError:
        return
    if isinstance(told, list):
        yield topic, float(len(told))
        return
    for name, value in told.items():
        if isinstance(value, int | float):
            yield f"{topic}/{name}", float(value)


class BrokerFigures:
    """The last number of every ``$SYS`` topic."""

    def __init__(self) -> None:
        self._figures: dict[str, float] = {}

    def listen(self, link: Link) -> None:
        """Subscribe."""
        link.subscribe("$SYS/#", self.on_figure, qos=0)

    def on_figure(self, message: Message) -> None:
        """Take one."""
        text = message.payload[:_LONGEST].decode(errors="replace")
        for name, value in figures(message.topic, text):
            if name in self._figures or len(self._figures) < _MOST:
                self._figures[name] = value

    def all(self) -> dict[str, float]:
        """Return them by topic."""
        return dict(self._figures)
