"""Workers for the command line: listening to heartbeats for a moment, and the rows of ``callboard ls workers``."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from callboard_core.calls.sessions import Session
    from callboard_core.calls.survey import Member, Service
    from callboard_core.link import Link, Message
    from callboard_core.view import Entry

__all__ = ["COLUMNS", "Ear", "seconds_text", "shown_rows", "worker_rows"]

#: Seconds to listen at most, and for sessions at least: heartbeats come every 1.5 s unless a worker says otherwise.
LISTEN, LISTEN_FOR_SESSIONS = 3.5, 2.0
COLUMNS = ["service", "node", "name", "state", "running", "waiting", "p50", "p95", "done", "errors"]


class Ear:
    """Hears the heartbeats of a site over a link, from the start on."""

    def __init__(self, link: Link) -> None:
        from callboard_core.calls.sessions import Sessions
        from callboard_core.calls.survey import HEARTBEAT, Survey
        from callboard_core.topics import event

        self._changed = threading.Condition()
        self._survey, self._sessions = Survey(time.monotonic()), Sessions()
        link.subscribe(event(link.site, "+", HEARTBEAT), self._take, qos=0)

    def listen(self, entries: Iterable[Entry], *, at_least: float = 0.0, at_most: float = LISTEN) -> None:
        """Wait until every node was heard that offers one of these workers and has a heartbeat, or time is up."""
        awaited = {one.node for one in entries if one.live and getattr(one.card, "heartbeat", None)}
        began = time.monotonic()
        with self._changed:
            self._changed.wait_for(lambda: all(map(self._survey.heard, awaited)), at_most)
            left = began + at_least - time.monotonic()
            if left > 0:
                self._changed.wait_for(lambda: False, left)

    def services(self, entries: Iterable[Entry]) -> list[Service]:
        """Return every service of these workers, with what was heard."""
        with self._changed:
            return self._survey.services(entries, time.monotonic())

    def sessions(self) -> list[Session]:
        """Return who calls whom."""
        with self._changed:
            return self._sessions.live(time.monotonic())

    def _take(self, message: Message) -> None:
        from callboard_core.errors import CallboardError
        from callboard_core.messages import Event, parse

        try:
            data = parse(Event, message.payload).data
        except CallboardError:
            return
        node = message.topic.split("/")[1]
        with self._changed:
            self._survey.note(node, data, time.monotonic())
            self._sessions.note(node, data, time.monotonic())
            self._changed.notify_all()


def worker_rows(services: Collection[Service]) -> list[dict[str, Any]]:
    """Return one row per worker; times in seconds, None where nothing was told."""
    return [_row(service, member) for service in services for member in service.members]


def _row(service: Service, member: Member) -> dict[str, Any]:
    from dataclasses import asdict

    from callboard_core.calls.survey import Report

    told = asdict(member.report) if member.report else dict.fromkeys(asdict(Report()))
    return {
        "service": service.name,
        "node": member.node,
        "kind": "worker",
        "name": member.name,
        "label": member.card.label or "",
        "state": member.standing.value,
        "live": member.standing.value != "away",
        **told,
        "concurrency": member.card.concurrency,
        "host": member.card.host,
        "pid": member.pid,
        "tags": member.card.tags,
    }


def shown_rows(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows as people read them."""
    return [
        {
            **{key: "-" if value is None else value for key, value in row.items()},
            "p50": seconds_text(row["p50"]),
            "p95": seconds_text(row["p95"]),
            "running": "-" if row["running"] is None else f"{row['running']}/{row['concurrency']}",
            "errors": "-" if row["failed"] is None else row["failed"] + row["refused"],
        }
        for row in rows
    ]


def seconds_text(seconds: float | None) -> str:
    """Return a short time as people read it: ``0.8 ms``, ``45 ms``, ``1.2 s``."""
    if seconds is None:
        return "-"
    if seconds < 0.9995:  # noqa: PLR2004 - from there on it rounds to 1 s
        return f"{seconds * 1000:.1f} ms" if seconds < 0.00995 else f"{seconds * 1000:.0f} ms"  # noqa: PLR2004
    return f"{seconds:.1f} s"
