"""Keeps Mosquitto's store on disk up to date with the directory.

Mosquitto saves everything or nothing, by a timer. This asks for a save right after the directory changed
(cards, statuses), which is rare, and leaves the values, which change all the time, to the timer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading

from callboard_core.errors import CallboardError
from callboard_core.link import Credential, Endpoint, Link, Message
from callboard_core.topics import every_card, every_status

__all__ = ["Keeper"]

#: Seconds in which further changes are waited for, so that a burst of cards is one save.
_SETTLE = 0.1
#: Least seconds between two saves: a save stalls the broker for some milliseconds.
_EVERY = 0.5

log = logging.getLogger(__name__)


class Keeper:
    """Sends ``SIGUSR1`` (save now) to a Mosquitto after changes of the directory.

    Args:
        endpoint: where it listens.
        site: whose directory to watch.
        credential: one that may read the directory.
        pid: the process.
    """

    def __init__(self, endpoint: Endpoint, site: str, credential: Credential, pid: int) -> None:
        self._pid = pid
        self._changed = threading.Event()
        self._stopped = threading.Event()
        self._link = Link(client_id="board-keeper", endpoint=endpoint, site=site, credential=credential)
        self._filters = (every_card(site), every_status(site))
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Start watching; returns at once."""
        for topic_filter in self._filters:
            self._link.subscribe(topic_filter, self._on_message, qos=0)
        self._link.start()
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()
        self._changed.set()
        with contextlib.suppress(CallboardError):
            self._link.stop(timeout=0.5)
        self._thread.join()

    def _on_message(self, message: Message) -> None:
        if not message.retain:  # what is retained already is on disk, or will be with the next change
            self._changed.set()

    def _run(self) -> None:
        while self._changed.wait() and not self._stopped.wait(_SETTLE):
            self._changed.clear()
            try:
                os.kill(self._pid, signal.SIGUSR1)
            except ProcessLookupError:
                log.debug("mosquitto is gone; nothing to save")
                return
            self._stopped.wait(_EVERY - _SETTLE)
