"""What has arrived and waits for its handlers: bounded, in order, handled on one thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from time import monotonic

from callboard_core.link.values import Message

__all__ = ["Handler", "Inbox"]

_log = logging.getLogger("callboard.link")

Handler = Callable[[Message], object]
_Item = tuple[Sequence[Handler], Message] | Callable[[], object]

#: Most bytes that wait, whatever the number of messages.
BYTE_LIMIT = 64 * 1024 * 1024
#: Seconds for which a full inbox keeps the network from being read.
PATIENCE = 2.0


class Inbox:
    """Messages between the network thread and the dispatcher thread, which runs their handlers.

    When it is full, the network is not read for up to ``patience`` seconds, so that a burst is slowed and not
    lost. If the handlers have not worked off half of it by then, the network is read again (acknowledgements,
    replies and pings must pass): QoS 0 messages are then dropped and counted, QoS 1 messages are kept but not
    acknowledged, and the broker's in-flight window (at most 65,535 messages) holds the rest back.
    """

    def __init__(
        self, name: str, limit: int, *, on_room: Callable[[], None], patience: float = PATIENCE
    ) -> None:
        self._name = name
        self._limit = limit
        self._on_room = on_room
        self._queue: SimpleQueue[list[_Item] | None] = SimpleQueue()
        self._fresh: list[_Item] = []  # arrived since the last release; touched by the network thread only
        # Each counter is written by one thread only; their differences need no lock.
        self._put_count = self._put_bytes = 0
        self._done_count = self._done_bytes = 0
        self._patience = patience
        self._full_since: float | None = None  # touched by the network thread only
        self._waiting_for_room = False
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def start(self) -> None:
        """Start the dispatcher thread."""
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    @property
    def inside(self) -> bool:
        """True on the dispatcher thread."""
        return threading.current_thread() is self._thread

    @property
    def full(self) -> bool:
        """True while there is no room for another message."""
        return self._load() >= 1

    def must_pause(self) -> bool:
        """Tell whether the network should not be read now; ``on_room`` is called when half is worked off."""
        load = self._load()
        if load < 1:
            if load <= 1 / 2:
                self._full_since = None
            return False
        self._waiting_for_room = True
        now = monotonic()
        if self._full_since is None:
            self._full_since = now
        return now - self._full_since < self._patience

    def offer(self, handlers: Sequence[Handler], message: Message) -> bool:
        """Take a message, to be handled from the next release on.

        Returns False if it should not be acknowledged yet (or was dropped).
        """
        full = self.full
        if full and message.qos == 0:
            self._count_drop(message)
            return False
        self._put_count += 1
        self._put_bytes += len(message.payload)
        self._fresh.append((handlers, message))
        return not full

    def mark(self, reached: Callable[[], object]) -> None:
        """Run ``reached`` once everything that arrived before has been handled; from the next release on."""
        self._fresh.append(reached)

    def release(self) -> None:
        """Let what has arrived be handled: all of it at once, for every hand-over wakes the other thread."""
        if self._fresh:
            fresh, self._fresh = self._fresh, []
            self._queue.put(fresh)

    def stop(self) -> None:
        """End the dispatcher once it reaches this point."""
        self._queue.put(None)

    def join(self, timeout: float) -> None:
        """Wait for the dispatcher's end, in seconds at most; returns at once on the dispatcher itself."""
        if self._thread is not None and not self.inside:
            self._thread.join(timeout)

    def _load(self) -> float:
        count, size = self._put_count - self._done_count, self._put_bytes - self._done_bytes
        return max(count / self._limit, size / BYTE_LIMIT)

    def _count_drop(self, message: Message) -> None:
        self.dropped += 1
        if self.dropped & (self.dropped - 1) == 0:  # 1, 2, 4, 8 …: visible without flooding the log
            _log.warning("%s: %d messages dropped, last on %s", self._name, self.dropped, message.topic)

    def _run(self) -> None:
        while (items := self._queue.get()) is not None:
            for item in items:
                if isinstance(item, tuple):
                    self._handle(*item)
                else:
                    self._try(item)

    def _handle(self, handlers: Sequence[Handler], message: Message) -> None:
        for handler in handlers:
            try:
                handler(message)
            except Exception:  # noqa: BLE001 - whatever it was, the thread must go on
                _log.exception("%s: a handler of %s failed", self._name, message.topic)
        self._done_count += 1
        self._done_bytes += len(message.payload)
        if self._waiting_for_room and self._load() <= 1 / 2:
            self._waiting_for_room = False
            self._on_room()

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception:  # noqa: BLE001 - whatever it was, the thread must go on
            _log.exception("%s: work failed", self._name)
