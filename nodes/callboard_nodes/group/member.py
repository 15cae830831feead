"""What a group is made of: the description of a member, what is reported about it, and its side of the ready pipe."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from callboard_core.errors import CallboardError

__all__ = ["NOTIFY_FD", "Ended", "Event", "Logged", "Member", "Ready", "Started", "notify", "notify_failure"]

#: Environment variable that names the file descriptor on which a member says that it is ready.
NOTIFY_FD = "NOTIFY_FD"


@dataclass(frozen=True, kw_only=True)
class Member:
    """A process of a group.

    Attributes:
        name: unique in the group.
        command: program and arguments.
        env: variables added to our own environment.
        needs: members that are stopped only after this one.
        tells_ready: the program calls :func:`notify`; else it counts as ready once started.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    tells_ready: bool = True


@dataclass(frozen=True, slots=True)
class Started:
    """A member's process runs."""

    name: str
    pid: int


@dataclass(frozen=True, slots=True)
class Ready:
    """A member answers; ``info`` is what it told with :func:`notify`."""

    name: str
    pid: int
    seconds: float
    info: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Logged:
    """A member wrote a line."""

    name: str
    line: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A member's process ended and was not asked to.

    Attributes:
        code: exit code, or minus the signal that killed it.
        ran_for: seconds.
        delay: seconds until it is started again; None when it will not be.
        looping: it ends again and again.
        reason: what it said was wrong, else its last log line.
        last_lines: the end of its log.
    """

    name: str
    code: int
    ran_for: float
    delay: float | None
    looping: bool
    reason: str
    last_lines: tuple[str, ...]


Event = Started | Ready | Logged | Ended


def notify(**info: Any) -> None:
    """Tell the supervisor, if there is one, that this process is ready; ``info`` must be JSON."""
    _tell({"ready": info})


def notify_failure(error: CallboardError, *, final: bool) -> None:
    """Tell the supervisor, if there is one, why this process ends; ``final``: trying again cannot help."""
    _tell({"error": error.message, "code": error.code, "final": final})


def _tell(message: Mapping[str, Any]) -> None:
    descriptor = os.environ.get(NOTIFY_FD)
    if descriptor is None:
        return
    try:
        os.write(int(descriptor), json.dumps(message).encode() + b"\n")
    except (OSError, ValueError):
        # Nobody listens (any more), so nobody needs to be told.
        os.environ.pop(NOTIFY_FD, None)
