"""The order in which queues are served, kept up to date between passes."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from callboard_broker.services.farm.rules import Queue, QueueKey

__all__ = ["Level", "Lineup", "Row"]

#: Tier and negated priority: smaller goes first.
Level = tuple[int, int]


class Row(NamedTuple):
    """What a queue asks of slots and limits; queues that ask for the same are looked at together."""

    engine: str
    tags: frozenset[str]
    limits: tuple[str, ...]


class _Place(NamedTuple):
    queue: Queue
    level: Level
    owner: str
    row: Row
    at: tuple[float, QueueKey]


def _at(queue: Queue) -> tuple[float, QueueKey]:
    return queue.order, queue.key


class Lineup:
    """Queues that are in line, by level, owner and what they ask for, each list in the order they came.

    Not safe to share between threads.
    """

    def __init__(self, queues: Iterable[Queue] = ()) -> None:
        self._places: dict[QueueKey, _Place] = {}
        self._levels: list[Level] = []
        self._owners: dict[Level, dict[str, dict[Row, list[Queue]]]] = {}
        for queue in sorted(queues, key=_at):
            self.refresh(queue)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: QueueKey) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[Queue]:
        return (place.queue for place in self._places.values())

    def levels(self) -> list[Level]:
        """The levels that hold queues, first served first."""
        return self._levels

    def owners(self, level: Level) -> Mapping[str, Mapping[Row, list[Queue]]]:
        """The queues of a level: owner → what they ask for → queues. None of them is empty."""
        return self._owners[level]

    def refresh(self, queue: Queue) -> None:
        """Put a queue where it belongs now; out of the line when it is held or nothing of it waits.

        To be called whenever one of its attributes has changed; it costs microseconds.
        """
        before = self._places.get(queue.key)
        after = None if queue.held or queue.ready <= 0 else _place(queue)
        if before == after:
            return
        if before is not None:
            self._remove(before)
        if after is not None:
            self._insert(after)

    def discard(self, key: QueueKey) -> None:
        """Forget a queue, in line or not."""
        place = self._places.get(key)
        if place is not None:
            self._remove(place)

    def _insert(self, place: _Place) -> None:
        self._places[place.queue.key] = place
        if place.level not in self._owners:
            insort(self._levels, place.level)
            self._owners[place.level] = {}
        line = self._owners[place.level].setdefault(place.owner, {}).setdefault(place.row, [])
        # Mostly the newest, which goes last.
        if line and place.at < _at(line[-1]):
            insort(line, place.queue, key=_at)
        else:
            line.append(place.queue)

    def _remove(self, place: _Place) -> None:
        del self._places[place.queue.key]
        owners = self._owners[place.level]
        rows = owners[place.owner]
        line = rows[place.row]
        # By the order it was put in with: the queue's own may have changed since.
        line.pop(bisect_left(line, place.at, key=lambda queue: self._known_at(queue, place)))
        if line:
            return
        del rows[place.row]
        if not rows:
            del owners[place.owner]
        if not owners:
            del self._owners[place.level]
            del self._levels[bisect_left(self._levels, place.level)]

    def _known_at(self, queue: Queue, removed: _Place) -> tuple[float, QueueKey]:
        if queue.key == removed.queue.key:
            return removed.at
        return self._places[queue.key].at


def _place(queue: Queue) -> _Place:
    return _Place(
        queue,
        (queue.tier, -queue.priority),
        queue.owner,
        Row(queue.engine, queue.tags, queue.limits),
        _at(queue),
    )
