"""How a client decides whom it talks to: by the board's own authority, never by a name or an address."""

from __future__ import annotations

import ssl
from pathlib import Path

from callboard_core.errors import BadRequest

__all__ = ["pinned_context", "unverified_context"]


def pinned_context(
    bundle: str, *, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """Return a context that trusts only the authorities of a board, and shows a certificate if it has one.

    Names are not looked at: a board's authority certifies no other server, and a board moves between addresses.

    Args:
        bundle: the authorities, as PEM.
        certificate: file with the client's own certificate, as PEM.
        key: file with the key of that certificate.

    Raises:
        BadRequest: one of them cannot be used; the message says which.
    """
    context = _client_context()
    try:
        context.load_verify_locations(cadata=bundle)
    except (ssl.SSLError, ValueError) as error:
        raise BadRequest(
            f"the board's certificate authority is damaged: {error}; join the board again"
        ) from None
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key)
        except OSError as error:  # ssl.SSLError is one
            reason = error.strerror or error
            raise BadRequest(
                f"the certificate {certificate} with its key {key} cannot be used: {reason}; join the board again"
            ) from None
    return context


def unverified_context() -> ssl.SSLContext:
    """Return a context that trusts everybody: only to fetch an authority that is then compared with a fingerprint."""
    context = _client_context()
    context.verify_mode = ssl.CERT_NONE
    return context


def _client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    return context
