"""Certificates as they are passed on: PEM texts, and the SHA-256 of a certificate, by which it is known."""

from __future__ import annotations

import hashlib
import re
import ssl

from callboard_core.errors import BadRequest

__all__ = ["certificates_in", "fingerprint", "fingerprint_of_pem", "is_in_bundle"]

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----\s.*?-----END CERTIFICATE-----", re.DOTALL)


def fingerprint(der: bytes) -> str:
    """SHA-256 of a certificate in DER, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(der).hexdigest()


def certificates_in(bundle: str) -> list[bytes]:
    """Return every certificate of a PEM text, in DER.

    Raises:
        BadRequest: one of them is damaged, or there is none.
    """
    try:
        found = [ssl.PEM_cert_to_DER_cert(pem) for pem in _PEM.findall(bundle)]
    except ValueError as error:  # not base64
        raise BadRequest(f"a certificate is damaged: {error}; get it again from the board") from None
    if not found:
        raise BadRequest("there is no certificate in this text; a PEM file was expected")
    return found


def fingerprint_of_pem(pem: str) -> str:
    """Return the fingerprint of the first certificate of a PEM text.

    Raises:
        BadRequest: there is none, or it is damaged.
    """
    return fingerprint(certificates_in(pem)[0])


def is_in_bundle(bundle: str, wanted: str) -> bool:
    """Tell whether one of the certificates of a PEM text has the fingerprint ``wanted``.

    Raises:
        BadRequest: there is none, or one is damaged.
    """
    return any(fingerprint(der) == wanted for der in certificates_in(bundle))
