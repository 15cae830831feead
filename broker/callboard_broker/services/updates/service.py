"""Sends updates to nodes, the canaries first, and follows what they say until each has ended."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from queue import SimpleQueue
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from callboard_broker.services.registry import NodeView
from callboard_broker.services.updates.plan import BEGUN, Phase, Terms, due, phase_after
from callboard_broker.services.updates.shelf import Shelf
from callboard_broker.store import updates as store
from callboard_broker.store.database import Database
from callboard_broker.store.updates import ManifestRecord, RolloutRecord, UpdateRecord
from callboard_core.errors import (
    BadRequest,
    CallboardError,
    Conflict,
    Expired,
    NotFound,
    Overloaded,
    TimedOut,
    Unavailable,
)
from callboard_core.link import Link, Message
from callboard_core.messages import State, parse, read_args
from callboard_core.steady import Steady
from callboard_core.topics import BOARD, Address, Kind, Leaf
from callboard_core.updates import ENDED, UPDATE, Manifest, Report, Signed, Stage

__all__ = ["Update", "Updates", "Wish"]

_log = logging.getLogger(__name__)

#: Seconds a node has to answer that it takes an update, and between two looks.
_ANSWER, _LOOK = 30.0, 0.5
#: Seconds beyond its time that a node may say nothing before it counts as failed.
_SILENCE = 1800.0
#: What passes by itself: the node gets it when it is there again.
_PASSING = (Unavailable, TimedOut, Overloaded, Expired)
_OPEN = (Phase.RUNNING, Phase.PAUSED)


class Wish(BaseModel):
    """Who is to get what, and how."""

    model_config = ConfigDict(extra="forbid")

    number: int = Field(ge=1, description="of what was published")
    nodes: list[str] = Field(default_factory=list, max_length=10_000)
    tags: list[str] = Field(default_factory=list, max_length=100, description="all nodes with one of these")
    all: bool = Field(default=False, description="all nodes that are not the board's own")
    terms: Terms = Field(default_factory=Terms)


@dataclass
class Update:
    """A rollout, and its nodes by their ids in their order."""

    id: str
    manifest: ManifestRecord
    created: float
    by: str
    terms: Terms
    phase: Phase
    reason: str
    nodes: dict[str, UpdateRecord]
    progress: dict[str, float]

    @property
    def stages(self) -> dict[str, Stage]:
        """How each node stands."""
        return {node: Stage(one.stage) for node, one in self.nodes.items()}

    def record(self) -> RolloutRecord:
        """Return it as it is kept."""
        terms = self.terms.model_dump_json()
        return RolloutRecord(
            self.id, self.manifest.number, self.created, self.by, self.phase, self.reason, terms
        )


class Updates:
    """All rollouts. Safe from any thread.

    Args:
        shelf: what was published.
        database: where rollouts are kept.
        link: the board's own.
        nodes: who is there.
        tell: told of each end, for the audit log: who, node, whether it went well, what.
        clock: Unix seconds.
    """

    def __init__(
        self,
        shelf: Shelf,
        database: Database,
        link: Link,
        nodes: Callable[[], list[NodeView]],
        *,
        tell: Callable[[str, str, bool, str], object] = lambda *_: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.shelf = shelf
        self._database, self._link, self._nodes, self._tell, self._clock = database, link, nodes, tell, clock
        self._lock = threading.RLock()
        self._open: dict[str, Update] = {}
        self._unsaved: dict[str, set[str]] = {}
        self._heard: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="updates", daemon=True)

    # -- life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Go on with what was under way, and listen to nodes."""
        with self._database.read() as connection:
            for record in store.rollouts(connection, states=_OPEN, limit=1000):
                found = self._restored(record, store.updates_of(connection, record.id))
                if found is not None:
                    self._open[found.id] = found
        topic = f"{self._link.site}/+/state/{Kind.ACTION}/{UPDATE}"
        self._link.subscribe(topic, self._hear, qos=1)
        self._thread.start()

    def stop(self) -> None:
        """Send nothing more; the next start goes on."""
        self._stopped = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def _restored(self, record: RolloutRecord, updates: Iterable[UpdateRecord]) -> Update | None:
        try:
            manifest = self.shelf.get(record.number)
        except NotFound:
            return None
        return Update(
            record.id,
            manifest,
            record.created,
            record.by,
            Terms.model_validate_json(record.terms),
            Phase(record.state),
            record.reason,
            {one.node: one for one in updates},
            {},
        )

    # -- asked for ---------------------------------------------------------------------------------------------

    def begin(self, wish: Wish, by: str) -> Update:
        """Send what was published to nodes.

        Raises:
            NotFound: there is no such number, or node.
            BadRequest: nobody is meant.
            Conflict: a node is at another update of this kind.
        """
        manifest = self.shelf.get(wish.number)
        views = {view.id: view for view in self._nodes() if view.id != BOARD}
        chosen = _chosen(wish, views)
        allowed = parse(Manifest, manifest.manifest).nodes
        if allowed and not set(chosen) <= set(allowed):
            raise BadRequest(
                f"number {wish.number} is only for {', '.join(allowed)}; publish one for the others"
            )
        # Who is there comes first, so that a canary is tried, and not only waited for.
        order = sorted(chosen, key=lambda node: (not views[node].live, node))
        with self._lock:
            for update in self._open.values():
                busy = (
                    [node for node in order if Stage(update.nodes[node].stage) not in ENDED]
                    if set(order) & set(update.nodes)
                    else []
                )
                if busy:
                    raise Conflict(
                        f"{busy[0]} is at update {update.id}; wait for its end, or cancel it "
                        f"(`callboard update --cancel {update.id}`)"
                    )
            update = self._made(manifest, order, wish.terms, by)
            self._open[update.id] = update
            self._unsaved[update.id] = set(update.nodes)
            self._flush()
        self._wake.set()
        return update

    def _made(self, manifest: ManifestRecord, order: list[str], terms: Terms, by: str) -> Update:
        name = secrets.token_hex(4)
        nodes = {node: UpdateRecord(name, node, place, Stage.WAITING) for place, node in enumerate(order)}
        return Update(name, manifest, self._clock(), by, terms, Phase.RUNNING, "", nodes, {})

    def steer(self, name: str, action: Literal["pause", "resume", "cancel"]) -> Update:
        """Pause, resume or cancel; nodes that are at it go on to their end.

        Raises:
            NotFound: there is no such rollout.
            Conflict: it has ended.
        """
        with self._lock:
            update = self._open.get(name)
            if update is None:
                self.get(name)
                raise Conflict(f"update {name} has ended")
            match action:
                case "pause":
                    update.phase, update.reason = Phase.PAUSED, "somebody paused it"
                case "resume":
                    bad = sum(stage in {Stage.FAILED, Stage.ROLLED_BACK} for stage in update.stages.values())
                    update.terms = update.terms.model_copy(update={"forgiven": bad})
                    update.phase, update.reason = Phase.RUNNING, ""
                case "cancel":
                    self._cancel(update)
            self._unsaved[name] = set(update.nodes)
            self._flush()
        self._wake.set()
        return update

    def _cancel(self, update: Update) -> None:
        update.phase, update.reason = Phase.CANCELLED, "somebody cancelled it"
        for node, one in update.nodes.items():
            if one.stage == Stage.WAITING:
                update.nodes[node] = replace(one, stage=Stage.CANCELLED, ended=self._clock())

    def get(self, name: str) -> Update:
        """Return a rollout.

        Raises:
            NotFound: there is none.
        """
        with self._lock:
            if name in self._open:
                return self._open[name]
        with self._database.read() as connection:
            record = store.rollout(connection, name)
            found = None if record is None else self._restored(record, store.updates_of(connection, name))
        if found is None:
            raise NotFound(f"there is no update {name!r}; `callboard update` lists them")
        return found

    def listing(self, limit: int = 50) -> list[Update]:
        """Return rollouts, newest first."""
        with self._database.read() as connection:
            names = [one.id for one in store.rollouts(connection, limit=limit)]
        return [self.get(name) for name in names]

    def of_node(
        self, node: str, limit: int = 100
    ) -> list[tuple[UpdateRecord, RolloutRecord, ManifestRecord]]:
        """Return how a node fared, newest first."""
        with self._database.read() as connection:
            return store.of_node(connection, node, limit)

    # -- sending -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        steady = Steady(_log, "updates")
        while not self._stopped:
            with steady:
                self._turn()
            self._wake.wait(_LOOK if self._open else 5.0)
            self._wake.clear()

    def _turn(self) -> None:
        self._take_in()
        online = (
            {view.id for view in self._nodes() if view.live} if self._open and self._link.connected else set()
        )
        with self._lock:
            for update in list(self._open.values()):
                self._give_up_on_silent(update)
                self._settle(update)
                if update.phase is not Phase.RUNNING:
                    continue
                for node in due(update.stages, list(update.nodes), update.terms, online):
                    self._note(update, node, stage=Stage.SENT, started=self._clock(), reason="")
                    self._send(update, node)
            self._flush()

    def _take_in(self) -> None:
        """Do what was heard: not where it was heard, on the link's own thread, because the database may stall."""
        while not self._heard.empty():
            with self._lock:
                self._heard.get()()

    def _later(self, deed: Callable[[], None]) -> None:
        self._heard.put(deed)
        self._wake.set()

    def _send(self, update: Update, node: str) -> None:
        manifest = update.manifest
        signed = Signed(id=f"{update.id}.{node}", manifest=manifest.manifest, signature=manifest.signature)
        address = Address(self._link.site, node, Leaf.COMMAND, Kind.ACTION, UPDATE)
        try:
            future = self._link.call(address, signed.model_dump(), timeout=_ANSWER)
        except CallboardError as error:
            self._refused(update, node, error)
            return
        future.add_done_callback(partial(self._answered, update, node))

    def _answered(self, update: Update, node: str, future: Future[JsonValue]) -> None:
        try:
            found = future.result()
            report = read_args(Report, found if isinstance(found, dict) else {})
        except CallboardError as error:
            self._later(partial(self._refused, update, node, error))
        else:
            self._later(partial(self._accepted, update, node, report))

    def _accepted(self, update: Update, node: str, report: Report) -> None:
        """Take a node's answer; what it said on its state topic since is newer, and may be heard first."""
        if report.stage in ENDED or Stage(update.nodes[node].stage) is Stage.SENT:
            self._take(node, report)

    def _refused(self, update: Update, node: str, error: CallboardError) -> None:
        if Stage(update.nodes[node].stage) is not Stage.SENT:
            return  # it has said more meanwhile
        if isinstance(error, _PASSING):
            self._note(update, node, stage=Stage.WAITING, reason=error.message)
        elif isinstance(error, NotFound):
            reason = (
                "it takes no updates: it was not installed with `callboard node --install`, "
                "or its node.allow does not name them"
            )
            self._end(update, node, Stage.FAILED, reason)
        else:
            self._end(update, node, Stage.FAILED, error.message)

    # -- hearing -----------------------------------------------------------------------------------------------

    def _hear(self, message: Message) -> None:
        if not message.payload:
            return
        try:
            state = parse(State, message.payload)
            report = read_args(Report, state.data or {})
        except CallboardError as error:
            _log.debug("%s: %s", message.topic, error.message)
            return
        node = Address.parse(message.topic).node
        self._later(partial(self._take, node, report))

    def _take(self, node: str, report: Report) -> None:
        name, _, whose = report.id.partition(".")
        update = self._open.get(name)
        if update is None or whose != node or node not in update.nodes:
            return
        if report.stage in ENDED:
            self._end(update, node, report.stage, report.reason, report.running)
        elif Stage(update.nodes[node].stage) not in ENDED:
            if report.progress is not None:
                update.progress[node] = report.progress
            if report.stage is not Stage.WAITING:
                self._note(update, node, stage=report.stage, version=report.running)

    def _end(self, update: Update, node: str, stage: Stage, reason: str, running: str = "") -> None:
        if update.nodes[node].stage == stage:
            return
        self._note(update, node, stage=stage, reason=reason, version=running, ended=self._clock())
        about = f"{update.manifest.kind} {update.manifest.number} {update.manifest.version}".strip()
        self._tell(
            update.by, node, stage is Stage.HEALTHY, f"{about} is {stage}{': ' if reason else ''}{reason}"
        )
        self._settle(update)

    def _give_up_on_silent(self, update: Update) -> None:
        limit = _SILENCE + parse(Manifest, update.manifest.manifest).within
        for node, one in update.nodes.items():
            if Stage(one.stage) in BEGUN and self._clock() - (one.started or update.created) > limit:
                self._end(update, node, Stage.FAILED, f"it has not come to an end within {limit:g} s")

    def _settle(self, update: Update) -> None:
        phase, reason = phase_after(update.phase, update.stages, update.terms)
        if (phase, reason or update.reason) != (update.phase, update.reason):
            update.phase, update.reason = phase, reason or update.reason
            self._unsaved.setdefault(update.id, set())
        if phase not in _OPEN and not any(stage in BEGUN for stage in update.stages.values()):
            self._flush()
            self._open.pop(update.id, None)

    def _note(self, update: Update, node: str, **changes: object) -> None:
        before = update.nodes[node]
        after = replace(before, **changes)  # type: ignore[arg-type]  # the names are the record's own
        if after != before:
            update.nodes[node] = after
            self._unsaved.setdefault(update.id, set()).add(node)

    def _flush(self) -> None:
        """Write what has changed; what cannot be written waits for the next time."""
        if not self._unsaved:
            return
        with self._database.write() as connection:
            for name, changed in self._unsaved.items():
                update = self._open[name]
                nodes = update.nodes
                store.save(connection, update.record(), [nodes[node] for node in nodes if node in changed])
        self._unsaved.clear()


def _is_at(update: Update, node: str) -> bool:
    one = update.nodes.get(node)
    return one is not None and Stage(one.stage) not in ENDED


def _chosen(wish: Wish, views: dict[str, NodeView]) -> list[str]:
    missing = [node for node in wish.nodes if node not in views]
    if missing:
        raise NotFound(f"there is no node {missing[0]!r}; `callboard ls nodes` shows all")
    tagged = {view.id for view in views.values() if view.card and set(view.card.tags) & set(wish.tags)}
    chosen = set(wish.nodes) | tagged | (set(views) if wish.all else set())
    if not chosen:
        raise BadRequest("nobody is meant: name nodes, a tag that nodes have (--tag), or all of them (--all)")
    return sorted(chosen)
