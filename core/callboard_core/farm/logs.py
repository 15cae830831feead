"""What a renderer prints, by frame: headings in an attempt's log, and the part that concerns one frame. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

__all__ = ["heading", "of_frame"]

_HEADING = re.compile(r"--- frame (-?\d{1,7}) ---")


def heading(frame: int) -> str:
    """Return the line that comes before what is printed for a frame."""
    return f"--- frame {frame} ---"


def of_frame(lines: Iterable[str], frame: int) -> Iterator[str]:
    """Yield what was printed before any frame was begun, and what was printed for this one."""
    wanted = True
    for line in lines:
        if found := _HEADING.fullmatch(line):
            wanted = int(found[1]) == frame
        if wanted:
            yield line
