"""Signatures of the board (Ed25519, RFC 8032) over bytes as they are, such as those of an update's manifest."""

from __future__ import annotations

import base64
import binascii

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from callboard_core.errors import BadRequest, Unauthorized

__all__ = ["new_signing_key", "public_key_of", "sign", "verify"]


def new_signing_key() -> str:
    """Make a private key; returns it as PEM (PKCS 8, not encrypted)."""
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        .decode()
    )


def public_key_of(private: str) -> str:
    """Return the public key that belongs to a private one: base64 of its 32 bytes, as it is passed on and pinned.

    Raises:
        BadRequest: the private key is damaged.
    """
    return base64.b64encode(_read(private).public_key().public_bytes_raw()).decode()


def sign(private: str, data: bytes) -> str:
    """Return the signature of ``data``: base64 of its 64 bytes.

    Raises:
        BadRequest: the private key is damaged.
    """
    return base64.b64encode(_read(private).sign(data)).decode()


def verify(public: str, data: bytes, signature: str) -> None:
    """Return only if ``signature`` was made over exactly ``data`` with the private key of ``public``.

    Raises:
        Unauthorized: it was not.
        BadRequest: the public key is damaged.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public.strip(), validate=True))
    except (ValueError, binascii.Error):
        raise BadRequest("the board's public key is damaged; join the board again") from None
    try:
        key.verify(base64.b64decode(signature.strip(), validate=True), data)
    except (InvalidSignature, ValueError):
        raise Unauthorized("the signature is not the board's, or what it signs was changed") from None


def _read(private: str) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(private.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadRequest(f"the signing key is damaged: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadRequest("the signing key is no Ed25519 key")
    return key
