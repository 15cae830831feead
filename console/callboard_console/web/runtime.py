"""The one console of this server process, and whose session a page run belongs to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import streamlit as st

from callboard_console.web.sessions import COOKIE, Session, Sessions
from callboard_console.web.snapshot import Snapshot, Topics
from callboard_console.web.views.overview import Joining

__all__ = ["Console", "Source", "current", "install", "session"]


class Source(Protocol):
    """Where snapshots come from: the feed, or a fake in tests."""

    def snapshot(self) -> Snapshot:
        """Return the newest snapshot; costs nothing."""

    def topics(self) -> Topics:
        """Return every retained message."""

    def sweep(self) -> None:
        """Look again for retained messages outside the usual tree; returns at once."""


@dataclass(frozen=True, slots=True)
class Console:
    """What the pages share."""

    site: str
    source: Source
    sessions: Sessions
    joining: Joining = field(default_factory=Joining)


_installed: Console | None = None


def install(console: Console | None) -> None:
    """Set (or clear) the console of this process."""
    global _installed  # noqa: PLW0603 - one server process, one console
    _installed = console


def current() -> Console:
    """Return the console of this process."""
    if _installed is None:
        raise RuntimeError("the console is not running: start it with `callboard up`")
    return _installed


def session() -> Session | None:
    """Return the session of the browser this run is for, None once it is over."""
    return current().sessions.get(st.context.cookies.get(COOKIE))
