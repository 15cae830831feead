"""The Overview page: health, counts, and the table of nodes with its filter, order and pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from shlex import quote

from callboard_console.web.snapshot import NodeView, Snapshot, Thing
from callboard_console.web.views import parts, words
from callboard_console.web.views.health import health
from callboard_console.web.views.markup import EMPTY, Child, Markup, join, node_link, tag
from callboard_core.cards import SensorCard
from callboard_core.messages import StatusName
from callboard_core.topics import BOARD, Kind

__all__ = [
    "PAGE_SIZE",
    "Chosen",
    "Joining",
    "Only",
    "Order",
    "choose",
    "headline",
    "is_empty",
    "summary",
    "table",
    "turn",
]

#: Rows on one page of the table.
PAGE_SIZE = 50
#: Sparklines in a row.
_TRACES = 2
# Whose trace says most about a machine; others follow by name.
_TELLING = ("cpu", "temperature", "memory", "load")


class Only(StrEnum):
    """Which nodes the table shows."""

    ALL = "All"
    HERE = "Here"
    TROUBLE = "In trouble"
    AWAY = "Away"


class Order(StrEnum):
    """What the table is sorted by."""

    NAME = "name"
    STATUS = "status"
    SEEN = "seen"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What of the table the operator wants to see. ``page`` counts from 0."""

    query: str = ""
    only: Only = Only.ALL
    order: Order = Order.NAME
    backwards: bool = False
    page: int = 0


@dataclass(frozen=True, slots=True)
class Joining:
    """How a machine joins: the board's state folder if it is not the usual one, and whether only from here.

    Attributes:
        state: the state folder; None for the usual one.
        local_only: the board listens on its own machine only.
        lan: other machines reach it encrypted, with a join code.
    """

    state: Path | None = None
    local_only: bool = True
    lan: bool = False


def turn(chosen: Chosen, act: str) -> Chosen:
    """Return the choice after a click in the table: ``sort:COLUMN`` or ``page:N``; others change nothing."""
    verb, _, what = act.partition(":")
    if verb == "sort" and what in set(Order):
        backwards = chosen.order == what and not chosen.backwards
        return Chosen(chosen.query, chosen.only, Order(what), backwards)
    if verb == "turn" and what.isdecimal():
        return Chosen(chosen.query, chosen.only, chosen.order, chosen.backwards, int(what))
    return chosen


_PASSES: dict[Only, Callable[[NodeView], bool]] = {
    Only.ALL: lambda _node: True,
    Only.HERE: lambda node: node.live,
    Only.TROUBLE: lambda node: node.status is StatusName.LOST or bool(node.alarms),
    Only.AWAY: lambda node: not node.live,
}

_WEIGHT: dict[StatusName | None, int] = {
    StatusName.LOST: 0,
    StatusName.INIT: 1,
    StatusName.READY: 2,
    StatusName.SLEEPING: 3,
    StatusName.DISCONNECTED: 4,
    None: 5,
}


def _key(order: Order) -> Callable[[NodeView], tuple[float, str]]:
    match order:
        case Order.STATUS:
            return lambda node: (_WEIGHT[node.status], node.title.lower())
        case Order.SEEN:
            return lambda node: (
                0.0 if node.live else -(node.last_seen or node.since or 0.0),
                node.title.lower(),
            )
        case Order.NAME:
            return lambda node: (0, node.title.lower())


@lru_cache(maxsize=32)
def choose(
    snapshot: Snapshot,
    query: str = "",
    only: Only = Only.ALL,
    order: Order = Order.NAME,
    backwards: bool = False,
) -> tuple[NodeView, ...]:
    """Return the nodes that pass the filter, in order. Every word of the query must be found.

    Kept for the sessions that ask the same of one snapshot.
    """
    wanted = query.lower().split()
    passes = _PASSES[only]
    found = [
        node
        for node in snapshot.nodes.values()
        if passes(node) and all(word in node.haystack for word in wanted)
    ]
    return tuple(sorted(found, key=_key(order), reverse=backwards))


def headline(node: NodeView) -> list[Thing]:
    """Return the sensors whose traces a row shows."""
    numbers = [
        thing
        for thing in node.things.values()
        if isinstance(thing.card, SensorCard) and thing.card.type == "number"
    ]

    def rank(thing: Thing) -> tuple[int, str]:
        telling = (place for place, word in enumerate(_TELLING) if thing.name.startswith(word))
        return next(telling, len(_TELLING)), thing.name

    return sorted(numbers, key=rank)[:_TRACES]


def is_empty(snapshot: Snapshot) -> bool:
    """Tell whether there is nobody but the board itself."""
    return snapshot.complete and snapshot.connected and not snapshot.guests


def summary(snapshot: Snapshot) -> Markup:
    """Return how the board is, in a word and in numbers."""
    return join(_head(snapshot), EMPTY if is_empty(snapshot) else _tiles(snapshot))


def table(snapshot: Snapshot, chosen: Chosen, joining: Joining | None = None) -> Markup:
    """Return the table of nodes, or how to add the first one."""
    return _welcome(joining or Joining()) if is_empty(snapshot) else _table(snapshot, chosen)


def _head(snapshot: Snapshot) -> Markup:
    verdict = health(snapshot)
    return tag(
        "header",
        tag("h1", verdict.word, class_=f"cb-word cb-{verdict.tone}"),
        tag("p", verdict.reason),
        class_="cb-head",
        data_key="head",
    )


def _tile(key: str, number: str, caption: str, note: str = "", tone: str = "") -> Markup:
    return tag(
        "div",
        tag("b", number),
        tag("span", caption, tag("small", note) if note else None),
        class_=f"cb-tile cb-{tone}" if tone else "cb-tile",
        data_key=key,
    )


def _tiles(snapshot: Snapshot) -> Markup:
    totals, offers = snapshot.totals, snapshot.totals.offers
    off_range = totals.warnings + totals.errors
    lost = f"{totals.lost} lost" if totals.lost else ""
    alarm = "bad" if totals.errors else "warn" if off_range else ""
    in_error = f"{totals.errors} in error" if totals.errors else ""
    return tag(
        "div",
        _tile("nodes", f"{totals.here}/{totals.nodes}", "nodes here", lost, "bad" if lost else ""),
        _tile("sensors", words.number(offers.get(Kind.SENSOR, 0)), "sensors"),
        _tile("controls", words.number(offers.get(Kind.CONTROL, 0)), "controls"),
        _tile("actions", words.number(offers.get(Kind.ACTION, 0)), "actions"),
        _tile("alarms", words.number(off_range), "readings out of order", in_error, alarm),
        _tile(
            "rate",
            f"{snapshot.rate:,.1f}",
            "messages a second",
        ),
        class_="cb-tiles",
        data_key="tiles",
    )


def _welcome(joining: Joining) -> Markup:
    state = f" --state {quote(str(joining.state))}" if joining.state is not None else ""
    credentials = (joining.state or Path("STATE")) / "credentials" / "node.password"
    elsewhere: tuple[Child, ...] = (
        join("On another machine: start the board with ", tag("code", "callboard up --lan"), " first."),
    )
    if joining.lan:
        page = tag("a", "Add node", href="add-node", data_act="page:add_node")
        elsewhere = (join("On another machine, or on a new card for a Raspberry Pi: ", page),)
    elif not joining.local_only:
        copied = join("On another machine: copy ", tag("code", str(credentials)), " there, then run")
        elsewhere = (copied, parts.copyable("callboard node --password-file node.password"))
    return parts.empty(
        "The board is up. Nobody has signed in yet.",
        "Add the first node. On this machine:",
        parts.copyable(f"callboard node{state}"),
        "It finds the board and appears here by itself.",
        *elsewhere,
    )


def _column(order: Order, caption: str, chosen: Chosen) -> Markup:
    sorted_by = chosen.order is order
    arrow = ("↑" if chosen.backwards else "↓") if sorted_by else ""
    direction = ("descending" if chosen.backwards else "ascending") if sorted_by else "none"
    label = tag("a", caption, tag("i", arrow), href="#", data_act=f"sort:{order}")
    return tag("th", label, aria_sort=direction)


def _table(snapshot: Snapshot, chosen: Chosen) -> Markup:
    found = choose(snapshot, chosen.query, chosen.only, chosen.order, chosen.backwards)
    pages = max(1, -(-len(found) // PAGE_SIZE))
    page = min(chosen.page, pages - 1)
    shown = found[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]
    if not shown:
        return parts.empty("No node passes the filter.", "Clear the search, or show all nodes.")
    head = tag(
        "tr",
        _column(Order.STATUS, "Status", chosen),
        _column(Order.NAME, "Node", chosen),
        tag("th", "Readings", colspan=_TRACES, class_="cb-traces"),
        tag("th", "Offers", class_="cb-offers"),
        tag("th", "For", class_="cb-for"),
        _column(Order.SEEN, "Last seen", chosen),
    )
    body = (row(node, snapshot.t) for node in shown)
    drawn = tag("table", tag("thead", head), tag("tbody", *body), class_="cb-table cb-nodes")
    return tag("section", drawn, _pager(page, pages, found), data_key="table")


def row(node: NodeView, now: float) -> Markup:
    """Return one node's row."""
    tags = [tag("em", each) for each in node.tags]
    identity = tag("small", node.id if node.title != node.id else None, *tags)
    traces = [_trace(thing) for thing in headline(node)]
    traces += [tag("td", class_="cb-trace")] * (_TRACES - len(traces))
    lasted = words.duration(now - node.since) if node.since is not None else words.UNKNOWN
    return tag(
        "tr",
        tag("td", parts.status(node.status)),
        tag("td", node_link(node.id, node.title, class_="cb-name"), identity),
        *traces,
        tag("td", _offers(node), class_="cb-offers"),
        tag("td", lasted, class_="cb-for"),
        tag("td", _seen(node, now), class_="cb-seen"),
        data_key=node.id,
        data_node=node.id,
        data_act=f"node:{node.id}",
        class_="" if node.live else "cb-gone",
    )


def _seen(node: NodeView, now: float) -> str:
    """Who is here is seen at this moment: the broker would say if it were not so."""
    return "now" if node.live else words.ago(node.last_seen or node.since, now)


def _trace(thing: Thing) -> Markup:
    tone = parts.level_tone(thing.level)
    shown = (
        "error"
        if thing.state and thing.state.error
        else words.value(thing.state.v if thing.state else None, thing.unit)
    )
    return tag(
        "td",
        tag("span", thing.title),
        tag("b", shown, class_=f"cb-{tone}" if tone != "ok" else None),
        parts.sparkline(thing.spark, tone="accent" if tone == "ok" else tone),
        class_="cb-trace",
    )


def _offers(node: NodeView) -> str:
    said = [words.count(many, kind.value) for kind, many in node.offers.items()]
    return " · ".join(said) or words.UNKNOWN


def _pager(page: int, pages: int, found: Sequence[NodeView]) -> Markup:
    guests = sum(node.id != BOARD for node in found)
    total = words.count(guests, "node") + (" and the board" if guests < len(found) else "")
    if pages == 1:
        return tag("footer", total, class_="cb-pager")
    before = tag("a", "← Previous", href="#", data_act=f"turn:{page - 1}") if page else ""
    after = tag("a", "Next →", href="#", data_act=f"turn:{page + 1}") if page + 1 < pages else ""
    return tag("footer", before, f"Page {page + 1} of {pages} · {total}", after, class_="cb-pager")
