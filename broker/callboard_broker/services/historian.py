"""Listens to every state and every batch of readings, and puts them where they are kept.

The handlers run for each message of the whole site, so they only parse, note and append.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pydantic import TypeAdapter

from callboard_broker.services.buffer import Buffer, Series
from callboard_broker.services.clocks import Clock, Clocks
from callboard_broker.services.feed import Feed
from callboard_broker.services.refusals import Refusals
from callboard_broker.services.values import Thing, Values
from callboard_core import topics
from callboard_core.errors import BadRequest, CallboardError, Overloaded
from callboard_core.link import Link, Message
from callboard_core.messages import Batch, State, Value, parse
from callboard_core.topics import Address, Kind, Leaf

__all__ = ["Historian"]

#: Most things that may have a history; whoever invents names without end is stopped there.
MOST_SERIES = 100_000
#: Characters of a text reading that are kept.
TEXT_LIMIT = 500


class Source:
    """Where one topic's readings go."""

    __slots__ = ("clock", "series", "thing")

    def __init__(self, thing: Thing, series: Series, clock: Clock) -> None:
        self.thing = thing
        self.series = series
        self.clock = clock


class Historian:
    """Hears all readings.

    Attributes:
        unbelieved: readings not stored because their time is still in the future by the board's clock.
    """

    def __init__(
        self,
        *,
        buffer: Buffer,
        values: Values,
        clocks: Clocks,
        refusals: Refusals,
        feed: Feed,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.unbelieved = 0
        self._buffer = buffer
        self.values = values
        self._clocks = clocks
        self._refusals = refusals
        self._feed = feed
        self._clock = clock
        self._series: dict[Thing, Series] = {}
        self._sources: dict[str, Source] = {}

    def load(self, numbers: dict[Thing, int]) -> None:
        """Take over the numbers of an earlier run."""
        self._series = {thing: Series(thing, number) for thing, number in numbers.items()}

    @property
    def series(self) -> int:
        """How many things have a history."""
        return len(self._series)

    def listen(self, link: Link) -> None:
        """Subscribe; what is retained comes at once."""
        link.subscribe(topics.every_state(link.site), self.on_state)
        link.subscribe(f"{link.site}/+/{Leaf.SERIES}/#", self.on_series)

    def on_state(self, message: Message) -> None:
        """Take a state."""
        received = self._received(message)
        try:
            source = self._sources.get(message.topic) or self._new_source(message.topic)
            if not message.payload:
                self.values.remove(source.thing)
                return
            state = parse(State, message.payload)
            value = None if state.v is None else _storable(state.v)
        except CallboardError as error:
            self._refusals.add(message.topic, error.message, len(message.payload), received)
            return
        self.values.put(source.thing, state, received)
        clock = source.clock
        if not message.retain:
            clock.last_seen = received
            clock.skew = clock.skew.live(state.t, received)
        if value is not None and source.thing[1] != Kind.JOB:
            self._keep(source, state.t, value, received)
        if self._feed.wants("state"):
            self._feed.publish("state", _event(source.thing, state, received))

    def on_series(self, message: Message) -> None:
        """Take a batch."""
        received = self._received(message)
        try:
            source = self._sources.get(message.topic) or self._new_source(message.topic)
            batch = parse(Batch, message.payload)
            values = [_storable(value) for value in batch.v]
        except CallboardError as error:
            self._refusals.add(message.topic, error.message, len(message.payload), received)
            return
        clock = source.clock
        clock.last_seen = received
        clock.skew = clock.skew.batch(max(batch.t), received)
        for t, value in zip(batch.t, values, strict=True):
            self._keep(source, t, value, received)

    def forget(self, node: str) -> None:
        """Drop what is known of a node's topics; its history stays."""
        for topic, source in list(self._sources.items()):
            if source.thing[0] == node:
                del self._sources[topic]
                self.values.remove(source.thing)

    def _received(self, message: Message) -> float:
        waited = time.monotonic() - message.arrived if message.arrived else 0.0
        return self._clock() - waited

    def _keep(self, source: Source, t: float, value: float | str, received: float) -> None:
        believed = source.clock.skew.correct(t, received)
        if believed is None:
            self.unbelieved += 1
        else:
            self._buffer.add(source.series, round(believed * 1e6), value)

    def _new_source(self, topic: str) -> Source:
        address = Address.parse(topic)
        if address.kind is None or address.name is None:
            raise BadRequest(f"topic {topic!r}: expected …/{address.leaf}/kind/name")
        thing = (address.node, address.kind.value, address.name)
        series = self._series.get(thing)
        if address.kind is Kind.JOB:
            series = Series(thing)  # jobs come and go, and the farm itself keeps what became of them
        elif series is None:
            if len(self._series) >= MOST_SERIES:
                raise Overloaded(f"there are {MOST_SERIES} things with a history already; no more are kept")
            series = self._series[thing] = Series(thing)
        source = self._sources[topic] = Source(thing, series, self._clocks.of(address.node))
        return source


def _storable(value: Value) -> float | str:
    """Return what a reading is stored as: a number, 0 or 1 for a boolean, or a text."""
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")[:TEXT_LIMIT]
    return float(value)


_EVENT: TypeAdapter[dict[str, object]] = TypeAdapter(dict[str, object])


def _event(thing: Thing, state: State, received: float) -> bytes:
    node, kind, name = thing
    said = state.model_dump(mode="json", exclude_none=True)
    return _EVENT.dump_json({"node": node, "kind": Kind(kind), "name": name, **said, "received": received})
