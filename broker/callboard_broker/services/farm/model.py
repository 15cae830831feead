"""What the farm holds in memory: jobs with their steps, attempts, slots and places. No I/O, no decisions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from callboard_broker.services.farm.jobtypes import TaskSpec
from callboard_broker.services.farm.rules import Offer, Queue
from callboard_broker.services.farm.strip import Strip
from callboard_core.cards import SlotCard
from callboard_core.errors import NotFound
from callboard_core.farm.frames import format_frames
from callboard_core.farm.messages import Input, SlotReport
from callboard_core.farm.requests import JobRequest
from callboard_core.farm.states import FrameState, JobState, TaskState

__all__ = ["OVER", "Attempt", "Job", "Place", "Slot", "SlotKey", "Step", "Ticket"]

#: node, slot
SlotKey = tuple[str, str]

#: Fields of a job that people may change, and that are kept as one JSON object.
_TICKET = (
    "name",
    "project",
    "sequence",
    "shot",
    "owner",
    "type",
    "tier",
    "priority",
    "tags",
    "note",
    "created",
)

#: Nothing more happens to a job in one of these states by itself.
OVER = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})


@dataclass(slots=True)
class Ticket:
    """How a job is called, whose it is and how much it matters."""

    name: str
    type: str
    owner: str = ""
    project: int | None = None
    sequence: int | None = None
    shot: int | None = None
    tier: int = 1
    priority: int = 50
    tags: list[str] = field(default_factory=list)
    note: str = ""
    created: float = 0.0


@dataclass(slots=True, eq=False)
class Attempt:
    """One assignment of a task to a slot, while it lives.

    Attributes:
        indexes: its frames, as places in the step's strip.
        seq: the last event the board has.
        expires: monotonic seconds after which it is void.
        frame: index of the frame it works on.
        done: how many of its frames are done.
        parts: parts of its log that are stored, and their size before compression.
    """

    id: str
    step: Step
    task: int
    slot: SlotKey
    indexes: list[int]
    made: float
    expires: float
    seq: int = 0
    started: float | None = None
    ended: float | None = None
    state: TaskState = TaskState.ASSIGNED
    frame: int | None = None
    frame_began: float = 0.0
    done: int = 0
    progress: float = 0.0
    eta: float | None = None
    cancelled: bool = False
    fault: str | None = None
    code: str | None = None
    message: str | None = None
    parts: int = 0
    logged: int = 0

    @property
    def job(self) -> Job:
        """The job it is for."""
        return self.step.job

    @property
    def task_id(self) -> str:
        """The task's name on the wire."""
        return f"{self.step.job.id}-{self.task}"

    @property
    def frames(self) -> str:
        """Its frames, as people write them."""
        numbers = self.step.strip.numbers
        return format_frames(numbers[index] for index in self.indexes)


@dataclass(slots=True, eq=False)
class Step:
    """Part of a job: the frames of one kind, or one piece of single work (which is held as one frame, 0).

    Attributes:
        frame_seconds: smoothed time of a frame; None while none is done.
        startup_seconds: the same, from an attempt's assignment to its first frame.
        in_a_row: failures by fault since a frame was last done.
        feeds: another step works with what it makes.
        made: what it has made, by frame, as far as it is known here; all of it once ``made_known``.
    """

    job: Job
    number: int
    spec: TaskSpec
    strip: Strip
    queue: Queue
    attempts: dict[str, Attempt] = field(default_factory=dict)
    frame_seconds: float | None = None
    startup_seconds: float | None = None
    in_a_row: dict[str, int] = field(default_factory=dict)
    failure: str = ""
    feeds: bool = False
    made: dict[int, Input] = field(default_factory=dict)
    made_known: bool = False

    @property
    def single(self) -> bool:
        """True for a piece of work without frames."""
        return self.spec.work == "single"

    @property
    def done(self) -> bool:
        """True when every frame is done."""
        return self.strip.count(FrameState.DONE) == len(self.strip)

    @property
    def state(self) -> TaskState:
        """How the step is as a whole."""
        strip = self.strip
        if self.done:
            return TaskState.DONE
        if strip.count(FrameState.RENDERING):
            return TaskState.RUNNING
        if strip.count(FrameState.ASSIGNED):
            return TaskState.ASSIGNED
        if strip.count(FrameState.WAITING):
            return TaskState.READY if self.free else TaskState.WAITING
        return TaskState.FAILED if strip.count(FrameState.FAILED) else TaskState.CANCELLED

    @property
    def needs(self) -> list[str]:
        """The steps that must be done before it."""
        return [*self.spec.depends, *self.spec.inputs_from]

    @property
    def free(self) -> bool:
        """True when all it needs is done."""
        return all(self.job.by_name[name].done for name in self.needs)

    def number_of(self, index: int) -> int:
        """Return the number of a frame."""
        return int(self.strip.numbers[index])


@dataclass(slots=True, eq=False)
class Job:
    """One job.

    Attributes:
        order: position among jobs of equal priority; smaller is sooner.
        request: what was submitted.
        asked: the same with the steps it was made into, as JSON; never changed.
        hosts: how many attempts run for it on each node.
        blocked: faults of each node, by task type and node; and who is blocked.
        reason: why it is as it is, in words.
        tasks: how many tasks were made of it so far.
    """

    id: int
    ticket: Ticket
    state: JobState
    request: JobRequest
    asked: str
    order: float = 0.0
    steps: list[Step] = field(default_factory=list)
    by_name: dict[str, Step] = field(default_factory=dict)
    hosts: dict[str, int] = field(default_factory=dict)
    warm: set[str] = field(default_factory=set)
    blocked: dict[str, set[str]] = field(default_factory=dict)
    faults: dict[str, dict[str, int]] = field(default_factory=dict)
    started: float | None = None
    ended: float | None = None
    reason: str = ""
    tasks: int = 0

    @property
    def over(self) -> bool:
        """True when nothing more will happen to it by itself."""
        return self.state in OVER

    def attempts(self) -> Iterator[Attempt]:
        """Yield what is assigned of it."""
        for step in self.steps:
            yield from step.attempts.values()

    def count(self, state: FrameState) -> int:
        """Return how many of its frames are in a state."""
        return sum(step.strip.count(state) for step in self.steps)

    @property
    def frames(self) -> int:
        """How many frames it has; single work counts as one."""
        return sum(len(step.strip) for step in self.steps)

    def step(self, name: str | None) -> Step:
        """Return a step by name; the first one if none is given.

        Raises:
            NotFound: there is no such step.
        """
        found = self.steps[0] if name is None else self.by_name.get(name)
        if found is None:
            raise NotFound(f"job {self.id} has no step {name!r}; it has {', '.join(self.by_name)}")
        return found

    def row(self) -> dict[str, Any]:
        """Return what is stored of it, but for its frames."""
        return {
            "id": self.id,
            "state": self.state.value,
            "document": json.dumps(self.document(), separators=(",", ":")),
            "spec": self.asked,
        }

    def document(self) -> dict[str, Any]:
        """Return what is stored of it as one object."""
        ticket = self.ticket
        return {
            "ticket": {name: getattr(ticket, name) for name in _TICKET},
            "order": self.order,
            "started": self.started,
            "ended": self.ended,
            "reason": self.reason,
            "tasks": self.tasks,
            "blocked": {kind: sorted(nodes) for kind, nodes in self.blocked.items() if nodes},
            "faults": self.faults,
            "steps": [[step.frame_seconds, step.startup_seconds, step.failure] for step in self.steps],
        }

    def restore(self, document: Mapping[str, Any]) -> None:
        """Take over what was stored; the steps must be there."""
        self.order = document["order"]
        self.started, self.ended = document["started"], document["ended"]
        self.reason, self.tasks = document["reason"], document["tasks"]
        for kind, nodes in document["blocked"].items():
            self.blocked.setdefault(kind, set()).update(nodes)
        self.faults.update(document["faults"])
        for step, (frame, startup, failure) in zip(self.steps, document["steps"], strict=False):
            step.frame_seconds, step.startup_seconds, step.failure = frame, startup, failure


@dataclass(slots=True, eq=False)
class Slot:
    """A slot that has been seen.

    Attributes:
        live: its node is there.
        synced: it has told what it works on since it came (back), so that it may be given work.
        wanted: what a person wants of it: ``on``, ``draining`` or ``off``.
        report: what it last said.
        attempts: what it has: at most one to work on and one for later, in this order.
        generation: counts how often it had to be asked what it works on.
        lost_at: monotonic seconds when its node went; 0 while it is there.
    """

    node: str
    name: str
    card: SlotCard
    offer: Offer
    live: bool = False
    synced: bool = False
    wanted: str = "on"
    note: str = ""
    tags: list[str] = field(default_factory=list)
    report: SlotReport | None = None
    attempts: dict[str, Attempt] = field(default_factory=dict)
    generation: int = 0
    lost_at: float = 0.0
    frames_done: int = 0
    failures: int = 0
    first_seen: float = 0.0
    last_seen: float = 0.0

    @property
    def key(self) -> SlotKey:
        """What tells it from every other."""
        return (self.node, self.name)

    def row(self) -> dict[str, Any]:
        """Return what is stored of it."""
        document = {
            "wanted": self.wanted,
            "note": self.note,
            "tags": self.tags,
            "frames": self.frames_done,
            "failures": self.failures,
            "first_seen": self.first_seen,
            "last_seen": self.last_seen,
            "speed": self.offer.speed,
        }
        return {
            "node": self.node,
            "slot": self.name,
            "card": self.card.model_dump_json(exclude_none=True),
            "document": json.dumps(document, separators=(",", ":")),
        }


@dataclass(slots=True, eq=False)
class Place:
    """A project, a sequence of one, or a shot."""

    id: int
    kind: str
    name: str
    parent: int | None = None
    owner: str = ""
    note: str = ""
    tags: list[str] = field(default_factory=list)
    created: float = 0.0

    def row(self) -> dict[str, Any]:
        """Return what is stored of it."""
        document = {"owner": self.owner, "note": self.note, "tags": self.tags, "created": self.created}
        return {
            "id": self.id,
            "kind": self.kind,
            "parent": self.parent,
            "name": self.name,
            "document": json.dumps(document, separators=(",", ":")),
        }
