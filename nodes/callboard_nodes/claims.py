"""Exclusive services: one worker of a name at a time; who comes second is told, and takes over when it is free."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from typing import Protocol

from callboard_core.cards import WorkerCard
from callboard_core.directory import Directory, Dropped, Event
from callboard_core.errors import Conflict
from callboard_core.link import Link
from callboard_core.view import Entry, Key
from callboard_nodes.workers import Worker

__all__ = ["Claims", "Title", "Verdict", "contend"]

_log = logging.getLogger("callboard.node")

#: Seconds between two looks whether the directory is complete, without which nobody knows who holds what.
LOOK = 0.05

#: Since when a name is held (Unix seconds) and by which node; the lesser one is right.
Title = tuple[float, str]


class Verdict(Enum):
    """What to do about a name."""

    TAKE = auto()
    KEEP = auto()
    WAIT = auto()
    YIELD = auto()


def contend(mine: Title | None, rivals: Iterable[Title]) -> Verdict:
    """Decide about a name that others may hold. Any two that both hold it agree on who yields."""
    best = min(rivals, default=None)
    if mine is None:
        return Verdict.TAKE if best is None else Verdict.WAIT
    return Verdict.YIELD if best is not None and best < mine else Verdict.KEEP


class Stage(Protocol):
    """Announces and withdraws workers."""

    def announce(self, worker: Worker) -> None:
        """Answer a worker's calls and announce it."""

    def withdraw(self, name: str) -> None:
        """Offer it no more."""


@dataclass(slots=True, eq=False)
class _Claim:
    workers: list[Worker] = field(default_factory=list)
    since: float | None = None
    told: str | None = None  # the node that was named in the last conflict

    @property
    def services(self) -> set[str]:
        return {worker.card.service for worker in self.workers}


class Claims:
    """The exclusive workers of one node. Those that belong together are held together.

    Args:
        directory: who offers what.
        link: the node's.
        node: the node's id.
        stage: announces and withdraws.
        on_conflict: told when somebody else holds a name, or was right to.
    """

    def __init__(
        self,
        directory: Directory,
        link: Link,
        node: str,
        stage: Stage,
        on_conflict: Callable[[Worker, Conflict], object],
    ) -> None:
        self._directory, self._link, self._node, self._stage = directory, link, node, stage
        self._on_conflict = on_conflict
        self._lock = threading.RLock()
        self._claims: dict[str, _Claim] = {}
        self._rivals: dict[Key, Entry] = {}
        self._looking = False
        self._follower = directory.follow(kind="worker", callback=self._on_event)

    def add(self, worker: Worker) -> None:
        """Want a name; it is taken as soon as nobody holds it."""
        with self._lock:
            claim = self._claims.setdefault(worker.claim, _Claim())
            claim.workers.append(worker)
            if claim.since is not None:
                self._announce(claim, worker)
                return
        self._look()

    def remove(self, name: str) -> None:
        """Want it no more."""
        with self._lock:
            for key, claim in list(self._claims.items()):
                claim.workers = [worker for worker in claim.workers if worker.card.name != name]
                if not claim.workers:
                    del self._claims[key]

    def close(self) -> None:
        """Follow no more."""
        self._follower.close()
        with self._lock:
            self._claims.clear()

    def _on_event(self, event: Event) -> None:
        entry = event.entry
        if entry.node == self._node or not isinstance(entry.card, WorkerCard):
            return
        with self._lock:
            if isinstance(event, Dropped) or not entry.card.exclusive:
                self._rivals.pop(entry.key, None)
            else:
                self._rivals[entry.key] = entry
        self._decide()

    def _look(self) -> None:
        """Decide now, and again until the directory is complete."""
        self._decide()
        with self._lock:
            waiting = any(claim.since is None for claim in self._claims.values())
            again = waiting and not self._directory.complete and not self._looking
            self._looking = self._looking or again
        if again:
            self._link.later(LOOK, self._look_again)

    def _look_again(self) -> None:
        self._looking = False
        self._look()

    def _decide(self) -> None:
        with self._lock:
            for claim in list(self._claims.values()):
                self._settle(claim)

    def _settle(self, claim: _Claim) -> None:
        rivals = [entry for entry in self._rivals.values() if _service(entry) in claim.services]
        mine = None if claim.since is None else (claim.since, self._node)
        match contend(mine, map(_title, rivals)):
            case Verdict.TAKE if self._directory.complete:
                claim.since, claim.told = time.time(), None
                for worker in claim.workers:
                    self._announce(claim, worker)
            case Verdict.WAIT:
                self._tell(claim, rivals)
            case Verdict.YIELD:
                claim.since = None
                for worker in claim.workers:
                    self._stage.withdraw(worker.card.name)
                self._tell(claim, rivals)

    def _announce(self, claim: _Claim, worker: Worker) -> None:
        self._stage.announce(worker.with_card(since=claim.since))

    def _tell(self, claim: _Claim, rivals: list[Entry]) -> None:
        holder = min(rivals, key=_title)
        if claim.told == holder.node:
            return
        claim.told = holder.node
        conflict = Conflict(
            f"{_service(holder)!r} is held by node {holder.node!r}; this node takes over when it is free"
        )
        _log.warning("%s", conflict.message)
        # Users' callbacks may wait; nothing else may wait for them.
        for worker in claim.workers:
            threading.Thread(target=partial(self._on_conflict, worker, conflict), daemon=True).start()


def _service(entry: Entry) -> str:
    return entry.card.service if isinstance(entry.card, WorkerCard) else ""


def _title(entry: Entry) -> Title:
    since = entry.card.since if isinstance(entry.card, WorkerCard) else None
    return (since or 0.0, entry.node)
