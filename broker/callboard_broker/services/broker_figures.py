"""What the broker says about itself under ``$SYS``, as numbers."""

from __future__ import annotations

import re

from callboard_core.link import Link, Message

__all__ = ["BrokerFigures", "number"]

_NUMBER = re.compile(r"-?\d+(\.\d+)?")
#: More topics than this are not kept.
_MOST = 300


def number(text: str) -> float | None:
    """Return the number a payload begins with (``"123 seconds"``), or None."""
    found = _NUMBER.match(text)
    return float(found[0]) if found else None


class BrokerFigures:
    """The last number of every ``$SYS`` topic."""

    def __init__(self) -> None:
        self._figures: dict[str, float] = {}

    def listen(self, link: Link) -> None:
        """Subscribe."""
        link.subscribe("$SYS/#", self.on_figure, qos=0)

    def on_figure(self, message: Message) -> None:
        """Take one."""
        found = number(message.payload[:64].decode(errors="replace"))
        if found is not None and (message.topic in self._figures or len(self._figures) < _MOST):
            self._figures[message.topic] = found

    def all(self) -> dict[str, float]:
        """Return them by topic."""
        return dict(self._figures)
