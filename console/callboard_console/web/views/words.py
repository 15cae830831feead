"""Numbers, ages and clock times as people read them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from callboard_core.messages import Value

__all__ = [
    "UNKNOWN",
    "ago",
    "bytes_",
    "clock",
    "count",
    "duration",
    "moment",
    "number",
    "plain",
    "pretty",
    "value",
    "zone",
]

#: Stands for what is not known.
UNKNOWN = "—"

#: What begins something in Markdown, or in Streamlit's additions to it (``:red[…]``, ``$formula$``).
_MARKDOWN = re.compile(r"([\\`*_\[\]<>#$:~|!])")
_STEPS = ((1, "s"), (60, "min"), (3600, "h"), (86400, "d"))
_BYTE_STEPS = ("B", "kB", "MB", "GB", "TB", "PB")
_LARGE = 10_000
_DECIMALS = ((1000, 0), (10, 1), (1, 2))


def plain(text: str) -> str:
    """Return somebody else's text so that Streamlit shows it as it is: no link, picture, formula or colour."""
    return _MARKDOWN.sub(r"\\\1", text)


def duration(seconds: float) -> str:
    """Return a length of time in its largest fitting unit: ``"12 s"``, ``"3 min"``, ``"5 h"``, ``"9 d"``."""
    whole = max(0, int(seconds))
    size, unit = next((step for step in reversed(_STEPS) if whole >= step[0]), _STEPS[0])
    return f"{whole // size} {unit}"


def ago(then: float | None, now: float) -> str:
    """Return how long ago ``then`` was, both Unix seconds; a dash when it is not known."""
    if then is None:
        return UNKNOWN
    return "just now" if now - then < 2 else f"{duration(now - then)} ago"  # noqa: PLR2004 - two seconds is now


def zone(name: str | None) -> tzinfo:
    """Return a time zone by its IANA name, UTC when it is missing or unknown."""
    try:
        return ZoneInfo(name or "UTC")
    except (KeyError, ValueError, OSError):
        return UTC


def clock(t: float, tz: tzinfo = UTC) -> str:
    """Return the time of day, ``"15:04:05"``."""
    return datetime.fromtimestamp(t, tz).strftime("%H:%M:%S")


def moment(t: float, tz: tzinfo = UTC) -> str:
    """Return date and time of day, ``"22 Nov 15:04:05"``."""
    return datetime.fromtimestamp(t, tz).strftime("%-d %b %H:%M:%S")


def count(many: int, noun: str, plural: str | None = None) -> str:
    """Return ``"1 node"`` or ``"3 nodes"``."""
    return f"{many:,} {noun if many == 1 else plural or noun + 's'}".replace(",", "\u202f")


def bytes_(size: float) -> str:
    """Return a number of bytes with three figures: ``"812 B"``, ``"1.46 GB"`` (decimal prefixes)."""
    step = 0
    while abs(size) >= 999.5 and step < len(_BYTE_STEPS) - 1:  # noqa: PLR2004 - four figures round up here
        size, step = size / 1000, step + 1
    return f"{size:.3g} {_BYTE_STEPS[step]}"


def number(v: float) -> str:
    """Return a number without false precision; of one size it always has as many decimals, so nothing jumps."""
    if isinstance(v, int) or abs(v) >= _LARGE:
        return f"{v:,.0f}".replace(",", "\u202f")
    decimals = next((decimals for size, decimals in _DECIMALS if abs(v) >= size), 3)
    return f"{v:.{decimals}f}"


def value(v: Value | None, unit: str | None = None) -> str:
    """Return a reading with its unit."""
    if v is None:
        return UNKNOWN
    if isinstance(v, bool):
        return "on" if v else "off"
    if isinstance(v, str):
        return f"{v} {unit}" if unit else v
    if unit == "s" and v >= 120:  # noqa: PLR2004 - below two minutes, seconds say more
        return duration(v)
    said = _BY_UNIT.get(unit or "")
    return said(v) if said is not None else f"{number(v)} {unit or ''}".rstrip()


_BY_UNIT: dict[str, Callable[[float], str]] = {
    "%": lambda v: f"{v:.1f} %" if isinstance(v, float) else f"{v} %",
    "B": bytes_,
    "bytes": bytes_,
    "B/s": lambda v: f"{bytes_(v)}/s",
    "bytes/s": lambda v: f"{bytes_(v)}/s",
}


def pretty(payload: bytes) -> str:
    """Return a payload for reading: JSON indented, other text as it is, binary as a hexadecimal excerpt."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return f"{len(payload)} bytes, not text: {payload[:64].hex(' ')}{' …' if len(payload) > 64 else ''}"  # noqa: PLR2004
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
