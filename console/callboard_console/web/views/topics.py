"""The Topics page: the tree of retained messages, one payload in full, and what an operator may publish."""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, tzinfo
from functools import lru_cache

from pydantic import JsonValue

from callboard_console.web.snapshot import Retained, Snapshot, Thing, Topics
from callboard_console.web.views import parts, schema, words
from callboard_console.web.views.markup import EMPTY, Markup, join, tag
from callboard_core.cards import ActionCard, ControlCard
from callboard_core.errors import BadRequest, CallboardError
from callboard_core.topics import Address, Leaf

__all__ = [
    "Branch",
    "Order",
    "branches",
    "example",
    "order",
    "payload",
    "search",
    "suggestion",
    "toggle",
    "tree",
]

#: Lines of the tree that are drawn; a search narrows it down.
SHOWN = 400
#: Longest excerpt of a payload in the tree, in bytes.
_EXCERPT = 120
#: Longest payload that is shown in full, in bytes.
_FULL = 200_000

# '0' follows '/': everything under a branch sorts before it.
_AFTER = chr(ord("/") + 1)


@dataclass(frozen=True, slots=True)
class Branch:
    """One line of the tree. ``below`` counts the topics under it, without itself."""

    topic: str
    name: str
    depth: int
    leaf: bool
    below: int
    opened: bool = False


def branches(names: tuple[str, ...], opened: frozenset[str], *, limit: int = SHOWN) -> list[Branch]:
    """Return the visible lines of the tree: the first level, and everything below what is opened."""
    lines: list[Branch] = []
    _descend(names, "", 0, opened, lines, limit)
    return lines


def _descend(
    names: tuple[str, ...], prefix: str, depth: int, opened: frozenset[str], lines: list[Branch], limit: int
) -> None:
    for line in _children(names, prefix, depth, opened):
        if len(lines) >= limit:
            return
        lines.append(line)
        if line.opened:
            _descend(names, f"{line.topic}/", depth + 1, opened, lines, limit)


def _children(names: tuple[str, ...], prefix: str, depth: int, opened: frozenset[str]) -> list[Branch]:
    """List the next level below ``prefix`` by jumping from sibling to sibling in the ordered topics."""
    found: dict[str, Branch] = {}
    at = bisect_left(names, prefix)
    while at < len(names) and names[at].startswith(prefix):
        name, deeper, _ = names[at][len(prefix) :].partition("/")
        topic = prefix + name
        end = bisect_left(names, topic + _AFTER, at) if deeper else at + 1
        known = found.get(name)
        leaf, below = not deeper or (known is not None and known.leaf), end - at if deeper else 0
        below += known.below if known is not None else 0
        found[name] = Branch(topic, name, depth, leaf, below, opened=bool(below) and topic in opened)
        at = end
    return sorted(found.values(), key=lambda line: line.name)


def toggle(opened: frozenset[str], topic: str) -> frozenset[str]:
    """Open a branch, or close it with everything below."""
    if topic not in opened:
        return opened | {topic}
    return frozenset(each for each in opened if each != topic and not each.startswith(f"{topic}/"))


@lru_cache(maxsize=16)
def search(topics: Topics, query: str) -> tuple[str, ...]:
    """Return the topics whose name or payload holds every word of the query."""
    wanted = query.lower().split()

    def has_all(topic: str) -> bool:
        text = f"{topic} {topics.held[topic].payload.decode('utf-8', 'replace')}".lower()
        return all(word in text for word in wanted)

    return tuple(topic for topic in topics.names if has_all(topic))


def tree(topics: Topics, *, query: str, opened: frozenset[str], chosen: str | None) -> Markup:
    """Return the tree, or the list of what a search found."""
    if not topics.names:
        return parts.empty(
            "Nothing hangs on the board.", "Retained messages appear here as they are published."
        )
    if query.strip():
        found = search(topics, query)
        lines = [Branch(topic, topic, 0, leaf=True, below=0) for topic in found[:SHOWN]]
        more = len(found) - len(lines)
        if not found:
            return parts.empty("No topic or payload holds that.", "The search looks at names and payloads.")
    else:
        lines = branches(topics.names, opened)
        more = 0
    drawn = [_line(line, topics.held.get(line.topic), chosen) for line in lines]
    rest = tag("p", f"{more:,} more; narrow the search", class_="cb-quiet") if more else EMPTY
    total = tag("small", words.count(len(topics.names), "retained message"))
    return join(tag("div", *drawn, rest, class_="cb-tree", role="tree"), tag("div", total, class_="cb-pager"))


def _line(line: Branch, held: Retained | None, chosen: str | None) -> Markup:
    act = f"topic:{line.topic}" if line.leaf and not line.below else f"open:{line.topic}"
    mark = "▾" if line.opened else "▸" if line.below else ""
    note = f"{line.below:,}" if line.below else _excerpt(held)
    return tag(
        "a",
        tag("u", mark),
        tag("b", line.name),
        tag("small", note),
        href="#",
        role="treeitem",
        data_key=line.topic,
        data_topic=line.topic,
        data_act=act,
        style=f"--depth:{line.depth}",
        class_="cb-chosen" if line.topic == chosen else None,
        aria_expanded=str(line.opened).lower() if line.below else None,
    )


def _excerpt(held: Retained | None) -> str:
    return held.payload[:_EXCERPT].decode("utf-8", "replace") if held is not None else ""


def payload(topic: str | None, held: Retained | None, now: float, tz: tzinfo = UTC) -> Markup:
    """Return one retained message in full."""
    if topic is None:
        return parts.empty("Choose a topic.", "Its payload is shown here and kept up to date.")
    if held is None:
        return parts.empty(topic, "Nothing is retained here (any more).")
    size = len(held.payload)
    cut = held.payload[:_FULL]
    about = (
        f"{words.bytes_(size)} · arrived {words.moment(held.received, tz)}, {words.ago(held.received, now)}"
    )
    rest = (
        tag("p", f"The first {words.bytes_(_FULL)} are shown.", class_="cb-quiet") if size > _FULL else None
    )
    return tag(
        "article",
        tag("h3", topic),
        tag("small", about),
        tag("pre", words.pretty(cut), data_payload=topic),
        rest,
        class_="cb-payload",
    )


@dataclass(frozen=True, slots=True)
class Order:
    """A command that can be sent: whom to, with what, how long to wait, and what to ask a person first."""

    address: Address
    args: dict[str, JsonValue]
    timeout: float
    confirm: str | None
    title: str


def order(snapshot: Snapshot, topic: str, text: str) -> Order:
    """Check what an operator wrote into the publish box.

    Raises:
        BadRequest: not a command topic of this site, nobody listens there, or the arguments are wrong.
    """
    address = _command(snapshot.site, topic.strip())
    thing = _target(snapshot, address)
    args = schema.parse_args(text)
    card = thing.card
    if isinstance(card, ControlCard):
        try:
            card.check(args.get("value"))
        except ValueError as error:
            raise BadRequest(str(error)) from None
    timeout = float(getattr(card, "timeout", 10.0))
    confirm = card.confirm if isinstance(card, ActionCard) else None
    return Order(address, args, timeout, confirm, f"{thing.title} on {address.node}")


def _command(site: str, topic: str) -> Address:
    example = f"{site}/NODE/command/KIND/NAME"
    try:
        address = Address.parse(topic)
    except CallboardError as error:
        raise BadRequest(f"{error}. Operators publish to {example}.") from None
    if address.leaf is not Leaf.COMMAND or address.site != site:
        raise BadRequest(f"{topic} is not a command topic. Operators publish to {example}.")
    return address


def _target(snapshot: Snapshot, address: Address) -> Thing:
    node = snapshot.nodes.get(address.node)
    thing = None
    if node is not None and address.kind is not None and address.name is not None:
        thing = node.things.get((address.kind, address.name))
    if thing is None or thing.card is None:
        raise BadRequest(f"{address.node} announces no {address.kind} {address.name}.")
    return thing


def suggestion(topic: str | None) -> str:
    """Return the command topic that belongs to a chosen topic, as far as there is one."""
    try:
        address = Address.parse(topic or "")
    except CallboardError:
        return ""
    if address.kind is None or address.name is None:
        return ""
    return str(Address(address.site, address.node, Leaf.COMMAND, address.kind, address.name))


def example(snapshot: Snapshot, topic: str) -> str:
    """Return arguments to start from for a command topic."""
    try:
        card = _target(snapshot, _command(snapshot.site, topic)).card
    except BadRequest:
        return "{}"
    if isinstance(card, ControlCard):
        state = snapshot.nodes[Address.parse(topic).node].things[Address.parse(topic).kind, card.name].state  # type: ignore[index]
        return json.dumps({"value": state.v if state is not None else None})
    form = schema.fields(getattr(card, "parameters", {})) or []
    return json.dumps({field.name: field.default for field in form}, ensure_ascii=False)
