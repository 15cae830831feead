"""Sends frames without ever waiting: what the socket does not take at once follows from a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from callboard_core.lane.wires import Wire

__all__ = ["LIMIT", "PATIENCE", "Sender"]

_log = logging.getLogger("callboard.lane")

#: Bytes that may wait for a peer that does not read; the connection is given up beyond.
LIMIT = 16 * 1024 * 1024
#: Seconds for which a peer may take nothing of what waits.
PATIENCE = 10.0


class Sender:
    """Thread-safe; frames go in the order of the calls.

    Args:
        wire: where to.
        broken: called, from any thread, when it does not work any more.
    """

    def __init__(self, wire: Wire, broken: Callable[[str], object]) -> None:
        self._wire, self._broken = wire, broken
        self._lock = threading.Lock()
        self._waiting: deque[bytes | memoryview] = deque()
        self._size = 0

    def send(self, frame: bytes) -> bool:
        """Send a frame; False if the connection is broken."""
        try:
            with self._lock:
                if not self._waiting:
                    written = self._wire.write(frame)
                    if written == len(frame):
                        return True
                    self._wait(memoryview(frame)[written:], first=True)
                else:
                    self._wait(frame, first=False)
        except (OSError, ValueError) as error:
            self._broken(f"it cannot be written to: {error}")
            return False
        return True

    def _wait(self, rest: bytes | memoryview, *, first: bool) -> None:
        if self._size + len(rest) > LIMIT:
            raise OSError("the other side reads too slowly")
        self._waiting.append(rest)
        self._size += len(rest)
        if first:
            threading.Thread(target=self._flush, name="lane-flush", daemon=True).start()

    def _flush(self) -> None:
        try:
            while self._wire.wait_writable(PATIENCE):
                with self._lock:
                    while self._waiting and self._write_first():
                        pass
                    if not self._waiting:
                        return
        except (OSError, ValueError) as error:
            self._broken(f"it cannot be written to: {error}")
        else:
            self._broken("the other side does not read")

    def _write_first(self) -> bool:
        """Write of what waits longest; True if more can be written."""
        first = self._waiting[0]
        written = self._wire.write(first)
        self._size -= written
        if written == len(first):
            self._waiting.popleft()
            return True
        self._waiting[0] = memoryview(first)[written:]
        return False
