"""The Refused page: what was refused, why, and from whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, tzinfo
from typing import Any

from callboard_console.web.snapshot import Refusal
from callboard_console.web.views import parts, words
from callboard_console.web.views.markup import Markup, join, node_link, tag

__all__ = ["from_http", "render"]


def from_http(items: Iterable[Mapping[str, Any]]) -> list[Refusal]:
    """Return the board's own list, newest first."""
    found = [
        Refusal(
            t=float(item["t"]),
            topic=str(item.get("topic", "")),
            node=item.get("node"),
            reason=str(item.get("reason", "")),
            size=int(item.get("size") or 0),
        )
        for item in items
    ]
    return sorted(found, key=lambda refusal: -refusal.t)


def render(refusals: Iterable[Refusal], *, total: int, trouble: str | None, tz: tzinfo = UTC) -> Markup:
    """Return the table; ``trouble`` says why the board's own list is not available."""
    rows = [_row(refusal, tz) for refusal in refusals]
    note = tag("p", trouble, class_="cb-quiet") if trouble else None
    if not rows:
        return join(
            note, parts.empty("Nothing was refused.", "Every message that arrived could be understood.")
        )
    head = tag("tr", *(tag("th", name) for name in ("When", "From", "Topic", "Why", "Size")))
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="cb-table cb-refused")
    count = f"{words.count(total, 'message')} refused so far; the last {len(rows)} are shown"
    return join(note, tag("section", table), tag("footer", count, class_="cb-pager"))


def _row(refusal: Refusal, tz: tzinfo) -> Markup:
    return tag(
        "tr",
        tag("td", words.moment(refusal.t, tz), class_="cb-for"),
        tag("td", node_link(refusal.node, refusal.node) if refusal.node else words.UNKNOWN),
        tag("td", tag("code", refusal.topic)),
        tag("td", refusal.reason),
        tag("td", words.bytes_(refusal.size), class_="cb-for"),
        data_key=f"{refusal.t}-{refusal.topic}",
    )
