"""What waits to be sent: bounded, in order, and held back while there is no connection. No I/O."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from callboard_core.errors import Overloaded

__all__ = ["Outbox", "Outgoing", "fail", "settle"]

#: Most bytes that wait, whatever the number of messages.
BYTE_LIMIT = 64 * 1024 * 1024


@dataclass(slots=True, eq=False)
class Outgoing:
    """One message to send and the futures of those who wait for it, the publisher's own last (if it waits).

    ``deadline`` is on the monotonic clock; after it the message is not sent any more. An ``urgent`` one was sent
    by a greeting: if its publisher waits for it, it belongs to that connection, and the next greeting says it anew.
    """

    topic: str
    payload: bytes
    qos: int
    retain: bool
    deadline: float | None = None
    futures: list[Future[None]] = field(default_factory=list)
    urgent: bool = False

    def orphan(self) -> Outgoing:
        """Split off the publisher's own future; what is left waits for those whose message this replaced."""
        return replace(self, futures=[self.futures.pop()])


def settle(items: Iterable[Outgoing]) -> None:
    """Tell those who wait that the messages are out."""
    for item in items:
        for future in item.futures:
            if future.set_running_or_notify_cancel():
                future.set_result(None)


def fail(items: Iterable[Outgoing], error: Exception) -> None:
    """Tell those who wait that the messages will never go out."""
    for item in items:
        for future in item.futures:
            if future.set_running_or_notify_cancel():
                future.set_exception(error)


class Outbox:
    """Messages in the order they were published. Thread-safe.

    While it is held (no connection, or the connection's greeting is under way) a retained message replaces
    an earlier one of the same topic that still waits, so that a state of yesterday never overwrites today's
    and a long absence costs one message per topic. Only urgent messages pass a held outbox.
    """

    def __init__(self, limit: int, byte_limit: int = BYTE_LIMIT) -> None:
        self._limit = limit
        self._byte_limit = byte_limit
        self._bytes = 0
        self._lock = threading.Lock()
        self._held = True
        self._urgent: deque[Outgoing] = deque()
        self._backlog: OrderedDict[int, Outgoing] = OrderedDict()
        self._retained: dict[str, Outgoing] = {}  # the waiting ones by topic; kept only while held

    def __len__(self) -> int:
        return len(self._backlog) + len(self._urgent)

    def put(self, item: Outgoing, *, urgent: bool = False) -> None:
        """Add a message.

        Raises:
            Overloaded: the outbox is full.
        """
        with self._lock:
            replaced = self._held and item.retain and self._supersede(item)
            if urgent:
                item.urgent = True
                self._urgent.append(item)
                return
            if not replaced and (len(self._backlog) >= self._limit or self._bytes >= self._byte_limit):
                raise Overloaded(f"{len(self._backlog)} messages already wait to be sent; try again later")
            self._append(item)

    def take(self, room: int, now: float) -> tuple[list[Outgoing], list[Outgoing]]:
        """Remove up to ``room`` messages that may go now; returns (to send, too late to send)."""
        ready: list[Outgoing] = []
        late: list[Outgoing] = []
        with self._lock:
            while self._urgent and len(ready) < room:
                ready.append(self._urgent.popleft())
            while not self._held and self._backlog and len(ready) < room:
                item = self._backlog.popitem(last=False)[1]
                self._bytes -= len(item.payload)
                (late if item.deadline is not None and item.deadline < now else ready).append(item)
        return ready, late

    def give_back(self, items: Iterable[Outgoing]) -> list[Outgoing]:
        """Hold the outbox and put what was sent but not acknowledged in front again, in its order.

        Returns what is not sent again because the next greeting says it anew.
        """
        orphans: list[Outgoing] = []
        with self._lock:
            self._held = True
            waiting = [*items, *self._urgent, *self._backlog.values()]
            self._urgent.clear()
            self._backlog.clear()
            self._retained.clear()
            self._bytes = 0
            for item in waiting:
                if item.urgent and item.futures:
                    orphans.append(item.orphan())
                    if not item.futures:
                        continue
                item.urgent = False
                if item.retain:
                    self._supersede(item)
                self._append(item)
        return orphans

    def release(self) -> None:
        """Let everything go."""
        with self._lock:
            self._held = False
            self._retained.clear()

    def clear(self) -> list[Outgoing]:
        """Remove and return everything."""
        with self._lock:
            everything = [*self._urgent, *self._backlog.values()]
            self._urgent.clear()
            self._backlog.clear()
            self._retained.clear()
            self._bytes = 0
        return everything

    def _append(self, item: Outgoing) -> None:
        self._backlog[id(item)] = item
        self._bytes += len(item.payload)
        if self._held and item.retain:
            self._retained[item.topic] = item

    def _supersede(self, item: Outgoing) -> bool:
        older = self._retained.pop(item.topic, None)
        if older is None:
            return False
        del self._backlog[id(older)]
        self._bytes -= len(older.payload)
        item.futures[:0] = older.futures
        return True
