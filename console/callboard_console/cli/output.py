"""How values, ages and tables are shown on a terminal; pure except for :func:`table`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from callboard_core.errors import BadRequest

__all__ = ["age", "plain", "print_json", "span", "table", "value_text"]

#: What moves a terminal's cursor, colours it or turns its writing round, and what ends a line.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_STEPS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


def print_json(data: Any, *, indent: int | None = 2) -> None:
    """Print ``data`` as JSON; without an indent, on one line."""
    print(json.dumps(data, indent=indent, ensure_ascii=False, default=str), flush=True)


def value_text(value: object, unit: str | None = None) -> str:
    """Return a value as people read it: ``21.4 °C``, ``on``, ``-`` for none."""
    match value:
        case None:
            return "-"
        case bool():
            text = "on" if value else "off"
        case float():
            text = f"{value:.6g}"
        case _:
            text = str(value)
    return f"{text} {unit}" if unit else text


def age(seconds: float) -> str:
    """Return a duration as people read it: ``12 s``, ``5 min``, ``3 d``."""
    for length, unit in _STEPS:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} s"


def plain(text: str) -> str:
    """Return what somebody else wrote as one line that only says something: it must not command the terminal."""
    return _CONTROL.sub(lambda found: " " if found[0] in "\t\n\r" else "\N{REPLACEMENT CHARACTER}", text)


def span(text: str) -> float:
    """Return the seconds that ``90s``, ``15m``, ``12h`` or ``30d`` stand for.

    Raises:
        BadRequest: it is none of these.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if found is None:
        raise BadRequest(f"{text!r} is no while: write a number and s, m, h, d or w, such as 12h or 30d")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}[found[2]]


def table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, empty: str) -> None:
    """Print rows as a table; into a pipe, as tab-separated lines without borders and cutting.

    Args:
        columns: keys of the rows, in order; also the headings.
        rows: one mapping per line.
        empty: what to say when there are none.
    """
    lines = [[plain(str(row.get(column, ""))) for column in columns] for row in rows]
    if not lines:
        print(empty, file=sys.stderr)
        return
    if not sys.stdout.isatty():
        print("\n".join("\t".join(line) for line in [list(columns), *lines]))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for line in lines:
        shown.add_row(*(Text(cell) for cell in line))
    Console().print(shown)
