"""The heartbeat of a node that offers workers: proof, every so often, that its process makes progress."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from time import monotonic

from callboard_core import topics
from callboard_core.errors import CallboardError
from callboard_core.link import Link
from callboard_core.messages import Event, JsonObject

__all__ = ["Heartbeat"]

_log = logging.getLogger("callboard.node")

#: Beats after which an event loop that has not answered counts as stuck.
MISSED = 2


class Heartbeat:
    """Publishes the event ``heartbeat`` (QoS 0) from a thread of its own, while the node's event loop turns.

    Args:
        link: where to.
        site: first level of the topic.
        node: whose heartbeat it is.
        every: seconds between two.
        loop: the loop that must turn.
        tell: what each beat says.
    """

    def __init__(
        self,
        link: Link,
        *,
        site: str,
        node: str,
        every: float,
        loop: asyncio.AbstractEventLoop,
        tell: Callable[[], JsonObject],
    ) -> None:
        self._link, self._loop, self._tell = link, loop, tell
        self._topic = topics.event(site, node, "heartbeat")
        self._every = every
        self._turned = monotonic()
        self._stuck = False
        self._stopped = False
        self._due = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{node}-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat; also at every connect, so that callers who came back know at once."""
        self._thread.start()
        self._link.on_connect(self._due.set)

    def stop(self) -> None:
        """Beat no more."""
        self._stopped = True
        self._due.set()

    def _run(self) -> None:
        while not self._stopped:
            self._due.clear()
            self._beat()
            self._due.wait(self._every)

    def _beat(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._note_turn)
            if self._turns() and self._link.connected:
                self._link.publish(
                    self._topic, Event(t=time.time(), data=self._tell()), expires_in=self._every
                )
        except (CallboardError, RuntimeError) as error:  # nobody can hear it, or the loop was closed
            _log.debug("no heartbeat: %s", error)

    def _note_turn(self) -> None:
        self._turned = monotonic()

    def _turns(self) -> bool:
        stuck = monotonic() - self._turned > MISSED * self._every
        if stuck and not self._stuck:
            _log.error("the event loop is stuck, so nobody is given more work; does an async function block?")
        self._stuck = stuck
        return not stuck
