"""When a slot works by itself: at which hours, on an idle processor, while nobody uses the machine."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

__all__ = ["Hours", "Moment", "Schedule", "Verdict", "idle_seconds", "parse_logind", "processor_load"]

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS = re.compile(r"(?:([a-z,-]+)\s+)?(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")
_EXAMPLE = "expected hours like 22:00-06:00 or mon-fri 18:00-08:00"


@dataclass(frozen=True, slots=True)
class Hours:
    """A window of each day; one that ends before it begins ends the next day. ``days`` are those it begins on."""

    days: frozenset[int]
    start: int
    end: int
    text: str

    @classmethod
    def parse(cls, text: str) -> Hours:
        """Read ``[mon-fri|sat,sun] 22:00-06:00``.

        Raises:
            ValueError: it cannot be read; the message shows how it is written.
        """
        found = _HOURS.fullmatch(text.strip().lower())
        if found is None:
            raise ValueError(f"{text!r}: {_EXAMPLE}")
        start, end = _minutes(found[2], found[3], text), _minutes(found[4], found[5], text)
        if start == end:
            raise ValueError(f"{text!r}: begins when it ends; leave it out to work all day")
        return cls(frozenset(_days(found[1], text)), start, end, text.strip())

    def hold(self, now: datetime) -> bool:
        """Tell whether a local time is inside."""
        minute, today = now.hour * 60 + now.minute, now.weekday()
        if self.start < self.end:
            return today in self.days and self.start <= minute < self.end
        yesterday = (today - 1) % 7
        return (today in self.days and minute >= self.start) or (yesterday in self.days and minute < self.end)


def _minutes(hour: str, minute: str, text: str) -> int:
    found = int(hour) * 60 + int(minute)
    if int(minute) > 59 or found > 24 * 60:  # noqa: PLR2004 - the clock's
        raise ValueError(f"{text!r}: {_EXAMPLE}")
    return found


def _days(text: str | None, whole: str) -> Iterable[int]:
    if text is None:
        return range(7)
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first not in _DAYS or (last or first) not in _DAYS:
            raise ValueError(f"{whole!r}: days are {', '.join(_DAYS)}")
        day, end = _DAYS.index(first), _DAYS.index(last or first)
        found.add(day)
        while day != end:
            day = (day + 1) % 7
            found.add(day)
    return found


@dataclass(frozen=True, slots=True)
class Moment:
    """How the machine is now. None: that cannot be told here.

    Attributes:
        now: local time.
        load: share of the processor that is busy, 0 to 1.
        idle: seconds since somebody last used keyboard, mouse or terminal.
    """

    now: datetime
    load: float | None = None
    idle: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a slot may work. ``pause``: what runs is to be stopped where it is, not given back."""

    may_start: bool
    may_run: bool
    reason: str = ""
    pause: bool = False


OPEN = Verdict(may_start=True, may_run=True)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a slot works.

    Attributes:
        hours: windows; none: always.
        most_load: share of the processor that others may use when a task is begun.
        idle_minutes: how long nobody must have used the machine.
    """

    hours: tuple[Hours, ...] = ()
    most_load: float | None = None
    idle_minutes: float | None = None

    def __bool__(self) -> bool:
        return bool(self.hours) or self.most_load is not None or self.idle_minutes is not None

    def __str__(self) -> str:
        parts = [" and ".join(one.text for one in self.hours)] if self.hours else []
        if self.most_load is not None:
            parts.append(f"when the processor is less than {self.most_load:.0%} busy")
        if self.idle_minutes is not None:
            parts.append(f"when nobody has used the machine for {self.idle_minutes:g} min")
        return ", ".join(parts)

    def judge(self, moment: Moment) -> Verdict:
        """Say whether the slot may work. What cannot be told on this machine does not keep it from it."""
        if self.hours and not any(one.hold(moment.now) for one in self.hours):
            return Verdict(False, False, f"works {' and '.join(one.text for one in self.hours)} only")
        if self.idle_minutes is not None and moment.idle is not None and moment.idle < self.idle_minutes * 60:
            return Verdict(False, False, "somebody is using this machine", pause=True)
        if self.most_load is not None and moment.load is not None and moment.load > self.most_load:
            return Verdict(False, True, f"the processor is {moment.load:.0%} busy with other things")
        return OPEN


def idle_seconds(dev: Path = Path("/dev")) -> float | None:
    """Seconds since somebody last used this machine; None if neither logind nor a terminal tells.

    logind knows of desktops as well; terminals are dated by the system with each key that is pressed on them.
    """
    found = [seconds for seconds in (_logind(), _terminals(dev)) if seconds is not None]
    return min(found, default=None)


def _logind() -> float | None:
    program = shutil.which("loginctl")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "show", "--property=IdleHint", "--property=IdleSinceHint"],
            capture_output=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_logind(done.stdout.decode("utf-8", "replace"), time.time()) if done.returncode == 0 else None


def parse_logind(text: str, now: float) -> float | None:
    """Read ``IdleHint`` and ``IdleSinceHint`` (microseconds of Unix time) as ``loginctl show`` prints them."""
    said = dict(line.partition("=")[::2] for line in text.splitlines())
    if said.get("IdleHint") == "no":
        return 0.0
    since = said.get("IdleSinceHint", "")
    return max(0.0, now - int(since) / 1e6) if since.isdigit() and int(since) else None


def _terminals(dev: Path) -> float | None:
    times = []
    for terminal in dev.glob("pts/[0-9]*"):
        with contextlib.suppress(OSError):
            times.append(terminal.stat().st_atime)
    return max(0.0, time.time() - max(times)) if times else None


def processor_load(before: tuple[int, int] | None, now: tuple[int, int]) -> float | None:
    """Share of the processor that was busy between two looks at its busy and total ticks."""
    if before is None or now[1] <= before[1]:
        return None
    return min(1.0, max(0.0, (now[0] - before[0]) / (now[1] - before[1])))
