"""Who works on what next: a pure function from queues and slots to assignments, and the same rules told in words.

Order: tier, priority, the owner who has least, first come first served. What keeps a queue or a slot apart is said in
``rules``; the order lies in a :class:`Lineup`, which is kept between passes so that a free slot is served at once.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from callboard_broker.services.farm.lineup import Lineup, Row
from callboard_broker.services.farm.rules import (
    Offer,
    OfferKey,
    Queue,
    QueueKey,
    Usage,
    busy,
    full,
    waits,
)
from callboard_broker.services.farm.shelves import Shelves
from callboard_core.settings import FarmSchedule

__all__ = [
    "Lineup",
    "Offer",
    "OfferKey",
    "Pick",
    "Queue",
    "QueueKey",
    "Usage",
    "chunk_size",
    "plan",
]


@dataclass(frozen=True, slots=True)
class Pick:
    """One assignment: ``count`` frames of a queue for a slot; ``ahead`` when the slot is still busy."""

    queue: QueueKey
    offer: OfferKey
    count: int
    ahead: bool = False


def chunk_size(
    frame_seconds: float | None,
    startup_seconds: float | None,
    remaining: int,
    slots: int,
    settings: FarmSchedule | None = None,
) -> int:
    """Return how many frames the next task of a job gets.

    While starting a process takes a tenth of a frame's time or more, a process gets ``process_seconds`` of work;
    with less at stake (a warm process), ``light_seconds`` are enough. Near the end the rest is spread over the
    slots that could take it, but no process gets less work than its own start costs.

    Args:
        frame_seconds: measured time of one frame; None while unknown.
        startup_seconds: measured time from the start of a process to its first frame; None while unknown.
        remaining: frames that wait; at least 1.
        slots: slots that could take some of them; at least 1 is assumed.
        settings: the thresholds; the defaults when None.
    """
    settings = settings or FarmSchedule()
    share = -(-remaining // max(slots, 1))
    if frame_seconds is None:
        return max(1, min(share, settings.first_frames, remaining))
    startup = startup_seconds or 0.0
    heavy = startup_seconds is None or (startup > 0 and startup >= frame_seconds / 10)
    wanted = _frames_in(
        settings.process_seconds if heavy else settings.light_seconds, frame_seconds, settings
    )
    least = _frames_in(startup, frame_seconds, settings)
    return max(1, min(wanted, max(share, least), remaining, settings.most_frames))


def _pace(queue: Queue, offer: Offer) -> float | None:
    """Seconds of a frame on this slot. What others need says nothing of one that may be a hundred times slower."""
    return queue.slot_seconds.get(offer.key) if queue.slot_seconds else queue.frame_seconds


def _frames_in(seconds: float, frame_seconds: float, settings: FarmSchedule) -> int:
    """As many as it takes to fill the time, without dividing by a frame that took none."""
    if 0 < seconds >= frame_seconds * settings.most_frames:
        return settings.most_frames
    return math.ceil(seconds / frame_seconds) if seconds else 0


@dataclass(slots=True)
class _Ledger:
    """What is in use, with what this pass has given out added; the caller's own counts are not touched."""

    usage: Usage
    limits: dict[str, int]
    owners: dict[str, int]
    cut: dict[QueueKey, int] = field(default_factory=dict)
    hosts: dict[str, dict[str, int]] = field(default_factory=dict)
    picks: list[Pick] = field(default_factory=list)

    @classmethod
    def of(cls, usage: Usage) -> _Ledger:
        return cls(usage, dict(usage.running), dict(usage.owners))

    def left(self, queue: Queue) -> int:
        return queue.ready - self.cut.get(queue.key, 0)

    def hosts_of(self, queue: Queue) -> Mapping[str, int]:
        return self.hosts.get(queue.key[0], queue.hosts)

    def full(self, queue: Queue) -> bool:
        return full(queue.limits, self.limits, self.usage.limits) is not None

    def weight(self, owner: str) -> float:
        return self.owners.get(owner, 0) / self.usage.shares.get(owner, 1.0)

    def give(self, queue: Queue, offer: Offer, reachable: int, *, ahead: bool) -> None:
        left = self.left(queue)
        count = queue.chunk or chunk_size(
            _pace(queue, offer), queue.startup_seconds, left, reachable, self.usage.schedule
        )
        count = min(count, left)
        self.picks.append(Pick(queue.key, offer.key, count, ahead))
        job = queue.key[0]
        self.cut[queue.key] = self.cut.get(queue.key, 0) + count
        self.owners[queue.owner] = self.owners.get(queue.owner, 0) + 1
        for name in queue.limits:
            self.limits[name] = self.limits.get(name, 0) + 1
        if queue.max_hosts:
            hosts = self.hosts.setdefault(job, dict(queue.hosts))
            hosts[offer.node] = hosts.get(offer.node, 0) + 1


def plan(queues: Lineup | Iterable[Queue], offers: Iterable[Offer], usage: Usage) -> list[Pick]:
    """Return what to assign now, best first.

    Nothing that is passed is changed. The same input gives the same answer, whatever order it comes in. Idle slots are
    served before busy ones get something ahead; a slot is picked at most once, and no limit is exceeded.

    Args:
        queues: what waits; a :class:`Lineup` that is kept between passes, or any queues.
        offers: every slot that is alive, also busy ones: a job's rest is spread over all that could take some of it.
        usage: what is in use, the limits, the time, and the settings.
    """
    lineup = queues if isinstance(queues, Lineup) else Lineup(queues)
    every = list(offers)
    ledger = _Ledger.of(usage)
    for ahead in (False, True):
        shelves = Shelves(every, partial(_is_free, usage, ahead))
        if shelves.left:
            _serve(lineup, shelves, ledger, ahead=ahead)
    return ledger.picks


def _is_free(usage: Usage, ahead: bool, offer: Offer) -> bool:
    return not busy(offer, usage, ahead=ahead)


def _serve(lineup: Lineup, shelves: Shelves, ledger: _Ledger, *, ahead: bool) -> None:
    for level in lineup.levels():
        _serve_level(lineup.owners(level), shelves, ledger, ahead=ahead)
        if not shelves.left:
            return


def _serve_level(
    owners: Mapping[str, Mapping[Row, list[Queue]]], shelves: Shelves, ledger: _Ledger, *, ahead: bool
) -> None:
    """Give the owner who has least one slot, and again; ties go to who came first."""
    lines = {owner: _Line(rows) for owner, rows in owners.items()}
    turns = [(ledger.weight(owner), line.first, owner) for owner, line in lines.items()]
    heapq.heapify(turns)
    while turns and shelves.left:
        _, first, owner = turns[0]
        if _serve_one(lines[owner], shelves, ledger, ahead=ahead):
            heapq.heapreplace(turns, (ledger.weight(owner), first, owner))
        else:
            heapq.heappop(turns)


class _Line:
    """One owner's queues of one level in the order they came, without those that got nothing in this pass."""

    __slots__ = ("_heads", "first")

    def __init__(self, rows: Mapping[Row, list[Queue]]) -> None:
        self._heads = [(queues[0].order, queues[0].key, row, 0, queues) for row, queues in rows.items()]
        heapq.heapify(self._heads)
        self.first = self._heads[0][:2]

    def __iter__(self) -> Iterator[tuple[Row, Queue]]:
        while self._heads:
            _, _, row, at, queues = self._heads[0]
            yield row, queues[at]

    def skip(self) -> None:
        """Leave the first queue out."""
        _, _, row, at, queues = self._heads[0]
        if at + 1 == len(queues):
            heapq.heappop(self._heads)
            return
        after = queues[at + 1]
        heapq.heapreplace(self._heads, (after.order, after.key, row, at + 1, queues))

    def skip_row(self) -> None:
        """Leave out all queues that ask for the same as the first one."""
        heapq.heappop(self._heads)


def _serve_one(line: _Line, shelves: Shelves, ledger: _Ledger, *, ahead: bool) -> bool:
    for row, queue in line:
        if not shelves.count(row) or ledger.full(queue):
            line.skip_row()
            continue
        offer = _match(row, queue, shelves, ledger)
        if offer is None:
            line.skip()
            continue
        shelves.take(offer)
        ledger.give(queue, offer, shelves.reachable(row), ahead=ahead)
        return True
    return False


def _match(row: Row, queue: Queue, shelves: Shelves, ledger: _Ledger) -> Offer | None:
    if ledger.left(queue) <= 0 or waits(queue, ledger.usage):
        return None
    return shelves.best(row, queue, ledger.hosts_of(queue))
