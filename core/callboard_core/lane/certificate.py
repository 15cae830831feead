"""The certificate of a process: made at its start, signed by itself, and known by its fingerprint."""

from __future__ import annotations

import datetime as dt
import hmac
import ssl
import tempfile
from pathlib import Path

from callboard_core.errors import Unavailable
from callboard_core.trust.certificates import fingerprint

__all__ = ["client_context", "is_pinned", "server_context"]

#: A clock may be far off, and the fingerprint is all that counts.
_VALID = dt.timedelta(days=3650)


def server_context() -> tuple[ssl.SSLContext, str]:
    """Make a key and a certificate; returns a context that serves with them, and the fingerprint.

    The key is in this process only: the file that OpenSSL wants is gone when this returns.

    Raises:
        Unavailable: the library that makes certificates is not installed.
    """
    key, certificate, der = _make()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with tempfile.TemporaryDirectory(prefix="callboard-") as folder:  # mode 0700
        file = Path(folder) / "lane.pem"
        file.write_bytes(key + certificate)
        context.load_cert_chain(file)
    return context, fingerprint(der)


def client_context() -> ssl.SSLContext:
    """A context for a server whose certificate is checked with :func:`is_pinned` instead of by authorities."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def is_pinned(der: bytes | None, announced: str) -> bool:
    """Tell whether a certificate is the one whose fingerprint was announced."""
    return der is not None and hmac.compare_digest(fingerprint(der).encode(), announced.encode())


def _make() -> tuple[bytes, bytes, bytes]:
    """A P-256 key and its certificate as PEM, and the certificate as DER."""
    try:
        from cryptography import x509  # noqa: PLC0415 - only who listens on the network needs it
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    except ImportError as error:
        raise Unavailable(f"no certificate can be made: {error}; install cryptography") from None
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "callboard lane")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _VALID)
        .not_valid_after(now + _VALID)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem, der = serialization.Encoding.PEM, serialization.Encoding.DER
    return secret, certificate.public_bytes(pem), certificate.public_bytes(der)
