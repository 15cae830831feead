"""Services called through the board: for HTTP and plain MQTT clients, over the same pools that the SDK has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from callboard_core.calls.gather import Answer
from callboard_core.calls.place import here, nearness
from callboard_core.calls.pool import Pool
from callboard_core.calls.texts import ArgumentReader
from callboard_core.cards import WorkerCard
from callboard_core.directory import Directory, Event
from callboard_core.errors import CallboardError, NotFound, Overloaded
from callboard_core.follower import Follower
from callboard_core.jobs import CALLERS
from callboard_core.link import Link
from callboard_core.topics import BOARD
from callboard_core.view import Entry

__all__ = ["Member", "Pools", "Service"]

#: Calls of one service that wait at a time: as many as clients that may well come at once.
QUEUE = 5_000
#: Pools kept at a time; each is a service, or a pattern of some, that was called.
MOST = 1_000
#: Seconds after which a pool that nobody uses is closed.
IDLE = 300.0
#: The board's own worker that calls services, which would only call itself.
CALL = "call"


@dataclass(frozen=True, slots=True)
class Member:
    """A worker that offers a service; ``ready``: it is there and takes calls."""

    node: str
    name: str
    ready: bool
    draining: bool


@dataclass(slots=True)
class Service:
    """A service, its newest card, and who offers it; ``live``: somebody is there who does."""

    name: str
    card: WorkerCard
    members: list[Member] = field(default_factory=list)
    live: bool = False

    @property
    def ready(self) -> int:
        """How many members take calls."""
        return sum(member.ready for member in self.members)


@dataclass(slots=True, eq=False)
class _Kept:
    pool: Pool
    used: float
    callers: dict[str, int] = field(default_factory=dict)
    described: tuple[WorkerCard | None, ArgumentReader] = field(
        default_factory=lambda: (None, ArgumentReader({}))
    )


class Pools:
    """The board's pools. Safe from any thread; nothing here waits."""

    def __init__(self, directory: Directory, link: Link) -> None:
        self._directory, self._link = directory, link
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}
        self._follower: Follower | None = None
        #: Changes whenever a worker comes, changes or goes.
        self.version = 0

    def start(self) -> None:
        """Begin to follow what is offered."""
        self._follower = self._directory.follow(kind="worker", live=None, callback=self._note)

    def services(self) -> list[Service]:
        """What can be called from here, by name."""
        found: dict[str, Service] = {}
        for entry in sorted(self._entries(), key=lambda one: (one.node, one.name)):
            card = entry.card
            assert isinstance(card, WorkerCard)  # noqa: S101 - what _entries returns
            service = found.setdefault(card.service, Service(card.service, card))
            service.members.append(
                Member(entry.node, entry.name, entry.live and not card.draining, card.draining)
            )
            if entry.live:
                service.card, service.live = card, True
        return [found[name] for name in sorted(found)]

    def reader(self, service: str) -> ArgumentReader:
        """What reads texts as the parameters of a service.

        Raises:
            CallboardError: as :meth:`submit`.
        """
        kept = self._pool(service)
        card, reader = kept.described
        newest = kept.pool.card()
        if newest is not card:
            reader = ArgumentReader(newest.parameters if newest is not None else {})
            kept.described = (newest, reader)
        return reader

    def submit(
        self,
        service: str,
        args: Mapping[str, Any],
        *,
        timeout: float,
        caller: str,
        on_progress: Callable[[float], None] | None = None,
    ) -> Future[Any]:
        """Call one member.

        Args:
            service: a name, or a glob (``render:*``).
            args: arguments.
            timeout: seconds for everything.
            caller: on whose behalf; for the list of who calls whom.
            on_progress: told 0 to 1.

        Returns:
            A future of the result, or of the reference to where a large one is kept; cancelling it asks the member
            to interrupt the work.

        Raises:
            NotFound: nobody has ever offered it.
            BadRequest: it is no service.
            Overloaded: too many different services are called.
        """
        return self._used(service, caller).submit(args, timeout=timeout, on_progress=on_progress)

    def submit_to_all(
        self, service: str, args: Mapping[str, Any], *, timeout: float, caller: str
    ) -> Future[list[Answer]]:
        """Call every member; as :meth:`submit`."""
        return self._used(service, caller).submit_to_all(args, timeout=timeout)

    def tidy(self) -> None:
        """Close the pools that nobody has used for a while."""
        now, gone = monotonic(), list[Pool]()
        with self._lock:
            for name, kept in list(self._kept.items()):
                stats = kept.pool.stats()
                if not (stats.outstanding or stats.waiting) and now - kept.used > IDLE:
                    gone.append(self._kept.pop(name).pool)
        for pool in gone:
            pool.close()

    def figures(self) -> dict[str, Any]:
        """What each pool has to do, and who has called how often since this was last asked; idle ones are left out."""
        found = {}
        with self._lock:
            kept = list(self._kept.items())
        for name, one in kept:
            stats, callers = one.pool.stats(), one.callers
            if callers or stats.outstanding or stats.waiting:
                one.callers = {}
                found[name] = {"callers": callers, "running": stats.outstanding, "waiting": stats.waiting}
        return found

    def stop(self) -> None:
        """Close everything; what is outstanding fails with ``unavailable``."""
        if self._follower is not None:
            self._follower.close()
        with self._lock:
            kept, self._kept = list(self._kept.values()), {}
        for one in kept:
            one.pool.close()

    def _note(self, _: Event) -> None:
        self.version += 1

    def _entries(self, service: str | None = None) -> list[Entry]:
        place = here()
        return [
            entry
            for entry in self._directory.find(service, kind="worker", live=None)
            if isinstance(entry.card, WorkerCard)
            and nearness(entry.card, place) is not None
            and not (entry.node == BOARD and entry.name == CALL)
        ]

    def _used(self, service: str, caller: str) -> Pool:
        kept = self._pool(service)
        kept.used = monotonic()
        counts = kept.callers
        if caller not in counts and len(counts) >= CALLERS:
            caller = "*"
        counts[caller] = counts.get(caller, 0) + 1
        return kept.pool

    def _pool(self, service: str) -> _Kept:
        kept = self._kept.get(service)
        if kept is not None and not kept.pool.closed:
            return kept
        self._check(service)
        with self._lock:
            kept = self._kept.get(service)
            if kept is None or kept.pool.closed:
                if len(self._kept) >= MOST:
                    raise Overloaded(f"{MOST} different services are being called; try again in some minutes")
                pool = Pool(self._directory, self._link, service, queue=QUEUE, fetch=False)
                kept = self._kept[service] = _Kept(pool, monotonic())
            return kept

    def _check(self, service: str) -> None:
        if service == CALL:
            raise NotFound("call is how services are called; name the service that is to be called")
        if not self._entries(service) and self._directory.complete:
            raise NotFound(f"nobody offers {service!r}; `callboard ls workers` shows what is offered")


def told(answer: Answer) -> dict[str, Any]:
    """Describe one of the answers of a call that went to all."""
    error: CallboardError | None = answer.error
    found: dict[str, Any] = {"node": answer.node, "service": answer.service, "ok": error is None}
    if error is None:
        found["result"] = answer.result
    else:
        found["error"] = {"code": error.code, "message": error.message}
    return found
