"""Frame ranges as people write them, ``1-240`` or ``3,5-10`` or ``1-100x2``; and how they are split. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from callboard_core.errors import BadRequest

__all__ = ["HIGHEST", "LIMIT", "LOWEST", "chunks", "format_frames", "parse_frames"]

#: Frames one range may hold.
LIMIT = 1_000_000
#: Blender's own bounds of a frame number (MINAFRAME and MAXFRAME in its DNA_scene_types.h).
LOWEST, HIGHEST = -1_048_574, 1_048_574

_PART = re.compile(r"(-?\d{1,9})(?:\s*-\s*(-?\d{1,9}))?(?:\s*x\s*(\d{1,9}))?", re.ASCII)
#: What is at fault is quoted, but not pages of it.
_QUOTED = 40
_EXAMPLE = "expected frames like 1-240, 3,5-10 or 1-100x2"


def parse_frames(text: str) -> tuple[int, ...]:
    """Return the frames of a range in ascending order, each once.

    Args:
        text: comma-separated numbers and ranges ``first-last`` or ``first-lastxstep``; both ends count, and any
            number may be negative (``-5--1``).

    Raises:
        BadRequest: a part is no range, runs backwards, has a step of 0, is out of Blender's bounds, or there are
            more than :data:`LIMIT` frames; the message quotes the part.
    """
    found: set[int] = set()
    for part in text.split(","):
        found.update(_range(part.strip()))
        if len(found) > LIMIT:
            raise BadRequest(f"frames: more than {LIMIT:,} frames; split them over several jobs")
    return tuple(sorted(found))


def _range(part: str) -> range:
    match = _PART.fullmatch(part)
    if match is None:
        shown = part if len(part) <= _QUOTED else part[:_QUOTED] + "…"
        raise BadRequest(f"frames: {shown!r} is no range; {_EXAMPLE}" if part else f"frames: {_EXAMPLE}")
    first, step = int(match[1]), int(match[3] or 1)
    last = first if match[2] is None else int(match[2])
    if match[2] is None and match[3] is not None:
        raise BadRequest(f"frames: {part!r} has a step and no last frame; {_EXAMPLE}")
    if last < first:
        raise BadRequest(f"frames: {part!r} runs backwards; write {last}-{first}")
    if step == 0:
        raise BadRequest(f"frames: {part!r} has a step of 0; use 1 or more")
    if first < LOWEST or last > HIGHEST:
        raise BadRequest(f"frames: {part!r} is outside {LOWEST} … {HIGHEST}")
    return range(first, last + 1, step)


def format_frames(frames: Iterable[int]) -> str:
    """Return frames as a short text that :func:`parse_frames` reads back; empty for none."""
    return ",".join(_text(run) for run in _runs(sorted(set(frames))))


def _runs(frames: Sequence[int]) -> Iterator[Sequence[int]]:
    """Split ascending frames into stretches of one step each."""
    start = 0
    while start < len(frames):
        end = _run_end(frames, start)
        yield frames[start:end]
        start = end


def _run_end(frames: Sequence[int], start: int) -> int:
    """Where the stretch that begins at ``start`` ends; two frames with a gap are no stretch."""
    if start + 1 == len(frames):
        return start + 1
    step, end = frames[start + 1] - frames[start], start + 2
    while end < len(frames) and frames[end] - frames[end - 1] == step:
        end += 1
    return end if step == 1 or end - start > 2 else start + 1  # noqa: PLR2004 - a stretch is three or more


def _text(run: Sequence[int]) -> str:
    if len(run) == 1:
        return str(run[0])
    step = run[1] - run[0]
    return f"{run[0]}-{run[-1]}" + (f"x{step}" if step > 1 else "")


def chunks(frames: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """Split frames into pieces of ``size``, the last one shorter; no piece is empty.

    Raises:
        BadRequest: ``size`` is below 1.
    """
    if size < 1:
        raise BadRequest(f"chunk size: {size} is too small; use 1 or more")
    return [tuple(frames[start : start + size]) for start in range(0, len(frames), size)]
