"""Tickets: what a caller shows on a lane to prove that it may command. Pure.

A caller gets one through the broker, which lets only those ask who may command, and delivers the answer to the reply topic
of the caller that is named in it. Others may read along there, so a ticket alone is of no use: when it asks, the caller
shows the hash of a secret, and on the lane, which is encrypted, the secret itself.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from callboard_core.errors import BadRequest, Overloaded

__all__ = ["LIFETIME", "Tickets", "proof_of"]

#: Seconds within which a ticket must be shown.
LIFETIME = 10.0
#: Tickets that are out at a time, of all callers and of one.
LIMIT, PER_CALLER = 1000, 16
_PROOF = re.compile("[0-9a-f]{64}")


def proof_of(secret: str) -> str:
    """What is told of a secret when a ticket is asked for: its SHA-256, in hex."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True, slots=True)
class _Ticket:
    caller: str
    mark: str
    proof: str
    until: float


class Tickets:
    """Those that are out. Each is for one caller and one connection, and for ten seconds."""

    def __init__(
        self, *, lifetime: float = LIFETIME, limit: int = LIMIT, per_caller: int = PER_CALLER
    ) -> None:
        self._lifetime, self._limit, self._per_caller = lifetime, limit, per_caller
        self._out: dict[str, _Ticket] = {}

    def __len__(self) -> int:
        return len(self._out)

    def issue(self, caller: str, proof: object, now: float) -> str:
        """Return a ticket.

        Args:
            caller: the client id it is for.
            proof: :func:`proof_of` the caller's secret.
            now: seconds on any steady clock.

        Raises:
            BadRequest: that is no proof.
            Overloaded: too many tickets are out.
        """
        if not isinstance(proof, str) or not _PROOF.fullmatch(proof):
            raise BadRequest("proof: expected the SHA-256 of a secret, in hex")
        self._forget(now)
        theirs = sum(one.caller == caller for one in self._out.values())
        if len(self._out) >= self._limit or theirs >= self._per_caller:
            raise Overloaded("too many tickets are out; try again later")
        number, mark = secrets.token_hex(8), secrets.token_urlsafe(32)
        self._out[number] = _Ticket(caller, mark, proof, now + self._lifetime)
        return f"{number}.{mark}"

    def redeem(self, caller: str, ticket: str, secret: str, now: float) -> bool:
        """Tell whether a ticket is good; whatever comes of it, it is not good again."""
        number, _, mark = ticket.partition(".")
        found = self._out.pop(number, None) or _Ticket("", secrets.token_urlsafe(32), proof_of(""), now - 1)
        # All are compared whatever comes of the first, so that the time it takes tells nothing.
        checks = (
            hmac.compare_digest(found.mark.encode(), mark.encode("utf-8", "replace")),
            hmac.compare_digest(found.proof, proof_of(secret)),
            found.caller == caller,
            now <= found.until,
        )
        return all(checks)

    def _forget(self, now: float) -> None:
        for number in [number for number, one in self._out.items() if one.until < now]:
            del self._out[number]
