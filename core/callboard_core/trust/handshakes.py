"""Tells of TLS handshakes that fail: of clients that are too old, that trust somebody else, or that speak no TLS at all."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable

__all__ = ["tell_failures"]

_log = logging.getLogger(__name__)

#: Seconds between two lines in the log for one reason; what fails in between is counted.
_EVERY = 10.0


def tell_failures(context: ssl.SSLContext, where: str, clock: Callable[[], float] = time.monotonic) -> None:
    """Have a server's context log the handshakes that fail.

    Python says no more than why: whoever fails never becomes a connection whose address could be asked for.

    Args:
        context: of a listener.
        where: names it in the log.
        clock: seconds.
    """
    failures = _Failures(where, clock)

    class Watched(ssl.SSLObject):
        """A connection's TLS."""

        def do_handshake(self) -> None:
            """Go on with the handshake."""
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise  # it goes on
            except ssl.SSLError as error:
                failures.note(error)
                raise

    context.sslobject_class = Watched


class _Failures:
    def __init__(self, where: str, clock: Callable[[], float]) -> None:
        self._where = where
        self._clock = clock
        # By reason, of which OpenSSL has so many and no more: when it was told last, and how often it was not since.
        self._told: dict[str, tuple[float, int]] = {}

    def note(self, error: ssl.SSLError) -> None:
        reason, now = (error.reason or type(error).__name__).lower().replace("_", " "), self._clock()
        last, untold = self._told.get(reason, (-_EVERY, 0))
        if now - last < _EVERY:
            self._told[reason] = last, untold + 1
            return
        self._told[reason] = now, 0
        more = f", as did {untold} before it" if untold else ""
        _log.warning("a TLS handshake of %s failed: %s%s", self._where, reason, more)
