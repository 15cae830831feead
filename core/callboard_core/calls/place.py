"""Where this process runs, and how near another one is."""

from __future__ import annotations

import hashlib
import os
import secrets
import uuid
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Protocol

__all__ = ["Nearness", "Place", "here", "nearness"]

#: Made anew at every boot of a machine and the same for all of its processes (Linux, random(4)).
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Nearness(IntEnum):
    """How near a worker is; nearer ones are asked first."""

    PROCESS = 0
    HOST = 1
    SITE = 2


@dataclass(frozen=True, slots=True)
class Place:
    """A process and the machine it runs on, as cards name them."""

    host: str
    process: str


class Placed(Protocol):
    """What a worker's card tells of its place and of how far it may be used."""

    @property
    def host(self) -> str | None:
        """The machine."""

    @property
    def process(self) -> str | None:
        """The process."""

    @property
    def scope(self) -> str:
        """``process``, ``host`` or ``site``."""


def here() -> Place:
    """Return this process's place."""
    return _place(os.getpid())


def nearness(card: Placed, place: Place) -> Nearness | None:
    """Return how near a worker is to ``place``, or None if it may not be used from there."""
    if card.process == place.process:
        found = Nearness.PROCESS
    else:
        found = Nearness.HOST if card.host == place.host else Nearness.SITE
    return found if found <= Nearness[card.scope.upper()] else None


@cache
def _place(pid: int) -> Place:
    host = _host()
    return Place(host, f"{host}/{pid}/{secrets.token_hex(4)}")


def _host() -> str:
    try:
        seed = _BOOT_ID.read_text("ascii")
    except OSError:
        seed = str(uuid.getnode())
    return hashlib.sha256(seed.strip().encode()).hexdigest()[:12]
