"""What every session of the console reads: immutable snapshots of the board as it is known right now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from callboard_core.calls.sessions import Session
from callboard_core.calls.survey import Service
from callboard_core.cards import AnyCard, NodeCard
from callboard_core.messages import Level, Severity, State, StatusName
from callboard_core.topics import BOARD, Kind
from callboard_core.view import ALIVE

__all__ = [
    "EventLine",
    "NodeView",
    "Refusal",
    "Retained",
    "Snapshot",
    "Thing",
    "ThingKey",
    "Topics",
    "Totals",
]

ThingKey = tuple[Kind, str]


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing of a node: its card, its last state and a short trace of its numbers."""

    kind: Kind
    name: str
    card: AnyCard | None = None
    state: State | None = None
    received: float | None = None
    spark: tuple[float, ...] = ()

    @property
    def title(self) -> str:
        """What people read: the card's label, or the name spelled like one."""
        label = self.card.label if self.card is not None else None
        return label or self.name.replace("-", " ").capitalize()

    @property
    def unit(self) -> str | None:
        """The unit its card declares."""
        return getattr(self.card, "unit", None)

    @property
    def level(self) -> Level:
        """How the last state stands; a failing handler is an error."""
        if self.state is None:
            return Level.NORMAL
        return Level.ERROR if self.state.error is not None else self.state.level


@dataclass(frozen=True, eq=False)
class NodeView:
    """One node. ``since`` and ``last_seen`` are Unix seconds on this machine's clock, ``skew`` seconds."""

    id: str
    card: NodeCard | None = None
    status: StatusName | None = None
    epoch: int | None = None
    since: float | None = None
    last_seen: float | None = None
    skew: float | None = None
    things: Mapping[ThingKey, Thing] = field(default_factory=lambda: MappingProxyType({}))

    @cached_property
    def haystack(self) -> str:
        """What a search looks through, in lower case."""
        host = self.card.host if self.card is not None else None
        words = [self.id, self.title, self.status or "", *self.tags]
        words += [host.hostname, host.model or "", *host.addresses] if host is not None else []
        return " ".join(words).lower()

    @cached_property
    def offers(self) -> Mapping[Kind, int]:
        """How many things of each kind are announced."""
        counted = Counter(kind for (kind, _), thing in self.things.items() if thing.card is not None)
        return {kind: counted[kind] for kind in Kind if counted[kind]}

    @cached_property
    def alarms(self) -> tuple[Thing, ...]:
        """The things that are not in order, errors first; a node that is away raises none."""
        if not self.live:
            return ()
        found = [thing for thing in self.things.values() if thing.level is not Level.NORMAL]
        return tuple(sorted(found, key=lambda thing: (thing.level is not Level.ERROR, thing.title)))

    @property
    def title(self) -> str:
        """What people read."""
        return self.card.title if self.card is not None else self.id

    @property
    def live(self) -> bool:
        """True while the node is there."""
        return self.status in ALIVE

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags on the node's card."""
        return tuple(self.card.tags) if self.card is not None else ()

    def of_kind(self, kind: Kind) -> list[Thing]:
        """The node's announced things of one kind, by title."""
        found = [thing for (its_kind, _), thing in self.things.items() if its_kind is kind and thing.card]
        return sorted(found, key=lambda thing: thing.title.lower())


@dataclass(frozen=True, slots=True)
class EventLine:
    """One line of the event log; ``t`` is when it arrived here."""

    t: float
    node: str
    name: str
    severity: Severity
    message: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """One message that was refused."""

    t: float
    topic: str
    node: str | None
    reason: str
    size: int


@dataclass(frozen=True, slots=True)
class Retained:
    """One retained message as it hangs on the board; ``received`` is when it arrived here."""

    payload: bytes
    received: float


@dataclass(frozen=True, eq=False)
class Topics:
    """Every retained message: the topics in order, and what each one holds."""

    names: tuple[str, ...] = ()
    held: Mapping[str, Retained] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts over all nodes but the board itself; what is offered and out of order is counted for it too."""

    nodes: int
    here: int
    lost: int
    offers: Mapping[Kind, int]
    warnings: int
    errors: int


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The whole board at one moment.

    ``connected`` says whether the console hears the broker; ``changed`` is since when. ``complete`` is false
    until everything that was retained when the console connected has arrived. ``rate`` is messages/s.
    ``services`` is who offers what, ``sessions`` who calls whom.
    """

    t: float
    site: str
    connected: bool = False
    changed: float = 0.0
    complete: bool = False
    rate: float = 0.0
    nodes: Mapping[str, NodeView] = field(default_factory=lambda: MappingProxyType({}))
    events: tuple[EventLine, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    services: tuple[Service, ...] = ()
    sessions: tuple[Session, ...] = ()

    @cached_property
    def guests(self) -> tuple[NodeView, ...]:
        """Every node but the board itself."""
        return tuple(node for node in self.nodes.values() if node.id != BOARD)

    @cached_property
    def totals(self) -> Totals:
        """Counts for the tiles, made once for all sessions."""
        nodes = self.nodes.values()
        offers: Counter[Kind] = Counter()
        for node in nodes:
            offers.update(node.offers)
        alarms = [thing.level for node in nodes for thing in node.alarms]
        return Totals(
            nodes=len(self.guests),
            here=sum(node.live for node in self.guests),
            lost=sum(node.status is StatusName.LOST for node in self.guests),
            offers=offers,
            warnings=alarms.count(Level.WARNING),
            errors=alarms.count(Level.ERROR),
        )
