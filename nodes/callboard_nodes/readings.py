"""The way of readings to the broker: onto the disk, then out, and off the disk when the broker has them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from enum import StrEnum
from typing import Protocol, TypeVar

from pydantic import ValidationError

from callboard_core import topics
from callboard_core.errors import CallboardError
from callboard_core.messages import Batch, Payload, Reading
from callboard_core.steady import Steady
from callboard_core.topics import Kind
from callboard_nodes.outbox import Outbox, Ticket
from callboard_nodes.segments import Record

__all__ = ["Mode", "Publisher", "Readings", "batches"]

_log = logging.getLogger(__name__)

#: Most readings in one message; some 15 KB.
_BATCH = 500
#: Most bytes in one message, well below what brokers take.
_BATCH_BYTES = 256 * 1024
#: Seconds to wait before sending the backlog again when the broker did not take it.
_RETRY = 1.0
#: Seconds between two syncs of the disk while the broker is away.
_SYNC = 5.0


T = TypeVar("T")


class Mode(StrEnum):
    """Where readings go: to the disk only, behind the backlog that is being sent, or straight out."""

    OFFLINE = "offline"
    DRAINING = "draining"
    LIVE = "live"


class Publisher(Protocol):
    """What is needed of the link."""

    def publish(
        self, topic: str, payload: bytes | Payload, *, qos: int = 0, retain: bool = False
    ) -> Future[None]:
        """Send a message; the future is done when the broker has it."""


class Readings:
    """Takes readings of all things of a node and sees to it that each one arrives. Lives on one event loop.

    Args:
        outbox: where they wait.
        link: takes batches.
        site: first level of the topics.
        node: second level of the topics.
        heard: returns when there is somebody who stores what is sent.
    """

    def __init__(
        self, outbox: Outbox, link: Publisher, *, site: str, node: str, heard: Callable[[], Awaitable[None]]
    ) -> None:
        self._outbox, self._link, self._site, self._node = outbox, link, site, node
        self._heard = heard
        self._tickets: dict[tuple[Kind, str], list[Ticket | None]] = {}
        self._task: asyncio.Task[None] | None = None
        self.mode = Mode.OFFLINE

    def keep(self, kind: Kind, name: str, reading: Reading) -> None:
        """Put a reading on the disk before anything else is done with it."""
        ticket = self._outbox.append([Record(kind, name, reading.t, reading.v)])
        self._tickets.setdefault((kind, name), []).append(ticket)

    def send(self, kind: Kind, name: str, batch: Sequence[Reading], state: Future[None]) -> None:
        """Send what was kept of a thing since the last call.

        Args:
            kind: of the thing.
            name: of the thing.
            batch: all those readings but the newest.
            state: done when the broker has the state, which carries the newest reading.
        """
        *earlier, newest = self._tickets.pop((kind, name))
        self._acknowledge_with(state, [newest])
        pairs = list(zip(batch, earlier, strict=True))
        if self.mode is not Mode.LIVE:  # those on the disk go from there, behind the older ones
            pairs = [(reading, ticket) for reading, ticket in pairs if ticket is None]
        for part in _parts(pairs, weigh=lambda pair: _weight(pair[0])):
            sent = self._publish(kind, name, [reading for reading, _ in part])
            self._acknowledge_with(sent, [ticket for _, ticket in part])

    def connected(self) -> None:
        """Send what waits, and what may not have been heard, then go live."""
        self._stop_task()
        self._outbox.interrupted()
        self.mode = Mode.DRAINING
        self._task = asyncio.create_task(self._drain())

    def disconnected(self) -> None:
        """Keep readings on the disk from now on."""
        self._stop_task()
        self.mode = Mode.OFFLINE
        self._outbox.interrupted()
        self._task = asyncio.create_task(self._sync())

    def close(self) -> None:
        """Stop sending; what was not acknowledged stays on the disk."""
        self._stop_task()
        self.mode = Mode.OFFLINE
        self._outbox.close()

    async def _drain(self) -> None:
        steady = Steady(_log, "sending the readings that waited")
        while True:
            with steady:
                await self._send_backlog()
                return
            await asyncio.sleep(_RETRY)

    async def _send_backlog(self) -> None:
        await self._heard()
        waiting = self._outbox.waiting
        if waiting:
            _log.info("sending %d readings that waited", waiting)
        while (oldest := self._outbox.oldest()) is not None:
            number, records = oldest
            try:
                await asyncio.gather(*[asyncio.wrap_future(sent) for sent in self._sendings(records)])
            except CallboardError as error:
                _log.warning("the broker did not take the readings that waited (%s); trying again", error)
                await asyncio.sleep(_RETRY)
            else:
                self._outbox.delivered(number)
        self.mode = Mode.LIVE

    def _sendings(self, records: Sequence[Record]) -> Iterator[Future[None]]:
        for kind, name, part in batches(records):
            yield self._publish(kind, name, part)

    def _publish(self, kind: Kind, name: str, part: Sequence[Reading]) -> Future[None]:
        batch = Batch(t=[one.t for one in part], v=[one.v for one in part])
        return self._link.publish(topics.series(self._site, self._node, kind, name), batch, qos=1)

    async def _sync(self) -> None:
        steady = Steady(_log, "syncing the readings that wait")
        while True:
            await asyncio.sleep(_SYNC)
            with steady:
                await asyncio.to_thread(self._outbox.sync)

    def _acknowledge_with(self, sent: Future[None], tickets: Sequence[Ticket | None]) -> None:
        def arrived(future: Future[None]) -> None:
            if future.cancelled() or future.exception() is not None:
                return
            for ticket in tickets:
                if ticket is not None:
                    self._outbox.acknowledge(ticket, 1)

        sent.add_done_callback(arrived)

    def _stop_task(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None


def batches(records: Sequence[Record]) -> Iterator[tuple[Kind, str, list[Reading]]]:
    """Put the readings of each thing together, in order, in messages of a handy size; what is no reading is left out."""
    things: dict[tuple[Kind, str], list[Reading]] = {}
    for record in records:
        try:
            reading = Reading(v=record.v, t=record.t)
        except ValidationError as error:
            # Kept, it would hold up all that come after it.
            _log.warning("a stored reading of %s %s is dropped: %s", record.kind, record.name, error)
            continue
        things.setdefault((record.kind, record.name), []).append(reading)
    for (kind, name), found in things.items():
        for part in _parts(found, weigh=_weight):
            yield kind, name, part


def _parts(items: Sequence[T], *, weigh: Callable[[T], int]) -> Iterator[list[T]]:
    part: list[T] = []
    weight = 0
    for item in items:
        if part and (len(part) >= _BATCH or weight + weigh(item) > _BATCH_BYTES):
            yield part
            part, weight = [], 0
        part.append(item)
        weight += weigh(item)
    if part:
        yield part


def _weight(reading: Reading) -> int:
    """Most bytes a reading takes as JSON: every character of a text may need six."""
    return 48 + (6 * len(reading.v) if isinstance(reading.v, str) else 0)
