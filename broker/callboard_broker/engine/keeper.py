"""Keeps the directory of a Mosquitto true when it is killed.

Mosquitto saves everything or nothing, by a timer. This asks for a save right after the directory changed
(cards, statuses), which is rare, and leaves the values, which change all the time, to the timer. And after a
start it calls the roll of the nodes that were alive before.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time

from callboard_broker.access.rules import AUDIT_FEED
from callboard_broker.engine.rollcall import RollCall
from callboard_core.cards import NodeCard, parse_card
from callboard_core.errors import CallboardError
from callboard_core.link import Credential, Endpoint, Link, Message
from callboard_core.messages import Status, StatusName, parse
from callboard_core.topics import every_card, every_status
from callboard_core.topics import status as status_topic

__all__ = ["Keeper"]

#: Seconds in which further changes are waited for, so that a burst of cards is one save.
_SETTLE = 0.1
#: Least seconds between two saves: a save stalls the broker for some milliseconds.
_EVERY = 0.5
#: Seconds between two looks for nodes that are overdue.
_LOOK = 1.0
#: Connections of this link after the first say nothing about the broker's start.
_FIRST = 1

log = logging.getLogger(__name__)


class Keeper:
    """Watches the directory of a Mosquitto that has just been started.

    Args:
        endpoint: where it listens.
        site: whose directory to watch.
        credential: one that may read the directory and publish statuses.
        pid: the process; it is sent ``SIGUSR1`` (save now).
    """

    def __init__(self, endpoint: Endpoint, site: str, credential: Credential, pid: int) -> None:
        self._pid = pid
        self._site = site
        self._changed = threading.Event()
        self._stopped = threading.Event()
        self._roll = RollCall(time.monotonic())
        self._link = Link(client_id="board-keeper", endpoint=endpoint, site=site, credential=credential)
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Start watching; returns at once."""
        self._link.subscribe(every_status(self._site), self._on_status, qos=0)
        self._link.subscribe(every_card(self._site), self._on_card, qos=0)
        self._link.start()
        self._link.later(_LOOK, self._look)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()
        self._changed.set()
        with contextlib.suppress(CallboardError):
            self._link.stop(timeout=0.5)
        self._thread.join()

    def tell_audit(self, entries: bytes) -> None:
        """Tell the board of log-ins that were refused."""
        with contextlib.suppress(CallboardError):
            self._link.publish(AUDIT_FEED, entries, qos=1)

    def _on_status(self, message: Message) -> None:
        node = message.topic.split("/")[1]
        if not message.retain:
            self._roll.heard(node)
            self._changed.set()
        elif message.session == _FIRST:
            with contextlib.suppress(CallboardError):
                self._roll.remembered(node, parse(Status, message.payload))

    def _on_card(self, message: Message) -> None:
        if not message.retain:
            self._changed.set()
        with contextlib.suppress(CallboardError):
            card = parse_card(message.payload)
            if isinstance(card, NodeCard):
                self._roll.keepalive(card.name, card.keepalive)

    def _look(self) -> None:
        for node, status in self._roll.overdue(time.monotonic()).items():
            log.warning("%s was alive before the broker's start and has not come back: lost", node)
            lost = status.model_copy(update={"status": StatusName.LOST, "t": time.time()})
            with contextlib.suppress(CallboardError):
                self._link.publish(status_topic(self._site, node), lost, qos=1, retain=True)
        if not self._stopped.is_set() and (self._roll or not self._link.connected):
            self._link.later(_LOOK, self._look)

    def _run(self) -> None:
        while self._changed.wait() and not self._stopped.wait(_SETTLE):
            self._changed.clear()
            try:
                os.kill(self._pid, signal.SIGUSR1)
            except ProcessLookupError:
                return  # mosquitto is gone; nothing to save
            self._stopped.wait(_EVERY - _SETTLE)
