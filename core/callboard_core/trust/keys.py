"""The key of a node, made where it is used and never sent, and the request to certify it."""

from __future__ import annotations

from typing import cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from callboard_core.errors import BadRequest

__all__ = ["check_request", "common_name_of", "new_key", "read_key", "signing_request"]

#: Longest request that is looked at, in characters of PEM; ours have about 500.
_LONGEST = 16_384


def new_key() -> str:
    """Make a key (ECDSA, P-256); returns it as PEM (PKCS 8, not encrypted)."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def read_key(pem: str) -> ec.EllipticCurvePrivateKey:
    """Read a key that :func:`new_key` made.

    Raises:
        BadRequest: it is damaged, or of another kind.
    """
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadRequest(f"the private key is damaged: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadRequest("the private key is no elliptic-curve key")
    return key


def signing_request(key: str, name: str) -> str:
    """Return the request (PKCS 10, PEM) to certify a key for the node ``name``; it proves that we hold the key.

    Raises:
        BadRequest: the key is damaged.
    """
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return request.sign(read_key(key), hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def check_request(pem: str) -> ec.EllipticCurvePublicKey:
    """Return the public key of a request whose sender has shown to hold the private one; nothing else of it counts.

    Raises:
        BadRequest: it is damaged, not signed with its own key, or the key is no P-256 key.
    """
    if len(pem) > _LONGEST:
        raise BadRequest(f"csr: it is longer than {_LONGEST} characters")
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        signed, key = request.is_signature_valid, request.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise BadRequest(f"csr: this is no certificate signing request: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadRequest("csr: the key must be an elliptic-curve key on P-256")
    if not signed:
        raise BadRequest("csr: it is not signed with the key it is for")
    return key


def common_name_of(certificate: str) -> str:
    """Return whom a certificate (PEM) is for.

    Raises:
        BadRequest: it is damaged, or for nobody.
    """
    try:
        subject = x509.load_pem_x509_certificate(certificate.encode()).subject
        return cast("str", subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)
    except (ValueError, IndexError) as error:
        raise BadRequest(f"the certificate is damaged: {error}") from None
