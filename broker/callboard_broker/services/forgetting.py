"""Forgetting a node: everything retained under its id is cleared, wherever it came from."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from time import monotonic

from callboard_broker.services.historian import Historian
from callboard_broker.services.registry import Registry
from callboard_core.errors import CallboardError, Conflict, TimedOut, Unavailable
from callboard_core.link import Link, Message
from callboard_core.topics import status

__all__ = ["Forgetting"]

#: Seconds for all of it.
_TIMEOUT = 15.0


class Forgetting:
    """Blocks while the broker is asked; do not use it on the link's own threads."""

    def __init__(
        self, link: Link, registry: Registry, historian: Historian, withdraw: Callable[[str], object]
    ) -> None:
        self._link = link
        self._registry = registry
        self._historian = historian
        self._withdraw = withdraw

    def forget(self, node: str) -> int:
        """Clear all that is retained under an offline node and make its credential worthless; its history stays.

        Returns how many messages were cleared.

        Raises:
            NotFound: there is no such node.
            Conflict: the node is online and would come back at once.
            Unavailable: the broker does not answer.
        """
        if self._registry.node(node).live:
            raise Conflict(f"node {node} is online; stop it first, then forget it")
        if not self._link.connected:
            raise Unavailable("the broker does not answer; try again when it is back")
        deadline = monotonic() + _TIMEOUT
        self._withdraw(node)
        found = self._retained(node, deadline)
        # The status goes last: until then the node is in the list, and forgetting can be repeated.
        last = status(self._link.site, node)
        for topic in sorted(found, key=lambda one: (one == last, one)):
            _wait(self._link.publish(topic, b"", qos=1, retain=True), deadline)
        self._historian.forget(node)
        self._registry.forgotten(node)
        return len(found)

    def _retained(self, node: str, deadline: float) -> set[str]:
        found: set[str] = set()

        def note(message: Message) -> None:
            if message.retain and message.payload:
                found.add(message.topic)

        subscription = self._link.subscribe(f"{self._link.site}/{node}/#", note, qos=0)
        try:
            _wait(subscription.ready, deadline)
            _wait(self._link.round_trip(_TIMEOUT), deadline)
        finally:
            subscription.cancel()
        return found


def _wait(future: Future[None], deadline: float) -> None:
    try:
        future.result(max(0.0, deadline - monotonic()))
    except FutureTimeout:
        raise TimedOut("the broker did not answer in time; forget the node again") from None
    except CallboardError as error:
        raise Unavailable(f"the broker does not answer ({error.message}); forget the node again") from error
