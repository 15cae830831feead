"""The Audit page: who did what, from where, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Any

from callboard_console.web.views import parts, words
from callboard_console.web.views.markup import Markup, tag

__all__ = ["RESULTS", "SPANS", "WHATS", "asked", "render"]

#: What to choose from: what people read, and what the board is asked for.
WHATS: dict[str, str | None] = {
    "Everything": None,
    "Commands": "command",
    "Log-ins": "login",
    "Users": "user",
    "Roles": "role",
    "Tokens": "token",
    "Enrolment": "enrol",
    "Updates": "update",
}
RESULTS: dict[str, str | None] = {"Any result": None, "Failed": "failed", "Done": "ok"}
SPANS: dict[str, float | None] = {
    "Last hour": 3_600.0,
    "Last day": 86_400.0,
    "Last 30 days": 30 * 86_400.0,
    "All time": None,
}
_TONES = {"ok": "ok", "sent": "idle"}


def asked(
    *, who: str, what: str, result: str, span: str, subject: str, now: float
) -> dict[str, str | float | None]:
    """Return the question to the board, from what was chosen and typed."""
    length = SPANS.get(span)
    return {
        "who": who.strip() or None,
        "what": WHATS.get(what),
        "result": RESULTS.get(result),
        "subject": subject.strip() or None,
        "since": None if length is None else now - length,
    }


def render(entries: Sequence[Mapping[str, Any]], *, tz: tzinfo = UTC) -> Markup:
    """Return the table, in the order of the entries."""
    if not entries:
        return parts.empty("Nothing of that kind is in the log.", "Widen the time or clear the filters.")
    head = tag("tr", *(tag("th", name) for name in ("When", "Who", "From", "What", "To", "Result")))
    rows = [_row(one, tz) for one in entries]
    return tag("section", tag("table", tag("thead", head), tag("tbody", *rows), class_="cb-table cb-audit"))


def _row(one: Mapping[str, Any], tz: tzinfo) -> Markup:
    result, count = str(one["result"]), int(one["count"])
    return tag(
        "tr",
        tag("td", words.moment(float(one["t"]), tz), class_="cb-for"),
        tag("td", str(one["who"]) or words.UNKNOWN),
        tag("td", str(one["origin"]) or words.UNKNOWN, class_="cb-for"),
        tag("td", str(one["what"]), tag("small", f"{count} times" if count > 1 else None)),
        tag("td", tag("code", str(one["subject"])) if one["subject"] else words.UNKNOWN),
        tag(
            "td",
            tag("span", result, class_=f"cb-status cb-{_TONES.get(result, 'bad')}"),
            tag("small", str(one["detail"]) or None),
        ),
        data_key=str(one["id"]),
    )
