"""Commands over MQTT in the audit log: told by the embedded broker, else read along with the site's messages."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from pydantic import TypeAdapter, ValidationError

from callboard_broker.access.rules import AUDIT_FEED
from callboard_broker.services.audit import Audit
from callboard_broker.services.ledger import Entry, Ledger
from callboard_core.link import Link, Message

__all__ = ["CommandLog"]

_log = logging.getLogger(__name__)

_ENTRIES = TypeAdapter(list[Entry])
#: Entries taken at a time.
_MOST = 1000


class CommandLog:
    """Call :meth:`tidy` every few seconds.

    Args:
        audit: where it is noted.
        site: first level of topics.
        told: whether the broker tells who has sent what. Others don't: then the reply topic is all there is to say who
            it was, and the record says so.
        kept_out: whether a broker that does not tell that tells at least whom it has kept out.
    """

    def __init__(
        self,
        audit: Audit,
        site: str,
        *,
        told: bool,
        kept_out: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._audit = audit
        self._site = site
        self._told = told
        self._kept_out = kept_out
        self._clock = clock
        self._lock = threading.Lock()
        self._ledger = Ledger(site, trusting=True)

    def listen(self, link: Link) -> None:
        """Subscribe."""
        if self._told or self._kept_out:
            link.subscribe(AUDIT_FEED, self.on_entries, qos=1)
        if not self._told:
            link.subscribe(f"{self._site}/+/command/#", self.on_message, qos=0)
            link.subscribe(f"{self._site}/+/reply", self.on_message, qos=0)

    def on_entries(self, message: Message) -> None:
        """Note what the broker tells."""
        try:
            self._note(_ENTRIES.validate_json(message.payload))
        except ValidationError as error:
            _log.error("the broker's account of commands cannot be read: %s", error)

    def on_message(self, message: Message) -> None:
        """Read along."""
        with self._lock:
            self._ledger.saw(self._clock(), "", "", "", message.topic, message.payload)

    def tidy(self) -> None:
        """Note what was read along."""
        with self._lock:
            found = self._ledger.take(_MOST) if self._ledger.settle(self._clock()) else []
        self._note(found)

    def _note(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            who = entry.user or (f"({entry.client})" if entry.client else "")
            detail = entry.detail
            if not entry.user and entry.client:
                detail = "; ".join(
                    filter(None, ["by its reply topic; the broker does not tell the user", detail])
                )
            self._audit.note(
                who,
                entry.what,
                entry.topic or entry.user,
                f"{entry.address} {entry.client}".strip(),
                entry.result,
                detail,
                count=entry.times,
                t=entry.t,
            )
