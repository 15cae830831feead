"""Edits of the files that a boot partition has already: what is in them stays, and doing it again changes nothing. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from callboard_core.boot.config import Bus

__all__ = ["edit_cmdline", "edit_config"]

#: What switches each bus on, in config.txt (https://www.raspberrypi.com/documentation/computers/config_txt.html).
_LINES: dict[Bus, str] = {"i2c": "dtparam=i2c_arm=on", "spi": "dtparam=spi=on", "1-wire": "dtoverlay=w1-gpio"}
_BEGIN, _END = "# callboard: buses", "# callboard: end"
_BLOCK = re.compile(rf"\n?{_BEGIN}\n.*?{_END}\n", re.DOTALL)


def edit_cmdline(text: str, words: Iterable[str]) -> str:
    """Return the kernel's command line with ``words`` (``key=value``) in place of what had their keys.

    It stays one line, as the firmware reads no second one.
    """
    wanted = list(words)
    keys = {word.partition("=")[0] for word in wanted}
    kept = [word for word in text.split() if word in wanted or word.partition("=")[0] not in keys]
    return " ".join([*kept, *(word for word in wanted if word not in kept)]) + "\n"


def edit_config(text: str, buses: Iterable[Bus]) -> str:
    """Return config.txt with the buses switched on, in a block of its own at the end."""
    kept = _BLOCK.sub("", text)
    lines = [_LINES[bus] for bus in sorted(set(buses), key=list(_LINES).index)]
    if not lines:
        return kept
    if kept and not kept.endswith("\n"):
        kept += "\n"
    # Conditional sections such as [pi4] last until the next one.
    return "\n".join([f"{kept}\n{_BEGIN}", "[all]", *lines, _END, ""])
