"""Chart specifications for series of readings (ECharts options as plain dicts)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from callboard_console.web.views import words
from callboard_core.cards import AnyCard, ControlCard, SensorCard

__all__ = ["RANGES", "caption", "chart", "chartable", "with_gaps"]

#: What the range picker offers, in seconds.
RANGES: dict[str, float] = {
    "15 min": 900.0,
    "1 h": 3600.0,
    "6 h": 6 * 3600.0,
    "24 h": 86_400.0,
    "7 d": 7 * 86_400.0,
    "30 d": 30 * 86_400.0,
    "1 y": 365 * 86_400.0,
}

_COLOUR = "#6574e8"  # readable on light and on dark ground
_GRID = "rgba(128, 128, 128, 0.16)"  # as faint on both
_GAP = 4.0  # a hole longer than this many usual intervals is drawn as a hole


def chartable(card: AnyCard | None) -> bool:
    """Tell whether a thing has a series that can be drawn."""
    return isinstance(card, SensorCard | ControlCard) and card.type in {"number", "boolean"}


def with_gaps(times: Sequence[float], values: Sequence[float | None]) -> list[list[float | None]]:
    """Pair times (Unix seconds) and values for a time axis (milliseconds), with a break in every hole."""
    if len(times) != len(values):
        raise ValueError(f"{len(times)} times and {len(values)} values; they must be equal")
    steps = [b - a for a, b in pairwise(times)]
    longest = _GAP * median(steps) if steps else 0.0
    points: list[list[float | None]] = []
    for index, (t, v) in enumerate(zip(times, values, strict=True)):
        if index and steps[index - 1] > longest:
            points.append([(times[index - 1] + 0.001) * 1000, None])
        points.append([t * 1000, v])
    return points


def chart(
    series: Mapping[str, Any], *, title: str, start: float, end: float, boolean: bool = False
) -> dict[str, Any]:
    """Return the specification: the mean as a line, and minimum to maximum as a band where data is thinned."""
    times, mean = series.get("t", []), series.get("mean", [])
    unit = series.get("unit") or ""
    line: dict[str, Any] = {
        "name": title,
        "type": "line",
        "data": with_gaps(times, mean),
        "showSymbol": len(times) < 40,  # noqa: PLR2004 - few points are worth a dot each
        "symbolSize": 4,
        "connectNulls": False,
        "lineStyle": {"width": 1.8},
        "itemStyle": {"color": _COLOUR},
    }
    if boolean:
        line["step"] = "end"
    lines = [line] if boolean or series.get("resolution", "raw") == "raw" else [*_band(series), line]
    return {
        "animation": False,
        "grid": {"left": 8, "right": 18, "top": 28, "bottom": 8, "containLabel": True},
        "tooltip": {"trigger": "axis", "valueFormatter": f"%.4g {unit.replace('%', '%%')}".strip()},
        "xAxis": {"type": "time", "min": start * 1000, "max": end * 1000},
        "yAxis": {
            "type": "value",
            "scale": not boolean,
            "name": unit,
            "splitLine": {"lineStyle": {"color": _GRID}},
            **({"min": 0, "max": 1, "interval": 1} if boolean else {}),
        },
        "series": lines,
    }


def _band(series: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Two stacked areas: an unseen one up to the minimum, and the band on top of it."""
    times, low, high = series.get("t", []), series.get("min", []), series.get("max", [])
    height = [b - a if a is not None and b is not None else None for a, b in zip(low, high, strict=True)]
    common: dict[str, Any] = {
        "type": "line",
        "stack": "band",
        "stackStrategy": "all",
        "symbol": "none",
        "lineStyle": {"opacity": 0},
        "tooltip": {"show": False},
        "silent": True,
    }
    return [
        {**common, "name": "minimum", "data": with_gaps(times, low)},
        {
            **common,
            "name": "range",
            "data": with_gaps(times, height),
            "areaStyle": {"color": _COLOUR, "opacity": 0.18},
        },
    ]


def caption(series: Mapping[str, Any]) -> str:
    """Say what is drawn: how many points of which resolution, and the extremes."""
    times = series.get("t", [])
    if not times:
        return "No readings in this range."
    unit = series.get("unit")
    lows = [v for v in series.get("min", []) if v is not None]
    highs = [v for v in series.get("max", []) if v is not None]
    resolution = {"raw": "every reading", "minute": "one point a minute", "hour": "one point an hour"}
    said = resolution.get(str(series.get("resolution")), "")
    extremes = (
        f" · {words.value(min(lows), unit)} to {words.value(max(highs), unit)}" if lows and highs else ""
    )
    return f"{words.count(len(times), 'point')} · {said}{extremes}"
