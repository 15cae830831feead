"""Passwords that wait to be checked, in a fair order: addresses take turns, and so do the names one of them tries. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from callboard_broker.mqtt.connection import Connection
from callboard_broker.mqtt.phase import Phase

__all__ = ["Attempt", "Waiting"]

_T = TypeVar("_T")
#: Connections of one attempt among which those that are gone are looked for.
_MANY = 100


@dataclass(slots=True)
class Attempt:
    """A credential that came from one address, and the connections that are to be told about it.

    ``failed`` says that it is known to be wrong, and was counted as that.
    """

    address: str
    name: str
    password: bytes = field(repr=False)
    connections: list[Connection] = field(default_factory=list)
    failed: bool = False
    _many: int = field(default=_MANY, init=False)

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits for the answer."""
        return any(connection.phase is Phase.CHECKING for connection in self.connections)

    def join(self, other: Attempt) -> None:
        """Tell ``other``'s connections as well; now and then those that are gone are forgotten."""
        self.connections += other.connections
        if len(self.connections) >= self._many:
            self.connections = [each for each in self.connections if each.phase is Phase.CHECKING]
            self._many = _MANY + 2 * len(self.connections)


_Names = dict[str, dict[tuple[str, bytes], Attempt]]


class Waiting:
    """The queue. The same credential from the same address waits once, however many connections bring it.

    Args:
        most: different attempts of one address under one name that may wait.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._addresses: dict[str, _Names] = {}

    def put(self, attempt: Attempt, name: str) -> bool:
        """Let an attempt wait its turn, under ``name``. Return False if there is no room."""
        waiting = self._addresses.setdefault(attempt.address, {}).setdefault(name, {})
        key = (attempt.name, attempt.password)
        same = waiting.get(key)
        if same is not None:
            same.join(attempt)
            return True
        if len(waiting) >= self._most:
            self._forget_unwanted(waiting)
        if len(waiting) >= self._most:
            return False
        waiting[key] = attempt
        return True

    @staticmethod
    def _forget_unwanted(waiting: dict[tuple[str, bytes], Attempt]) -> None:
        for key in [key for key, attempt in waiting.items() if not attempt.wanted]:
            del waiting[key]

    def take(self) -> Attempt | None:
        """Return the attempt whose turn it is, leaving out what nobody waits for any more."""
        while self._addresses:
            address, names = self._first(self._addresses)
            name, waiting = self._first(names)
            attempt = waiting.pop(next(iter(waiting)))
            # Whoever had a turn goes to the end, if there is more.
            if waiting:
                names[name] = waiting
            if names:
                self._addresses[address] = names
            if attempt.wanted:
                return attempt
        return None

    @staticmethod
    def _first(found: dict[str, _T]) -> tuple[str, _T]:
        key = next(iter(found))
        return key, found.pop(key)
