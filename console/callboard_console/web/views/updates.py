"""The Updates page: what went out to nodes, how it stands, and what became of the updates of one node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Any

from callboard_console.web.views import parts, words
from callboard_console.web.views.markup import EMPTY, Markup, join, node_link, tag

__all__ = ["TONES", "about", "of_node", "release", "render"]

#: Colour family of each stage and state; the word is always written beside it.
TONES = {
    "healthy": "ok",
    "done": "ok",
    "rolled-back": "bad",
    "failed": "bad",
    "paused": "warn",
    "running": "info",
    "trial": "info",
    "installing": "info",
    "fetching": "info",
    "sent": "info",
}
#: What can be done to an update in a state.
_STEERING = {"running": ("pause", "cancel"), "paused": ("resume", "cancel")}
_Item = Mapping[str, Any]


def about(item: _Item) -> str:
    """Return what an update is, such as ``release 0.2.0``."""
    return f"{item['kind']} {item['version'] or item['number']}"


def release(item: _Item) -> str:
    """Return a release as it is chosen from a list."""
    return f"{item['version']} (number {item['number']}{', ' if item['note'] else ''}{item['note']})"


def render(items: Iterable[_Item], *, may_command: bool, now: float, tz: tzinfo = UTC) -> Markup:
    """Return every update with its nodes."""
    rows = [_update(item, may_command=may_command, now=now, tz=tz) for item in items]
    if not rows:
        return parts.empty(
            "Nothing was sent to nodes yet.",
            "Publish a release from the board's machine:",
            parts.copyable("callboard update --all --watch"),
        )
    head = tag("tr", *(tag("th", name) for name in ("When", "What", "State", "Nodes", "By", "")))
    return tag("section", tag("table", tag("thead", head), tag("tbody", *rows), class_="cb-table cb-updates"))


def _update(item: _Item, *, may_command: bool, now: float, tz: tzinfo) -> Markup:
    offered = _STEERING.get(item["state"], ()) if may_command else ()
    acts = [
        tag("a", do.capitalize(), role="button", tabindex="0", data_act=f"{do}:{item['id']}")
        for do in offered
    ]
    reason = tag("p", item["reason"], class_="cb-quiet") if item["reason"] else None
    return tag(
        "tr",
        tag("td", words.moment(item["created"], tz), class_="cb-for"),
        tag("td", about(item), tag("i", f" {item['id']}")),
        tag("td", _word(item["state"]), reason),
        tag("td", *(_node(one, now) for one in item["nodes"])),
        tag("td", item["by"]),
        tag("td", *acts, class_="cb-acts"),
        data_key=item["id"],
    )


def _node(one: _Item, now: float) -> Markup:
    part = f" {one['progress']:.0%}" if one.get("progress") is not None else ""
    since = f" {words.duration((one['ended'] or now) - one['started'])}" if one["started"] else ""
    return tag(
        "div",
        node_link(one["node"], one["node"]),
        " ",
        _word(one["stage"], part + since),
        tag("p", one["reason"], class_="cb-quiet") if one["reason"] else None,
    )


def of_node(items: Sequence[_Item], tz: tzinfo = UTC) -> Markup:
    """Return what became of a node's updates, newest first; nothing if there were none."""
    if not items:
        return EMPTY
    rows = [
        tag(
            "tr",
            tag("td", words.moment(item["created"], tz), class_="cb-for"),
            tag("td", about(item)),
            tag("td", _word(item["stage"])),
            tag("td", item["running"]),
            tag("td", item["reason"]),
            tag("td", item["by"]),
            data_key=item["id"],
        )
        for item in items
    ]
    head = tag("tr", *(tag("th", name) for name in ("When", "What", "Became", "Runs", "Why", "By")))
    heading = tag("div", tag("h2", "Updates"), class_="cb-section")
    return join(heading, tag("table", tag("thead", head), tag("tbody", *rows), class_="cb-table"))


def _word(word: str, more: str = "") -> Markup:
    return tag("span", word, more, class_=f"cb-status cb-{TONES.get(word, 'idle')}")
