"""Pieces of markup that several pages share: status words, level chips, sparklines, headings, empty states."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, tzinfo

from callboard_console.web.snapshot import Snapshot
from callboard_console.web.views import words
from callboard_console.web.views.markup import EMPTY, Child, Markup, join, tag
from callboard_core.messages import Level, StatusName

__all__ = ["TONES", "banner", "copyable", "empty", "heading", "level_tone", "sparkline", "status", "user_box"]

#: Colour family of each status; the word is always written beside it.
TONES: dict[StatusName | None, str] = {
    StatusName.READY: "ok",
    StatusName.INIT: "warn",
    StatusName.SLEEPING: "info",
    StatusName.DISCONNECTED: "idle",
    StatusName.LOST: "bad",
    None: "idle",
}
_LEVELS = {Level.NORMAL: "ok", Level.WARNING: "warn", Level.ERROR: "bad"}

#: A sparkline's drawing area; the page scales it.
_WIDTH, _HEIGHT = 100.0, 26.0


def status(name: StatusName | None) -> Markup:
    """Return a status as a dot and its word."""
    tone = TONES[name]
    return tag("span", name.value if name is not None else "unknown", class_=f"cb-status cb-{tone}")


def level_tone(level: Level) -> str:
    """Return the colour family of a level."""
    return _LEVELS[level]


def sparkline(points: Sequence[float], *, tone: str = "accent") -> Markup:
    """Draw the trace of a number; a flat one is a line through the middle, fewer than two points nothing."""
    if len(points) < 2:  # noqa: PLR2004 - a line has two ends
        return EMPTY
    low, high = min(points), max(points)
    # A tremor must not look like an earthquake: the drawing spans at least a twentieth of the value.
    span = max(high - low, abs(high) / 20)
    low = (low + high - span) / 2
    step = _WIDTH / (len(points) - 1)
    marks = [
        (index * step, _HEIGHT - 2 - (_HEIGHT - 4) * ((value - low) / span if span else 0.5))
        for index, value in enumerate(points)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in marks)
    area = f"0,{_HEIGHT:g} {line} {_WIDTH:g},{_HEIGHT:g}"
    return tag(
        "svg",
        tag("polygon", points=area, class_="cb-spark-area"),
        tag("polyline", points=line, class_="cb-spark-line"),
        class_=f"cb-spark cb-{tone}",
        viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}",
        preserveAspectRatio="none",
        aria_hidden="true",
    )


def heading(title: str, said: str) -> Markup:
    """The head of a page: its name, and one line below it."""
    return tag("header", tag("h1", title, class_="cb-word"), tag("p", said), class_="cb-head")


def empty(title: str, *lines: Child) -> Markup:
    """Return what a region shows when there is nothing in it, and what to do about it."""
    return tag("div", tag("h3", title), *(tag("p", line) for line in lines), class_="cb-empty")


def copyable(command: str) -> Markup:
    """Return a command that a click copies."""
    return tag(
        "div",
        tag("code", command),
        tag("span", "Copy", class_="cb-copy", role="button", tabindex="0", data_copy=command),
        class_="cb-command",
    )


def banner(snapshot: Snapshot, tz: tzinfo = UTC) -> Markup:
    """Return the strip above every page; nothing while the broker is heard."""
    if snapshot.connected:
        return EMPTY
    since = f"No connection to the broker since {words.clock(snapshot.changed, tz)}; shown is what was known then."
    return tag("div", tag("strong", "Disconnected"), " ", since, class_="cb-banner cb-bad", role="status")


def user_box(username: str, role: str, leaving: str) -> Markup:
    """Return who is logged in and the way out."""
    out = tag("input", type="submit", value="Log out", class_="cb-out")
    proof = tag("input", type="hidden", name="leaving", value=leaving)
    who = tag("span", username, tag("i", role) if role != username else None, class_="cb-who")
    return tag("div", who, tag("form", join(proof, out), method="post", action="logout"), class_="cb-user")
