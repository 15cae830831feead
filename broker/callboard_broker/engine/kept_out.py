"""Who a Mosquitto has kept out, as far as its log says: it names neither the user nor the connection. Pure."""

from __future__ import annotations

import re
from collections import OrderedDict

from callboard_broker.services.ledger import Entry

__all__ = ["KeptOut"]

_OPENED = re.compile(r"New connection from (\S+):(\d+) on port ")
_LET_IN = re.compile(r"New client connected from (\S+):(\d+) as ")
_REFUSED = re.compile(r"Client <unknown>(?: \[(\S+):\d+\])? disconnected[,:] not authorised")
#: What it says of every client that comes and goes.
_ROUTINE = re.compile(
    r"New (connection|client connected) from |Client \S+ (disconnected\.|closed its connection|already connected|has exceeded)"
)
#: Seconds a connection may take until it is let in or refused, and how many of those are remembered.
_PATIENCE, _MOST = 30.0, 1_000
_DETAIL = "Mosquitto does not tell the user"


class KeptOut:
    """Reads the log line by line; ``now`` is Unix seconds."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._entries: dict[tuple[str, str], Entry] = {}

    def read(self, line: str, now: float) -> bool:
        """Take a line in; returns whether it is worth keeping."""
        if found := _OPENED.match(line):
            self._open[found[1], found[2]] = now
            if len(self._open) > _MOST:
                self._open.popitem(last=False)
        elif found := _LET_IN.match(line):
            self._open.pop((found[1], found[2]), None)
        elif found := _REFUSED.match(line):
            self._note(now, found[1])
        return _ROUTINE.match(line) is None

    def take(self) -> list[Entry]:
        """Return what is new for the audit log; what is alike is one entry."""
        found = list(self._entries.values())
        self._entries.clear()
        return found

    def _note(self, now: float, told: str | None) -> None:
        address, detail = (told, _DETAIL) if told else self._whence(now)
        known = self._entries.get((address, detail))
        times = 1 if known is None else known.times + 1
        self._entries[address, detail] = Entry(
            now, "", "", address, "", "unauthorized", detail, times, "login"
        )

    def _whence(self, now: float) -> tuple[str, str]:
        """Of the connections that are neither in nor refused it is most likely the oldest."""
        while self._open and now - next(iter(self._open.values())) > _PATIENCE:
            self._open.popitem(last=False)
        if not self._open:
            return "", f"{_DETAIL}, nor from where"
        addresses = sorted({address for address, _ in self._open})
        oldest = self._open.popitem(last=False)[0][0]
        others = [address for address in addresses if address != oldest]
        if not others:
            return oldest, _DETAIL
        return oldest, f"{_DETAIL}, and it may have been {', '.join(others[:5])}"
