"""Readings between the network and the database: bounded, counted, never blocking who adds."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

__all__ = ["Buffer", "Item", "Series"]


class Series:
    """A thing that has readings; the writer gives it its number."""

    __slots__ = ("number", "thing")

    def __init__(self, thing: tuple[str, str, str], number: int | None = None) -> None:
        self.thing = thing
        self.number = number


class Item(NamedTuple):
    """One reading: ``t`` in microseconds since 1970 by the board's clock."""

    series: Series
    t: int
    value: float | str


class Buffer:
    """Holds up to ``limit`` readings; further ones are dropped and counted.

    One thread takes, any number add: a deque's ends are atomic, so there is no lock on the way in.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.received = 0
        self.dropped = 0
        self._waiting: deque[Item] = deque()
        self._taken = 0

    def __len__(self) -> int:
        return len(self._waiting) + self._taken

    def add(self, series: Series, t: int, value: float | str) -> None:
        """Add one reading."""
        self.received += 1
        if len(self) >= self.limit:
            self.dropped += 1
        else:
            self._waiting.append(Item(series, t, value))

    def take(self, limit: int) -> list[Item]:
        """Return the oldest readings; they count as buffered until ``settle``."""
        items = [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
        self._taken += len(items)
        return items

    def settle(self, items: list[Item]) -> None:
        """Say that these readings are written."""
        self._taken -= len(items)

    def put_back(self, items: list[Item]) -> None:
        """Say that these readings could not be written: they are the next to be taken again."""
        self._waiting.extendleft(reversed(items))
        self._taken -= len(items)

    def drop(self, items: list[Item]) -> None:
        """Say that these readings can never be written."""
        self._taken -= len(items)
        self.dropped += len(items)
