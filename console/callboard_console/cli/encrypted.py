"""The encrypted listeners as a client finds them: whether they answer, and what certificate they show."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from callboard_core.addresses import join_address
from callboard_core.errors import CallboardError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ssl import SSLContext

    from callboard_core.runtime import Lan

__all__ = ["Seen", "handshake", "look", "verdict"]

#: Seconds a listener has for its handshake.
_ANSWER = 4.0
#: Days before the certificate's end from which on it has to be replaced.
_WARN_DAYS = 60
_DAY = 86_400.0


@dataclass(frozen=True)
class Seen:
    """What one listener showed.

    Attributes:
        part: which one.
        at: ``host:port`` where it was looked for.
        fault: why it is of no use, with a remedy; empty when a client that trusts the board gets through.
        ends: until when its certificate is valid, Unix seconds.
        names: the names and addresses that the certificate is for.
    """

    part: str
    at: str
    fault: str = ""
    ends: float = 0.0
    names: frozenset[str] = frozenset()


def look(lan: Lan) -> list[Seen]:
    """Look at every encrypted listener of a board on this machine, as somebody who trusts its authorities only."""
    from callboard_core.listening import reachable
    from callboard_core.trust import pinned_context

    places = {"mqtts": lan.mqtts, "wss": lan.wss, "https": lan.https, "console-https": lan.console}
    there = {part: (reachable(lan.bind), at.port) for part, at in places.items() if at is not None}
    try:
        context = pinned_context(lan.ca.with_name("bundle.crt").read_text())
    except (OSError, CallboardError) as error:
        fault = f"the authorities in {lan.ca.parent} cannot be read ({error}); restart the board, which mends them"
        return [Seen(part, join_address(*at), fault) for part, at in there.items()]
    return [handshake(part, at, context) for part, at in there.items()]


def handshake(part: str, at: tuple[str, int], context: SSLContext) -> Seen:
    """Connect to one listener, and return what it showed; ``context`` decides whether it convinces."""
    import socket
    import ssl

    where = join_address(*at)
    try:
        with (
            socket.create_connection(at, timeout=_ANSWER) as plain,
            context.wrap_socket(plain) as secure,
        ):
            shown: Any = secure.getpeercert()
    except ssl.SSLCertVerificationError as error:
        fault = (
            f"its certificate does not convince who trusts this board ({error.verify_message}); restart the board, "
            "and where it was pinned pin it again"
        )
        return Seen(part, where, fault)
    except ssl.SSLError as error:
        return Seen(part, where, f"no TLS with it ({error.reason or error}); see whose port it is")
    except OSError as error:
        return Seen(part, where, f"it does not answer ({error.strerror or error}); restart the board")
    names = frozenset(_plain(name) for _, name in shown.get("subjectAltName", ()))
    return Seen(part, where, ends=ssl.cert_time_to_seconds(shown["notAfter"]), names=names)


def verdict(seen: Seen, reached_by: Iterable[str], now: float | None = None) -> tuple[bool, str]:
    """Tell whether a listener is as it should be, and what to say of it.

    Args:
        seen: what it showed.
        reached_by: the names and addresses by which others reach it.
        now: Unix seconds; this moment when None.
    """
    if seen.fault:
        return False, f"{seen.at}: {seen.fault}"
    days = int((seen.ends - (time.time() if now is None else now)) / _DAY)
    if days < _WARN_DAYS:
        return False, f"{seen.at}: its certificate ends in {days} days; replace it: callboard trust rotate"
    missing = [name for name in reached_by if _plain(name) not in seen.names]
    if missing:
        return False, (
            f"{seen.at}: its certificate does not name {', '.join(missing)}, so browsers and other MQTT clients refuse it "
            "there; restart the board, which makes a new one (further names: lan.names)"
        )
    return True, f"{seen.at}, certificate by this board, good for {days} days, names {', '.join(reached_by)}"


def _plain(name: str) -> str:
    """An IP address in its usual spelling, which OpenSSL's is not; a name in small letters."""
    import ipaddress

    try:
        return str(ipaddress.ip_address(name.strip()))
    except ValueError:
        return name.strip().lower()
