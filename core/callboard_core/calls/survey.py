"""Who offers which service and how busy they are, from cards and heartbeats. Pure; no I/O, no clock.

Every node that offers workers tells with its heartbeats what each has done and has to do, whoever called and whatever
way; so everybody who listens sees the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Any

from callboard_core.calls.heartbeats import MISSED
from callboard_core.cards import WorkerCard
from callboard_core.view import Entry

__all__ = ["HEARTBEAT", "Member", "Report", "Service", "Standing", "Survey", "read_reports"]

#: Name of the event that carries the figures.
HEARTBEAT = "heartbeat"


class Standing(StrEnum):
    """How a member stands."""

    READY = "ready"
    DRAINING = "draining"
    SILENT = "silent"
    AWAY = "away"


@dataclass(frozen=True, slots=True)
class Report:
    """What a node tells of one worker: calls it works on and that wait, and, since it started, what became of
    the others; ``p50`` and ``p95`` are seconds from a call's arrival to its answer, of the last ones.
    """

    running: int = 0
    waiting: int = 0
    done: int = 0
    failed: int = 0
    refused: int = 0
    p50: float | None = None
    p95: float | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """One worker: its card, how it stands, and what it told last; None: nothing yet."""

    node: str
    name: str
    card: WorkerCard
    standing: Standing
    report: Report | None

    @property
    def pid(self) -> str | None:
        """The number of its process on its machine."""
        parts = (self.card.process or "").split("/")
        return parts[1] if len(parts) > 1 else None


@dataclass(frozen=True, slots=True)
class Service:
    """Everybody who offers one service."""

    name: str
    members: tuple[Member, ...]

    @property
    def ready(self) -> int:
        """How many take calls."""
        return sum(member.standing is Standing.READY for member in self.members)

    @property
    def total(self) -> Report:
        """All members together: sums, the middle one's median, and the slowest one's 95th percentile."""
        told = [one.report for one in self.members if one.report and one.standing is not Standing.AWAY]
        halves = [one.p50 for one in told if one.p50 is not None]
        slow = [one.p95 for one in told if one.p95 is not None]
        return Report(
            running=sum(one.running for one in told),
            waiting=sum(one.waiting for one in told),
            done=sum(one.done for one in told),
            failed=sum(one.failed for one in told),
            refused=sum(one.refused for one in told),
            p50=median(halves) if halves else None,
            p95=max(slow, default=None),
        )


class Survey:
    """What the heartbeats of a site told last. One thread at a time.

    Args:
        began: when listening began, in seconds of any clock; the same clock everywhere here.
    """

    def __init__(self, began: float) -> None:
        self._began = began
        self._reports: dict[str, Mapping[str, Report]] = {}
        self._heard: dict[str, float] = {}
        self._seen: dict[str, float] = {}

    def note(self, node: str, data: Mapping[str, Any], now: float) -> None:
        """Take in a heartbeat's data."""
        self._heard[node] = now
        self._reports[node] = read_reports(data)

    def heard(self, node: str) -> bool:
        """Tell whether a node's heart was heard at all."""
        return node in self._heard

    def begin_again(self, now: float) -> None:
        """Nothing could be heard until now."""
        self._began = now

    def services(self, entries: Iterable[Entry], now: float) -> list[Service]:
        """Return every service with its members, by name, of the entries that are workers."""
        found: dict[str, list[Member]] = {}
        there = set()
        for entry in entries:
            if isinstance(entry.card, WorkerCard):
                there.add(entry.node)
                member = self._member(entry, entry.card, now)
                found.setdefault(entry.card.service, []).append(member)
        self._forget_others(there)
        return [
            Service(name, tuple(sorted(members, key=lambda one: (one.node, one.name))))
            for name, members in sorted(found.items())
        ]

    def _member(self, entry: Entry, card: WorkerCard, now: float) -> Member:
        report = self._reports.get(entry.node, {}).get(entry.name)
        return Member(entry.node, entry.name, card, self._standing(entry, card, now), report)

    def _standing(self, entry: Entry, card: WorkerCard, now: float) -> Standing:
        if not entry.live:
            self._seen.pop(entry.node, None)
            return Standing.AWAY
        since = max(
            self._began, self._seen.setdefault(entry.node, now), self._heard.get(entry.node, self._began)
        )
        if card.heartbeat is not None and now - since > MISSED * card.heartbeat:
            return Standing.SILENT
        return Standing.DRAINING if card.draining else Standing.READY

    def _forget_others(self, there: set[str]) -> None:
        for known in (self._reports, self._heard, self._seen):
            for node in known.keys() - there:
                del known[node]


def read_reports(data: Mapping[str, Any]) -> dict[str, Report]:
    """Read the figures in a heartbeat; what is none is left out."""
    workers = data.get("workers")
    if not isinstance(workers, Mapping):
        return {}
    return {str(name): _report(told) for name, told in workers.items() if isinstance(told, Mapping)}


def _report(told: Mapping[str, Any]) -> Report:
    counts = {key: _count(told.get(key)) for key in ("running", "waiting", "done", "failed", "refused")}
    return Report(**counts, p50=_seconds(told.get("p50")), p95=_seconds(told.get("p95")))


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
