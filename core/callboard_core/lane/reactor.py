"""One thread that reads the lanes nobody else reads, and looks after all of them."""

from __future__ import annotations

import logging
import select
import threading
from collections.abc import Callable
from time import monotonic

from callboard_core.lane.line import Line

__all__ = ["Reactor", "available"]

_log = logging.getLogger("callboard.lane")

#: Seconds between two looks.
LOOK = 0.25


def available() -> bool:
    """Tell whether the system has what lanes need (Linux)."""
    return hasattr(select, "epoll")


class Reactor:
    """Thread-safe. The thread starts with the first lane and ends with :meth:`stop`."""

    def __init__(self, name: str, renew: Callable[[Line], None]) -> None:
        self._name, self._renew = name, renew
        self._epoll = select.epoll()
        self._lock = threading.Lock()
        self._lines: dict[int, Line] = {}
        self._thread: threading.Thread | None = None
        self._stopped = False

    def add(self, line: Line) -> None:
        """Look after a lane; its end is noticed, what it brings is read once it is armed."""
        with self._lock:
            number = line.fileno()
            self._lines[number] = line
            self._epoll.register(number, select.EPOLLRDHUP)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def arm(self, line: Line) -> None:
        """Have what comes read."""
        self._change(line, select.EPOLLIN | select.EPOLLRDHUP)

    def disarm(self, line: Line) -> None:
        """Leave it to others."""
        self._change(line, select.EPOLLRDHUP)

    def remove(self, line: Line) -> None:
        """Look after a lane no more; its socket is closed."""
        with self._lock:
            self._lines = {number: one for number, one in self._lines.items() if one is not line}

    def lines(self) -> list[Line]:
        """Those it looks after."""
        with self._lock:
            return list(self._lines.values())

    def stop(self) -> None:
        """End the thread soon."""
        self._stopped = True

    def _change(self, line: Line, events: int) -> None:
        try:
            self._epoll.modify(line.fileno(), events)
        except (OSError, ValueError) as error:
            _log.debug("a lane is over already: %s", error)

    def _run(self) -> None:
        look_at = monotonic() + LOOK
        while not self._stopped:
            for number, events in self._epoll.poll(max(0.0, look_at - monotonic())):
                line = self._lines.get(number)
                if line is not None:
                    self._serve(line, events)
            if (now := monotonic()) >= look_at:
                look_at = now + LOOK
                for line in self.lines():
                    line.look(now, self._renew)
        self._epoll.close()

    def _serve(self, line: Line, events: int) -> None:
        line.read_ready()
        if events & (select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR) and not line.over:
            self._change(line, 0)  # a caller reads it just now, and will find that it has ended
