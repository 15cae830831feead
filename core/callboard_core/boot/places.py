"""Time zones and countries, as this machine's own time zone data knows them; where it has none, every name may be right."""

from __future__ import annotations

import zoneinfo
from difflib import get_close_matches
from functools import cache
from pathlib import Path

__all__ = ["check_country", "check_zone"]


def check_zone(name: str) -> str:
    """Return a time zone's name.

    Raises:
        ValueError: there is no such zone.
    """
    known = zoneinfo.available_timezones()
    if known and name not in known:
        close = get_close_matches(name, known, n=1)
        raise ValueError(
            f"there is no time zone {name}; {'is it ' + close[0] + '?' if close else 'as Europe/London'}"
        )
    return name


def check_country(code: str) -> str:
    """Return a country's two letters (ISO 3166).

    Raises:
        ValueError: no country has them.
    """
    known = _countries()
    if known and code not in known:
        raise ValueError(f"no country has the letters {code} (ISO 3166); they are as GB or DE")
    return code


@cache
def _countries() -> frozenset[str]:
    for folder in zoneinfo.TZPATH:
        table = Path(folder, "iso3166.tab")
        if table.is_file():
            lines = table.read_text(encoding="utf-8").splitlines()
            return frozenset(line.partition("\t")[0] for line in lines if not line.startswith("#"))
    return frozenset()
