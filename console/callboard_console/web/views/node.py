"""The Node page: who the node is, its readings, what it did, and when it was there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from itertools import pairwise
from typing import Any

from pydantic import JsonValue

from callboard_console.web.commands import Order, Stage
from callboard_console.web.snapshot import EventLine, NodeView, Thing
from callboard_console.web.views import parts, words
from callboard_console.web.views.markup import EMPTY, Markup, join, tag
from callboard_core.messages import Level, Severity, StatusName
from callboard_core.topics import Kind

__all__ = [
    "Span",
    "absent",
    "control_line",
    "events",
    "identity",
    "in_force",
    "order_line",
    "orders",
    "readings",
    "spans",
    "strip",
]

#: A clock this many seconds off is worth saying.
SKEWED = 30.0

#: Actions that stay listed, and seconds for which the success of a control is news.
_RUNS, _NEWS = 5, 30.0
#: Characters of a result that are shown.
_RESULT = 300

_STAGE_TONES = {
    Stage.SENT: "idle",
    Stage.ACKNOWLEDGED: "info",
    Stage.RUNNING: "info",
    Stage.DONE: "ok",
    Stage.FAILED: "bad",
    Stage.TIMED_OUT: "bad",
}
_SEVERITY_TONES = {
    Severity.DEBUG: "idle",
    Severity.INFO: "info",
    Severity.WARNING: "warn",
    Severity.ERROR: "bad",
}


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in one status; None where nothing is known. Unix seconds."""

    start: float
    end: float
    status: StatusName | None


def absent(node: str) -> Markup:
    """Return what the page shows for a node that is not on the board."""
    return parts.empty(
        f"{node} is not on the board.", "It never signed in, or it was forgotten. Choose another node above."
    )


def identity(node: NodeView, now: float, tz: tzinfo = UTC) -> Markup:
    """Return the node's name, status and facts."""
    host = node.card.host if node.card is not None else None
    facts: dict[str, str | None] = {
        "id": node.id,
        "since": _since(node, now, tz),
        "last message": words.ago(node.last_seen, now),
        "host": host.hostname if host is not None else None,
        "machine": _machine(node),
        "address": ", ".join(host.addresses[:3]) if host is not None else None,
        "callboard": node.card.version if node.card is not None else None,
        "starts": str(node.epoch) if node.epoch is not None else None,
    }
    rows = [tag("div", tag("dt", name), tag("dd", fact)) for name, fact in facts.items() if fact]
    chips = [tag("em", each) for each in node.tags]
    about = tag("p", node.card.description) if node.card is not None and node.card.description else EMPTY
    return tag(
        "header",
        tag("h1", node.title),
        parts.status(node.status),
        *chips,
        _skew(node),
        about,
        tag("dl", *rows),
        class_="cb-facts",
    )


def _since(node: NodeView, now: float, tz: tzinfo) -> str | None:
    if node.since is None:
        return None
    return f"{words.moment(node.since, tz)} ({words.duration(now - node.since)})"


def _machine(node: NodeView) -> str | None:
    host = node.card.host if node.card is not None else None
    if host is None:
        return None
    return host.model or f"{host.system} {host.machine}"


def _skew(node: NodeView) -> Markup:
    if node.skew is None or abs(node.skew) < SKEWED:
        return EMPTY
    way = "ahead" if node.skew > 0 else "behind"
    return tag("span", f"clock {words.duration(abs(node.skew))} {way}", class_="cb-chip cb-warn")


def readings(node: NodeView, now: float) -> Markup:
    """Return every sensor's last value by name: what is out of order stands out, but nothing moves about."""
    sensors = node.of_kind(Kind.SENSOR)
    if not sensors:
        return tag("p", "This node announces no sensors.", class_="cb-quiet")
    levels = [thing.level for thing in sensors]
    said = ((Level.ERROR, "in error", "bad"), (Level.WARNING, "outside the normal range", "warn"))
    chips = [
        tag("span", f"{levels.count(level)} {what}", class_=f"cb-chip cb-{tone}")
        for level, what, tone in said
        if level in levels
    ]
    heading = tag("div", tag("h2", "Readings"), *chips, class_="cb-section")
    cards = tag("div", *(_reading(thing, now) for thing in sensors), class_="cb-values")
    return join(heading, cards)


def _reading(thing: Thing, now: float) -> Markup:
    tone, state = parts.level_tone(thing.level), thing.state
    failed = state.error if state is not None else None
    shown = "error" if failed else words.value(state.v if state else None, thing.unit)
    out_of_range = {"warn": "outside the normal range", "bad": "outside the allowed range", "ok": None}[tone]
    remark = failed.message if failed else out_of_range
    return tag(
        "div",
        tag("span", thing.title, title=thing.name),
        tag("small", words.ago(thing.received, now)),
        tag("b", shown),
        parts.sparkline(thing.spark, tone="accent" if tone == "ok" else tone),
        tag("p", remark) if remark else None,
        class_=f"cb-value cb-{tone}",
        data_key=thing.name,
        data_reading=thing.name,
    )


def order_line(order: Order | None, now: float) -> Markup:
    """Return what became of the last command to a thing."""
    if order is None:
        return EMPTY
    said: list[str | Markup] = [tag("b", order.stage.value)]
    if order.took is not None:
        said.append(f"after {order.took * 1000:.0f} ms" if order.took < 1 else f"after {order.took:.1f} s")
    elif order.progress is not None:
        said.append(f"{order.progress:.0%}")
    if order.error:
        said.append(order.error)
    elif order.result is not None and order.address.kind is not Kind.CONTROL:
        said.append(_result(order.result))
    said.append(words.ago(order.sent, now))
    tone = _STAGE_TONES[order.stage]
    spaced = (tag("span", part) for part in said)
    return tag("div", *spaced, class_=f"cb-order cb-{tone}", role="status", data_order=order.stage.value)


def _result(result: JsonValue) -> Markup:
    if isinstance(result, str):
        return tag("span", result[:_RESULT])
    return tag("code", json.dumps(result, ensure_ascii=False)[:_RESULT])


def orders(found: Sequence[Order], now: float) -> Markup:
    """Return the last actions that were asked for and what became of them."""
    lines = [
        tag("div", tag("b", order.title), order_line(order, now), class_="cb-run", data_key=str(order.number))
        for order in found[:_RUNS]
    ]
    return tag("div", *lines, class_="cb-runs") if lines else EMPTY


def in_force(thing: Thing) -> Markup:
    """Return a control as those see it who may only look."""
    shown = words.value(thing.state.v if thing.state is not None else None, thing.unit)
    return tag("div", tag("span", thing.title), tag("b", shown), class_="cb-held", data_control=thing.name)


def control_line(node: NodeView, thing: Thing, order: Order | None, now: float) -> Markup:
    """Return what is worth saying under a control: why it does not work, or what became of the last command."""
    state = thing.state
    if not node.live:
        return tag("div", f"{node.title} is away; this is the last known value", class_="cb-order cb-idle")
    failing = state is not None and state.error is not None
    if order is not None and (order.stage is not Stage.DONE or (not failing and now - order.sent <= _NEWS)):
        return order_line(order, now)
    if state is not None and state.error is not None:
        return tag("div", tag("b", "error"), state.error.message, class_="cb-order cb-bad")
    return EMPTY


def events(lines: Iterable[EventLine], node: str | None, tz: tzinfo = UTC) -> Markup:
    """Return the log of one node's events (of all nodes without one), newest first."""
    found = [line for line in lines if node is None or line.node == node]
    if not found:
        return tag("p", "Nothing has happened since the console started.", class_="cb-quiet")
    return tag("div", *(_event(line, tz) for line in found), class_="cb-log")


def _event(line: EventLine, tz: tzinfo) -> Markup:
    tone = _SEVERITY_TONES[line.severity]
    return tag(
        "div",
        tag("time", words.moment(line.t, tz)),
        tag("b", line.severity.value, class_=f"cb-{tone}"),
        tag("code", line.name),
        tag("span", line.message),
        data_key=f"{line.t}-{line.name}",
    )


def spans(
    changes: Sequence[Mapping[str, Any]],
    start: float,
    end: float,
    *,
    now_status: StatusName | None = None,
    now_since: float | None = None,
) -> list[Span]:
    """Turn status changes (``t``, ``status``, in any order) into stretches that fill ``start`` … ``end``.

    Before the first known change nothing is known, unless the present status (``now_status`` since
    ``now_since``) reaches back that far.
    """
    known = sorted(
        ((float(each["t"]), StatusName(each["status"])) for each in changes), key=lambda each: each[0]
    )
    if now_status is not None and now_since is not None and (not known or known[-1][1] is not now_status):
        known.append((now_since, now_status))
    before = [status for t, status in known if t <= start]
    marks: list[tuple[float, StatusName | None]] = [(start, before[-1] if before else None)]
    marks += [(t, status) for t, status in known if start < t < end]
    marks.append((end, None))
    return [Span(a, b, status) for (a, status), (b, _) in pairwise(marks) if b > a]


def strip(stretches: Sequence[Span], tz: tzinfo = UTC) -> Markup:
    """Draw the stretches as one bar, with the share of known time the node was there."""
    if not stretches:
        return EMPTY
    start, end = stretches[0].start, stretches[-1].end
    known = sum(span.end - span.start for span in stretches if span.status is not None)
    here = sum(span.end - span.start for span in stretches if parts.TONES[span.status] not in {"bad", "idle"})
    bars = [_bar(span, end - start, tz) for span in stretches]
    share = f"here {here / known:.1%} of the known time" if known else "nothing known yet"
    ends = (words.moment(start, tz)[:-3], share, "now")
    legend = tag("div", *(tag("span", each) for each in ends), class_="cb-strip-legend")
    return join(tag("div", *bars, class_="cb-strip", role="img", aria_label=share), legend)


def _bar(span: Span, whole: float, tz: tzinfo) -> Markup:
    tone = parts.TONES[span.status] if span.status is not None else "none"
    word = span.status.value if span.status is not None else "not known"
    hint = f"{word}: {words.moment(span.start, tz)} to {words.moment(span.end, tz)}"
    return tag("i", class_=f"cb-{tone}", style=f"width:{(span.end - span.start) / whole:.4%}", title=hint)
