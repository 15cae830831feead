"""What has answered a search so far. Fed by several threads; the first offer of the wanted site wins."""

from __future__ import annotations

import socket
import threading

from callboard_core.discovery.wire import Found

__all__ = ["Offers"]


class Offers:
    """Collects offers. Selectable: becomes readable with the first offer of the wanted site.

    Attributes:
        site: the wanted site; ``None`` for any.
        first: the first offer of that site.
        others: offers of other sites.
        ignored: answers that were none.
    """

    def __init__(self, site: str | None) -> None:
        self.site = site
        self.first: Found | None = None
        self.others: set[Found] = set()
        self.ignored = 0
        self._lock = threading.Lock()
        self._reader, self._writer = socket.socketpair()

    def fileno(self) -> int:
        """For ``select``."""
        return self._reader.fileno()

    def add(self, found: Found) -> None:
        """Take an offer."""
        with self._lock:
            if self.site not in {None, found.site}:
                self.others.add(found)
            elif self.first is None:
                self.first = found
                self._writer.send(b"x")

    def refuse(self) -> None:
        """Count an answer that was none."""
        with self._lock:
            self.ignored += 1

    def close(self) -> None:
        """Free the sockets."""
        self._reader.close()
        self._writer.close()
