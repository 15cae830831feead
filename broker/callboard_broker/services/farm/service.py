"""The farm as the rest of the board uses it: started and stopped with it, asked from any thread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, TypeVar

from pydantic import JsonValue
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from callboard_broker.errors import StoreUnavailable
from callboard_broker.services.artifacts import Artifacts
from callboard_broker.services.farm.attempts import Attempts
from callboard_broker.services.farm.book import Book
from callboard_broker.services.farm.control import Control
from callboard_broker.services.farm.core import Core
from callboard_broker.services.farm.desk import Desk
from callboard_broker.services.farm.dispatch import Dispatch
from callboard_broker.services.farm.files import Files
from callboard_broker.services.farm.jobtypes import JobTypes
from callboard_broker.services.farm.making import restore_attempt, restore_job
from callboard_broker.services.farm.model import Attempt, Job, SlotKey, Step
from callboard_broker.services.farm.places import Places
from callboard_broker.services.farm.publishing import LAST_RENDERED, Publishing
from callboard_broker.services.farm.roster import Roster, Wish
from callboard_broker.services.farm.tuning import with_changes
from callboard_broker.services.farm.why import Reason
from callboard_broker.store import farm as store
from callboard_broker.store.database import Database
from callboard_core.cards import CameraCard, NodeCard, SlotCard
from callboard_core.directory import Directory, Dropped
from callboard_core.directory import Event as Happened
from callboard_core.errors import CallboardError, Conflict
from callboard_core.farm.messages import AttemptCall, AttemptReply, SlotCommand, SlotReport, as_args
from callboard_core.farm.requests import JobAction, JobRequest
from callboard_core.link import Link, Message
from callboard_core.messages import State, parse
from callboard_core.presence import Presence
from callboard_core.settings import Farm as Settings
from callboard_core.topics import Address, Kind, Leaf

__all__ = ["Farm"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

#: Seconds a slot has to answer, and between two looks at leases.
_ANSWER = 5.0
_TICK = 1.0


class Farm:
    """Make it, :meth:`load` it, let it :meth:`listen` and :meth:`appear`, then :meth:`start` it.

    Args:
        settings: what is in force.
        database: where everything is kept.
        link: for talking to slots.
        directory: which slots there are.
        job_types: what jobs are made of.
        artifacts: the files; None keeps none.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        database: Database,
        link: Link,
        directory: Directory,
        job_types: JobTypes,
        artifacts: Artifacts | None = None,
    ) -> None:
        self.database = database
        self.job_types = job_types
        self.artifacts = artifacts
        self._link = link
        self._directory = directory
        self.core = Core(settings, online=lambda: link.connected)
        self.publishing = Publishing(self.core, link, artifacts)
        self.files = Files(lambda: self.core.settings, artifacts, database)
        self._attempts = Attempts(
            self.core, self.files, give_up=self._give_up, rendered=self.publishing.rendered
        )
        self.roster = Roster(self.core, self._attempts, call=self._call, tags=self._node_tags)
        self.places = Places(self.core)
        self.control = Control(self.core, self._attempts, self.roster, self.files, self.places)
        self.dispatch = Dispatch(self.core, self._attempts, self.roster, self.files, self._call)
        self.desk = Desk(database, settle=self._settle, collect=self.core.ledger.collect)
        self.core.desk = self.desk

    # -- starting and stopping ------------------------------------------------------------------------------

    def load(self, connection: Connection) -> None:
        """Take over what the last run left."""
        found = store.load(connection)
        self.places.load(found.places)
        self.core.settings = with_changes(self.core.settings, found.settings)
        for row in found.jobs:
            with _tolerant("job", row):
                self.core.book.jobs[row.id] = restore_job(row)
        self._load_frames(found.segments)
        for row in found.slots:
            with _tolerant("slot", row):
                self.roster.load(row)
        for row in found.attempts:
            with _tolerant("attempt", row):
                self._load_attempt(row)
        for job in self.core.book.jobs.values():
            self.core.refresh_job(job)
        self.control.begin_at(store.last_job(connection) + 1)
        self.roster.watch_lost()

    def _load_frames(self, segments: Iterable[Any]) -> None:
        jobs = self.core.book.jobs
        for row in segments:
            if row.job in jobs:
                with _tolerant("frames", row):
                    jobs[row.job].steps[row.step].strip.restore(row.segment, row.states)
        for job in jobs.values():
            for step in job.steps:
                step.strip.recount()

    def _load_attempt(self, row: Any) -> None:
        step = self.core.book.job(row.job).steps[row.step]
        attempt = restore_attempt(row, step, self.core.monotonic() + self.core.settings.lease)
        self._attempts.restore(attempt)

    def listen(self) -> None:
        """Subscribe; the directory must have been started."""
        self._link.subscribe(f"{self._link.site}/+/{Leaf.STATE}/{Kind.SLOT}/+", self._on_state, qos=0)
        self._link.on_connect(lambda: self.desk.post(self._renew))
        self._directory.follow(kind=Kind.SLOT, live=None, callback=self._on_slot)
        self._directory.follow(kind="node", live=None, callback=self._on_node)

    def appear(self, presence: Presence) -> None:
        """Announce the camera of the last picture, and the jobs."""
        presence.pin(
            CameraCard(name=LAST_RENDERED, epoch=presence.epoch, label="Last rendered", tags=["farm"])
        )
        self.desk.post(lambda: self.publishing.begin(presence))

    def start(self) -> None:
        """Begin to schedule."""
        self.desk.post(self._tick)
        self.desk.start()

    def stop(self, timeout: float = 2.0) -> None:
        """End; everything is written already."""
        if not self.desk.stop(timeout):
            _log.error("the farm does not end: %s", self.desk.problem or "it is still busy")

    # -- on the farm's thread -------------------------------------------------------------------------------

    def _settle(self) -> None:
        self.dispatch.settle()
        self.publishing.flush()

    def _give_up(self, step: Step, reason: str) -> None:
        self.control.give_up(step, reason)

    def _tick(self) -> None:
        self.desk.later(_TICK, self._tick)
        self.core.pace.append((self.core.monotonic(), self.core.frames_done))
        if not self.core.online():
            return
        for attempt in self._attempts.expired():
            self._expire(attempt)
        if len(self.core.lineup):
            self.core.due = True  # the end of what runs comes nearer, which is when more is sent ahead

    def _expire(self, attempt: Attempt) -> None:
        text = f"slot {attempt.slot[0]}/{attempt.slot[1]} was silent for {self.core.settings.lease:g} s"
        self._attempts.lose(attempt, "lease", text)
        slot = self.core.book.slots.get(attempt.slot)
        if slot is not None and slot.live:
            self.roster.synchronise(slot)

    def _renew(self) -> None:
        self._attempts.renew(self.core.book.attempts.values())

    # -- what arrives (on the link's dispatcher thread) -------------------------------------------------------

    def _on_slot(self, happened: Happened) -> None:
        entry = happened.entry
        key = (entry.node, entry.name)
        if isinstance(happened, Dropped):
            self.desk.post(partial(self.roster.remove, key))
        elif isinstance(entry.card, SlotCard):
            self.desk.post(partial(self.roster.appear, key, entry.card, live=entry.live))

    def _on_node(self, happened: Happened) -> None:
        """A node's tags are its slots' too, so a slot that came before its node's card is looked at again."""
        node = happened.entry.node
        if self._directory.find(kind=Kind.SLOT, node=node, live=None):
            self.desk.post(partial(self.roster.describe_node, node))

    def _on_state(self, message: Message) -> None:
        if not message.payload:
            return
        try:
            address = Address.parse(message.topic)
            state = parse(State, message.payload)
            report = SlotReport.model_validate(state.data) if state.data is not None else None
        except (CallboardError, ValueError):
            return  # the historian counts what does not parse
        if address.name is not None and report is not None:
            self._note_report((address.node, address.name), report)

    def _note_report(self, key: SlotKey, report: SlotReport) -> None:
        slot = self.core.book.slots.get(key)
        if slot is not None and slot.report is not None and slot.report.state == report.state:
            slot.report = report  # nothing follows from it
        else:
            self.desk.post(partial(self.roster.note_report, key, report))

    def _node_tags(self, node: str) -> Iterable[str]:
        found = self._directory.node(node)
        return found.card.tags if found is not None and isinstance(found.card, NodeCard) else ()

    def _call(self, key: SlotKey, command: SlotCommand) -> Future[JsonValue]:
        address = Address(self._link.site, key[0], Leaf.COMMAND, Kind.SLOT, key[1])
        return self._link.call(address, as_args(command), timeout=_ANSWER)

    # -- what is asked (from any thread) ----------------------------------------------------------------------

    def take(self, call: AttemptCall, node: str) -> Future[AttemptReply]:
        """Take what a slot of ``node`` says of an attempt; see :meth:`Attempts.take`."""
        return self.desk.ask(lambda: self._attempts.take(call, node))

    def submit(self, request: JobRequest, owner: str) -> str:
        """Make a job; return its id.

        Raises:
            BadRequest: the request or its settings are wrong.
            NotFound: there is no such job type.
            Unavailable: it cannot be stored now.
        """
        specs = self.job_types.get(request.type).tasks(request)
        return str(self.desk.do(lambda: self.control.submit(request, specs, owner)).id)

    def act(self, job_ids: Iterable[str | int], action: JobAction) -> int:
        """Do something with jobs, with all or none; return how many.

        Raises:
            NotFound: one is not there.
            Conflict: it cannot be done to one of them.
            BadRequest: the frames are none of the job's.
        """

        def work() -> int:
            jobs = self._jobs(job_ids)
            self.control.act(jobs, action)
            return len(jobs)

        return self.desk.do(work)

    def change(self, job_ids: Iterable[str | int], values: Mapping[str, Any]) -> int:
        """Change jobs, all or none; return how many. See :meth:`Control.change`."""

        def work() -> int:
            jobs = self._jobs(job_ids)
            self.control.change(jobs, values)
            return len(jobs)

        return self.desk.do(work)

    def _jobs(self, job_ids: Iterable[str | int]) -> list[Job]:
        return list({job.id: job for job in map(self.core.book.job, job_ids)}.values())

    def wish(self, keys: Sequence[SlotKey], wanted: Wish, note: str = "") -> int:
        """Enable (``on``), drain or disable (``off``) slots; return how many changed.

        Raises:
            NotFound: one is not there.
        """
        return self.desk.do(
            lambda: self.roster.wish([self.core.book.slot(key) for key in keys], wanted, note)
        )

    def command(self, keys: Sequence[SlotKey], do: Literal["pause", "resume", "sleep", "wake"]) -> int:
        """Have slots pause, go on, sleep or wake; return how many were told.

        Raises:
            NotFound: one is not there.
            BadRequest: a slot's node is not there; none was told.
        """

        def work() -> int:
            slots = [self.core.book.slot(key) for key in keys]
            self.roster.send(slots, do)
            return len(slots)

        return self.desk.do(work)

    def forget(self, key: SlotKey) -> None:
        """Forget a slot that is not there.

        Raises:
            NotFound: there is no such slot.
            Conflict: it is there.
        """

        def work() -> None:
            if self.core.book.slot(key).live:
                raise Conflict(f"slot {key[0]}/{key[1]} is there and would come back at once; stop its node")
            self.roster.remove(key)

        self.desk.do(work)

    def do(self, work: Callable[[], _T]) -> _T:
        """Have anything done on the farm's thread, and wait until it is written."""
        return self.desk.do(work)

    @contextmanager
    def reading(self) -> Iterator[Book]:
        """Hold everything still while it is read; be quick."""
        with self.desk.lock:
            yield self.core.book

    def why(self, job_id: str | int, step: str | None = None) -> list[tuple[str, list[Reason]]]:
        """Return why a job's steps are not running, by step.

        Raises:
            NotFound: there is no such job or step.
        """
        with self.reading() as book:
            job = book.job(job_id)
            steps = job.steps if step is None else [job.step(step)]
            open_steps = [one for one in steps if not one.done] or steps[:1]
            return [(one.spec.name, self.dispatch.why(one)) for one in open_steps[:20]]

    @contextmanager
    def stored(self) -> Iterator[Connection]:
        """A connection for reading what is not kept in memory.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        try:
            with self.database.read() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StoreUnavailable("the database does not answer; try again in a while") from error


@contextmanager
def _tolerant(what: str, row: Any) -> Iterator[None]:
    """One thing that cannot be read must keep neither the others nor the board away."""
    try:
        yield
    except (ValueError, KeyError, IndexError, TypeError, CallboardError) as error:
        _log.error("%s %s cannot be restored, it is left out: %s", what, tuple(row)[:3], error)
