"""What waits, what is free, and what keeps the two apart: the rules that ``schedule`` follows and ``why`` tells. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from callboard_core.farm.messages import serves
from callboard_core.settings import FarmSchedule

__all__ = [
    "Offer",
    "OfferKey",
    "Queue",
    "QueueKey",
    "Usage",
    "busy",
    "fits",
    "full",
    "only_hosts",
    "refuses_node",
    "waits",
]

#: A job's id and the number of its step.
QueueKey = tuple[str, int]
#: A node's id and the name of its slot.
OfferKey = tuple[str, str]


@dataclass(slots=True, eq=False, kw_only=True)
class Queue:
    """What waits of one step of a job. The board keeps it and changes it in place; scheduling only reads it.

    Attributes:
        key: job and step.
        owner: whose it is; owners of equal rank share what there is.
        tier: 0 goes before 1, whatever the priorities.
        priority: within a tier, higher goes first.
        order: within owner and priority, smaller goes first: when the job came.
        engine: that a slot must have.
        tags: that slot or node must have, all of them.
        task_type: for the blocklist and for people.
        limits: names of the limits that each of its tasks counts towards.
        max_hosts: nodes that may work on the job at a time; 0 for any number.
        ready: frames that wait, or pieces of work.
        chunk: frames of a task; 0 to fit the measured time.
        frame_seconds: measured time of a frame; None while unknown.
        startup_seconds: measured time from the start of a process to its first frame; None while unknown.
        slot_seconds: the same as ``frame_seconds``, of each slot that has made a frame of it.
        held: why it is not in line, in words: "the job is paused"; empty when it is.
        not_before: time before which it gets nothing, after a failure.
        waits_for: what ``not_before`` waits for, in words.
        hosts: node → how many slots work on the job there; shared by the job's steps.
        blocked: nodes that get none of it.
        warm: nodes that have the job's files already; shared by the job's steps.
    """

    key: QueueKey
    owner: str = ""
    tier: int = 0
    priority: int = 50
    order: float = 0
    engine: str = ""
    tags: frozenset[str] = frozenset()
    task_type: str = "render"
    limits: tuple[str, ...] = ()
    max_hosts: int = 0
    ready: int = 0
    chunk: int = 0
    frame_seconds: float | None = None
    startup_seconds: float | None = None
    slot_seconds: dict[OfferKey, float] = field(default_factory=dict)
    held: str = ""
    not_before: float = 0.0
    waits_for: str = ""
    hosts: dict[str, int] = field(default_factory=dict)
    blocked: set[str] = field(default_factory=set)
    warm: set[str] = field(default_factory=set)


@dataclass(slots=True, eq=False, kw_only=True)
class Offer:
    """A slot, as far as scheduling cares.

    Attributes:
        key: node and slot.
        engine: what it runs.
        tags: of the slot and of its node.
        room: 2 idle; 1 busy, but with nothing for later; 0 neither.
        speed: relative; the fastest of those that are free goes first.
        eta: seconds until what it works on ends; None while unknown.
        at: the job it has worked on last, whose files and process are warm.
        closed: why it takes nothing, in one word: "disabled", "lost"; empty when it does.
    """

    key: OfferKey
    engine: str = ""
    tags: frozenset[str] = frozenset()
    room: int = 2
    speed: float = 1.0
    eta: float | None = None
    at: str | None = None
    closed: str = ""

    @property
    def node(self) -> str:
        """The node it is on."""
        return self.key[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What is in use and what may be.

    Attributes:
        now: the time, by the clock of ``Queue.not_before``.
        limits: name → how many tasks that name it may run; a name that is missing has none.
        running: name → how many of them run or are assigned.
        owners: owner → slots that work for him or her, with what is assigned ahead.
        shares: owner → weight above 0; 1 when missing. Who has 2 gets twice as much.
        schedule: chunk sizes, and when to assign ahead.
    """

    now: float = 0.0
    limits: Mapping[str, int] = field(default_factory=dict)
    running: Mapping[str, int] = field(default_factory=dict)
    owners: Mapping[str, int] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    schedule: FarmSchedule = field(default_factory=FarmSchedule)


def fits(engine: str, tags: frozenset[str], offer: Offer) -> str | None:
    """Return ``engine`` or ``tags`` when a slot can never take this kind of work."""
    if not serves(offer.engine, engine):
        return "engine"
    return None if tags <= offer.tags else "tags"


def full(names: Sequence[str], running: Mapping[str, int], limits: Mapping[str, int]) -> str | None:
    """Return the first limit that allows no further task."""
    for name in names:
        if name in limits and running.get(name, 0) >= limits[name]:
            return name
    return None


def waits(queue: Queue, usage: Usage) -> bool:
    """Tell whether a queue has to let time pass first."""
    return queue.not_before > usage.now


def only_hosts(queue: Queue, hosts: Mapping[str, int]) -> Mapping[str, int] | None:
    """Return the nodes a queue is bound to because no more may work on its job; None when any may."""
    return hosts if queue.max_hosts and len(hosts) >= queue.max_hosts else None


def refuses_node(queue: Queue, node: str, hosts: Mapping[str, int]) -> str | None:
    """Return ``blocked`` or ``hosts`` when a queue must not go to a node, given the hosts that work on its job."""
    if node in queue.blocked:
        return "blocked"
    only = only_hosts(queue, hosts)
    return "hosts" if only is not None and node not in only else None


def busy(offer: Offer, usage: Usage, *, ahead: bool) -> bool:
    """Tell whether a slot has no room: for work at once, or for work ``ahead`` of the end of what it does.

    Ahead only when the end is near: what is assigned early is kept from slots that are free sooner.
    """
    if not ahead:
        return offer.room < 2  # noqa: PLR2004 - one to work on, one for later
    return offer.room != 1 or offer.eta is None or not 0 < usage.schedule.prefetch_seconds >= offer.eta
