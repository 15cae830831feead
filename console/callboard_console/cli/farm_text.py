"""Jobs, frames and slots as people read them at a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from callboard_console.cli.output import age

__all__ = ["BLANK", "bar", "frame_lines", "job_line", "job_row", "left", "slot_row", "why_lines"]

BLANK = "-"
_FULL, _PARTS, _EMPTY = "█", "▏▎▍▌▋▊▉", "·"
Fields = Mapping[str, Any]


def bar(share: float, width: int = 12) -> str:
    """Return a progress bar of ``width`` characters for a share from 0 to 1."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, part = divmod(eighths, 8)
    drawn = _FULL * full + (_PARTS[part - 1] if part else "")
    return drawn.ljust(width, _EMPTY)


def left(seconds: float | None) -> str:
    """Return how long something will still take."""
    return BLANK if seconds is None else age(seconds)


def job_row(job: Fields) -> dict[str, Any]:
    """Return a job as a row of a table."""
    counts = job["frames"]
    return {
        "id": job["job"],
        "name": job["name"],
        "state": job["state"],
        "progress": bar(job["progress"]),
        "frames": f"{counts['done']}/{sum(counts.values())}",
        "failed": counts["failed"] or "",
        "running": job["running"] or "",
        "eta": left(job.get("eta")),
        "priority": job["priority"],
        "owner": job["owner"],
        "project": job.get("project") or "",
        "reason": job.get("reason") or "",
    }


def job_line(job: Fields) -> str:
    """Return how a job is, in one line."""
    counts = job["frames"]
    parts = [
        f"job {job['job']} {job['name']}: {job['state']}",
        f"{counts['done']}/{sum(counts.values())} frames",
    ]
    if counts["failed"]:
        parts.append(f"{counts['failed']} failed")
    if job.get("eta") is not None and job["state"] in {"queued", "active"}:
        parts.append(f"{left(job['eta'])} left")
    if job.get("reason"):
        parts.append(str(job["reason"]))
    return ", ".join(parts)


def frame_lines(view: Fields) -> list[dict[str, Any]]:
    """Return the frames of a step by state, as rows of a table."""
    from callboard_core.farm.frames import format_frames

    found: dict[str, list[int]] = {}
    for number, state in zip(view["frames"], view["states"], strict=True):
        found.setdefault(state, []).append(number)
    seconds = dict(zip(view["frames"], view["seconds"], strict=True))
    return [
        {
            "state": state,
            "count": len(numbers),
            "frames": format_frames(numbers),
            "seconds each": _mean([seconds[number] for number in numbers]),
        }
        for state, numbers in sorted(found.items())
    ]


def _mean(seconds: Iterable[float | None]) -> str:
    known = [one for one in seconds if one is not None]
    return f"{sum(known) / len(known):.2f}" if known else BLANK


def why_lines(items: Sequence[Fields]) -> list[str]:
    """Return why each step is not running, a line for each reason."""
    return [f"{item['step']}: {reason['text']}" for item in items for reason in item["reasons"]]


def slot_row(slot: Fields) -> dict[str, Any]:
    """Return a slot as a row of a table."""
    report = slot.get("report") or {}
    working = report.get("job") is not None and slot["live"]
    return {
        "slot": f"{slot['node']}/{slot['slot']}",
        "engine": " ".join(filter(None, (slot["card"]["engine"], slot["card"].get("version")))),
        "state": slot["state"],
        "job": report["job"] if working else "",
        "frame": report["frame"] if working and report.get("frame") is not None else "",
        "progress": bar(report.get("progress", 0.0), 8) if working else "",
        "eta": left(report.get("eta")) if working else "",
        "takes no work": slot["closed"],
        "note": slot["note"] or report.get("reason") or "",
        "tags": " ".join(slot["tags"]),
    }
