"""Who learns of it: everybody on the board, by an event without secrets, and the audit log."""

from __future__ import annotations

import contextlib
import time

from callboard_broker.services.audit import Audit
from callboard_broker.store.enrolments import EnrolmentRecord
from callboard_core.errors import CallboardError
from callboard_core.link import Link
from callboard_core.messages import Event
from callboard_core.topics import BOARD, event

__all__ = ["Told"]


class Told:
    """Publishes ``enrolment`` and ``trust`` events of the board. Safe from any thread."""

    def __init__(self, link: Link, audit: Audit) -> None:
        self._link = link
        self._audit = audit

    def enrolment(self, record: EnrolmentRecord) -> None:
        """Somebody asked to be let in, or was decided about."""
        self._audit.note(
            record.by or record.node,
            f"enrol.{record.state}",
            record.node,
            record.address,
            detail=record.reason,
        )
        data = {
            "number": record.number,
            "id": record.node,
            "state": record.state,
            "reason": record.reason,
            "label": record.label,
            "host": record.host,
            "address": record.address,
        }
        self._publish("enrolment", Event(t=time.time(), message=f"{record.node}: {record.state}", data=data))

    def rotation(self, what: str) -> None:
        """The authority was replaced (``rotate``), or the old one counts no more (``finish``)."""
        self._publish("trust", Event(t=time.time(), message=what, data={"what": what}))

    def _publish(self, name: str, what: Event) -> None:
        # Whoever was away asks over HTTP.
        with contextlib.suppress(CallboardError):
            self._link.publish(event(self._link.site, BOARD, name), what, qos=1)
