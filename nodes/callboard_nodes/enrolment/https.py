"""Requests to a board over HTTPS with a context of our own, and what is to be made of their failures."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any

from callboard_core.addresses import split_address
from callboard_core.errors import (
    BadRequest,
    CallboardError,
    Failed,
    Forbidden,
    NotFound,
    Unavailable,
    error_from_code,
)
from callboard_core.link import Credential
from callboard_core.trust import certificates_in, fingerprint, pinned_context, unverified_context

__all__ = ["NotTheBoard", "Peer", "WrongClock", "explain_tls", "verified"]

_AUTHORITY = "/api/v1/trust/ca"

#: Seconds to reach a machine, and to have its answer.
REACH, ANSWER = 4.0, 30.0
#: Bytes of an answer that are looked at; a bundle of authorities has a few thousand.
_MOST = 256 * 1024
#: OpenSSL's reasons (X509_V_ERR_*) that are a matter of the clock: not yet valid, and expired.
_CLOCK = {9, 10}


class NotTheBoard(Forbidden):
    """What answers is another machine than the one that was expected; it was told nothing."""


class WrongClock(Unavailable):
    """A certificate is not valid at the time this machine believes it is."""


def explain_tls(where: str, error: ssl.SSLError) -> CallboardError:
    """Return what a failed handshake with ``where`` means."""
    code = getattr(error, "verify_code", None)
    if code in _CLOCK:
        now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        return WrongClock(
            f"the certificate of {where} is not valid at the time of this machine's clock, {now}: "
            "set the clock (`timedatectl set-ntp true`), or look at the board's"
        )
    if code is not None:
        return NotTheBoard(
            f"what answers at {where} is not the board it should be ({error.verify_message}); "  # type: ignore[attr-defined]  # of SSLCertVerificationError
            "nothing was sent to it"
        )
    return Unavailable(f"no TLS connection with {where}: {error.reason or error}")


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody who answers HTTPS.

    Attributes:
        address: ``host:port``.
        context: decides whether it is who it should be.
        credential: who asks; None for nobody.
    """

    address: str
    context: ssl.SSLContext
    credential: Credential | None = None
    _open: list[http.client.HTTPSConnection] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    def prove(self) -> None:
        """Return only if who answers is who it should be; the next request takes the same connection.

        Raises:
            NotTheBoard: the context does not know who answers.
            WrongClock: it would, at another time.
            Unavailable: nobody answers.
        """
        connection = self._connection()
        try:
            connection.connect()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._failure(error) from None
        self._open.append(connection)

    def close(self) -> None:
        """Close a connection that no request has taken."""
        while self._open:
            self._open.pop().close()

    def get(self, path: str) -> str:
        """Return the text that is there.

        Raises:
            NotTheBoard: the context does not know who answers.
            WrongClock: it would, at another time.
            Unavailable: nobody answers.
            CallboardError: what the board answers instead.
        """
        return self._ask("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> str:
        """Send JSON, and return the text of the answer; raises as :meth:`get` does."""
        return self._ask("POST", path, json.dumps(body).encode())

    def _ask(self, method: str, path: str, body: bytes | None) -> str:
        if not self._open:
            self.prove()
        connection = self._open.pop()
        try:
            connection.sock.settimeout(ANSWER)
            connection.request(method, path, body, self._headers(body))
            answer = connection.getresponse()
            text = answer.read(_MOST).decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise self._failure(error) from None
        finally:
            connection.close()
        if answer.status >= 400:  # noqa: PLR2004 - client and server errors begin here
            raise _told(self.address, answer.status, text)
        return text

    def _connection(self) -> http.client.HTTPSConnection:
        host, port = split_address(self.address)
        return http.client.HTTPSConnection(host, port, timeout=REACH, context=self.context)

    def _failure(self, error: Exception) -> CallboardError:
        if isinstance(error, ssl.SSLError):
            return explain_tls(self.address, error)
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Unavailable(f"{self.address} does not answer: {why.lower()}")

    def _headers(self, body: bytes | None) -> dict[str, str]:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self.credential is not None:
            both = f"{self.credential.username}:{self.credential.password}".encode()
            headers["Authorization"] = f"Basic {b64encode(both).decode('ascii')}"
        return headers


def verified(address: str, authority: str) -> Peer:
    """Return who answers at ``address`` if it is certified by the authority with this fingerprint.

    Raises:
        NotTheBoard: it is somebody else; nothing was sent to it.
        WrongClock: it would be, at another time.
        Unavailable: nobody answers.
    """
    try:
        bundle = Peer(address, unverified_context()).get(_AUTHORITY)
        named = [der for der in certificates_in(bundle) if fingerprint(der) == authority]
    except (BadRequest, NotFound, Failed):
        named = []
    if not named:
        raise NotTheBoard(
            f"what answers at {address} is not the board that was meant: its certificate authority has another "
            "fingerprint; nothing was sent to it"
        )
    board = Peer(address, pinned_context(ssl.DER_cert_to_PEM_cert(named[0])))
    # Anybody can pass on an authority; only the board holds a key that it has certified.
    board.prove()
    return board


def _told(address: str, status: int, text: str) -> CallboardError:
    try:
        told = json.loads(text)["error"]
        return error_from_code(str(told["code"]), str(told["message"]))
    except (ValueError, KeyError, TypeError):
        kind = Unavailable if status >= 500 else Failed  # noqa: PLR2004 - server errors begin here
        return kind(f"{address} answered {status}: {text[:200]}")
