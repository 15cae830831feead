"""Everything that is counted, for Prometheus. Counted where it happens, collected here when asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from callboard_broker.services.artifacts import Artifacts
from callboard_broker.services.broker_figures import BrokerFigures
from callboard_broker.services.buffer import Buffer
from callboard_broker.services.farm.service import Farm
from callboard_broker.services.feed import Feed
from callboard_broker.services.health import Health
from callboard_broker.services.historian import Historian
from callboard_broker.services.refusals import Refusals
from callboard_broker.services.registry import Registry
from callboard_broker.services.upkeep import Upkeep
from callboard_broker.services.writer import Condition, Writer
from callboard_core.farm.states import FrameState
from callboard_core.link import Link

__all__ = ["Metrics"]


class Metrics(Collector):
    """Renders the board's figures and the broker's ``$SYS`` values."""

    def __init__(
        self,
        *,
        buffer: Buffer,
        writer: Writer,
        upkeep: Upkeep,
        historian: Historian,
        registry: Registry,
        refusals: Refusals,
        artifacts: Artifacts,
        feed: Feed,
        health: Health,
        broker: BrokerFigures,
        farm: Farm,
        links: Iterable[Link],
    ) -> None:
        self._buffer = buffer
        self._writer = writer
        self._upkeep = upkeep
        self._historian = historian
        self._nodes = registry
        self._refusals = refusals
        self._artifacts = artifacts
        self._feed = feed
        self._health = health
        self._broker = broker
        self._farm = farm
        self._links = list(links)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def render(self) -> bytes:
        """Return the text format."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Say nothing beforehand: what there is depends on the broker."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Collect everything."""
        yield from self._history()
        yield from self._store()
        yield from self._people()
        yield from self._rendering()
        yield from self._broker_values()

    def _history(self) -> Iterator[Metric]:
        buffer, writer = self._buffer, self._writer
        yield _counter("history_readings_received", "readings that arrived", buffer.received)
        yield _counter("history_readings_written", "readings stored", writer.written)
        yield _counter("history_readings_duplicate", "readings that were stored already", writer.duplicates)
        yield _counter(
            "history_readings_dropped", "readings lost because the buffer was full", buffer.dropped
        )
        yield _counter(
            "history_readings_unbelieved",
            "readings not stored: their time is in the future",
            self._historian.unbelieved,
        )
        yield _counter(
            "history_readings_shed", "readings removed early because the disk was full", self._upkeep.shed
        )
        yield _gauge("history_readings_buffered", "readings that wait to be stored", len(buffer))
        yield _gauge("history_buffer_limit", "readings that may wait", buffer.limit)
        yield _gauge("history_series", "things that have a history", self._historian.series)
        yield _gauge(
            "history_minutes_unrolled", "minutes that wait to be rolled up", len(self._upkeep.unrolled)
        )

    def _store(self) -> Iterator[Metric]:
        writer = self._writer
        yield _counter("database_stalls", "writes that had to be tried again", writer.stalls)
        yield _gauge(
            "database_stalled_seconds", "since when the present write has been going on", writer.stalled_for
        )
        yield _gauge("database_jobs_waiting", "small writes that wait", writer.jobs_waiting)
        full = writer.low or writer.condition is Condition.FULL
        yield _gauge("database_disk_full", "1 while the disk is full or nearly full", float(full))
        count, size = self._artifacts.total()
        yield _gauge("artifacts", "artifacts that are kept", count)
        yield _gauge("artifacts_bytes", "their size", size)
        yield _counter(
            "artifacts_damaged", "artifacts that were damaged on the disk", self._artifacts.damaged
        )
        yield _gauge("healthy", "1 while all is well", float(not self._health.reasons()))

    def _people(self) -> Iterator[Metric]:
        found = self._nodes.nodes()
        nodes = GaugeMetricFamily("callboard_nodes", "nodes by status", labels=["status"])
        for status, count in Counter(str(view.status or "unknown") for view in found).items():
            nodes.add_metric([status], count)
        yield nodes
        yield _gauge("cards", "things on the board", sum(view.things for view in found))
        yield _gauge("nodes_skewed", "nodes whose clock is wrong", sum(view.skew.wrong for view in found))
        yield _counter("refused_messages", "messages that were refused", self._refusals.count)
        yield _gauge("event_listeners", "clients that listen to events over HTTP", self._feed.listeners)
        yield _counter("event_listeners_let_go", "listeners that were too slow", self._feed.let_go)
        yield _counter(
            "events_left_out", "events no listener got because there were too many", self._feed.left_out
        )
        dropped = sum(link.dropped for link in self._links)
        yield _counter("link_messages_dropped", "QoS 0 messages dropped because handlers were stuck", dropped)

    def _rendering(self) -> Iterator[Metric]:
        core = self._farm.core
        jobs = GaugeMetricFamily("callboard_farm_jobs", "jobs by state", labels=["state"])
        frames = GaugeMetricFamily("callboard_farm_frames", "frames of open jobs by state", labels=["state"])
        with self._farm.reading() as book:
            open_jobs = [job for job in book.jobs.values() if not job.over]
            for state, count in self._farm.control.state_counts().items():
                jobs.add_metric([state.value], count)
            for one in FrameState:
                frames.add_metric([one.value], sum(job.count(one) for job in open_jobs))
            yield _gauge("farm_slots", "slots that are known", len(book.slots))
            yield _gauge("farm_slots_live", "slots that are there", sum(s.live for s in book.slots.values()))
            yield _gauge("farm_tasks_assigned", "tasks that slots have", len(book.attempts))
        yield jobs
        yield frames
        yield _counter("farm_frames_done", "frames finished since the start", core.frames_done)
        yield _counter("farm_tasks_done", "tasks finished since the start", core.tasks_done)
        yield _counter(
            "farm_passes", "times that work and slots were brought together", self._farm.dispatch.passes
        )

    def _broker_values(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "callboard_broker_sys", "what the broker says under $SYS", labels=["topic"]
        )
        for topic, value in sorted(self._broker.all().items()):
            family.add_metric([topic], value)
        yield family


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"callboard_{name}", text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"callboard_{name}", text, value=value)
