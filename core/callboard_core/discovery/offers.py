"""What has answered a search so far. Fed by several threads; offers of the wanted site are taken in their order."""

from __future__ import annotations

import socket
import threading
from collections import deque

from callboard_core.discovery.wire import Found

__all__ = ["Offers"]


#: Offers of one search that are looked at: one network has no more boards, but may have somebody who makes them up.
MOST = 16


class Offers:
    """Collects offers, each once. Selectable: readable while one of the wanted site waits to be taken.

    Attributes:
        site: the wanted site; ``None`` for any.
        others: offers of other sites.
        ignored: answers that were none.
    """

    def __init__(self, site: str | None) -> None:
        self.site = site
        self.others: set[Found] = set()
        self.ignored = 0
        self._seen: set[Found] = set()
        self._waiting: deque[Found] = deque()
        self._lock = threading.Lock()
        self._reader, self._writer = socket.socketpair()

    def fileno(self) -> int:
        """For ``select``."""
        return self._reader.fileno()

    @property
    def first(self) -> Found | None:
        """The first offer of the wanted site that was not taken yet."""
        with self._lock:
            return self._waiting[0] if self._waiting else None

    def take(self) -> Found | None:
        """Return the first offer, and go on to the next."""
        with self._lock:
            if not self._waiting:
                return None
            self._reader.recv(1)
            return self._waiting.popleft()

    def add(self, found: Found) -> None:
        """Take an offer."""
        with self._lock:
            if self.site not in {None, found.site}:
                self.others.add(found)
            elif found not in self._seen and len(self._seen) < MOST:
                self._seen.add(found)
                self._waiting.append(found)
                self._writer.send(b"x")

    def refuse(self) -> None:
        """Count an answer that was none."""
        with self._lock:
            self.ignored += 1

    def close(self) -> None:
        """Free the sockets."""
        self._reader.close()
        self._writer.close()
