"""The certificates of a board: its authority, the authority that follows, its own, and its nodes'. Pure but for chance.

All begin in 1970: a Raspberry Pi has no clock of its own and wakes up years ago. What ends a node's certificate is not
its date but the fingerprint that the board keeps for it.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = [
    "Pair",
    "certify_node",
    "certify_server",
    "cross_sign",
    "is_issued_by",
    "new_authority",
    "pem_of",
]

_BEGIN = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_AUTHORITY_DAYS = 20 * 365.25
#: An authority may certify the one that follows it, which then certifies machines.
_DEPTH = 1


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def new_authority(site: str, now: dt.datetime) -> Pair:
    """Make an authority for 20 years, with a name nobody else has."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"Callboard authority {serial:040x}"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, site),
        ]
    )
    certificate = _authority(name, name, key.public_key(), serial, now + dt.timedelta(days=_AUTHORITY_DAYS))
    return Pair(key, certificate.sign(key, hashes.SHA256()))


def cross_sign(old: Pair, new: Pair) -> x509.Certificate:
    """Return the certificate by which those who trust the old authority trust the new one."""
    certificate = _authority(
        new.certificate.subject,
        old.certificate.subject,
        new.key.public_key(),
        x509.random_serial_number(),
        old.certificate.not_valid_after_utc,
    ).add_extension(_issued_by(old), critical=False)
    return certificate.sign(old.key, hashes.SHA256())


def certify_server(authority: Pair, key: ec.EllipticCurvePublicKey, names: Iterable[str]) -> x509.Certificate:
    """Certify the board as a server.

    Args:
        authority: who signs.
        key: the server's.
        names: host names and IP addresses by which browsers and other MQTT clients may know it.
    """
    wanted = list(names)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "callboard")])
    certificate = _machine(authority, subject, key, ExtendedKeyUsageOID.SERVER_AUTH).add_extension(
        x509.SubjectAlternativeName([_alternative(name) for name in wanted]), critical=False
    )
    return certificate.sign(authority.key, hashes.SHA256())


def certify_node(authority: Pair, key: ec.EllipticCurvePublicKey, node: str) -> x509.Certificate:
    """Certify a node as a client, whose user name is ``node``."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node)])
    return _machine(authority, subject, key, ExtendedKeyUsageOID.CLIENT_AUTH).sign(
        authority.key, hashes.SHA256()
    )


def is_issued_by(certificate: str, bundle: str) -> bool:
    """Tell whether one of the authorities of a PEM text has issued the first certificate of another.

    Raises:
        ValueError: one of the texts holds no certificate, or a damaged one.
    """
    own = x509.load_pem_x509_certificates(certificate.encode())[0]
    return any(_is_issuer(one, own) for one in x509.load_pem_x509_certificates(bundle.encode()))


def _is_issuer(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, InvalidSignature):  # another name; another key
        return False
    return True


def pem_of(*certificates: x509.Certificate) -> str:
    """Return certificates as PEM, one after the other."""
    return "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in certificates)


def _authority(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    serial: int,
    until: dt.datetime,
) -> x509.CertificateBuilder:
    return (
        _certificate(subject, issuer, key, serial, until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=_DEPTH), critical=True)
        .add_extension(_usage(certifies=True), critical=True)
    )


def _machine(
    authority: Pair, subject: x509.Name, key: ec.EllipticCurvePublicKey, purpose: x509.ObjectIdentifier
) -> x509.CertificateBuilder:
    signer = authority.certificate
    serial = x509.random_serial_number()
    return (
        _certificate(subject, signer.subject, key, serial, signer.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certifies=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(_issued_by(authority), critical=False)
    )


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    serial: int,
    until: dt.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(_BEGIN)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _issued_by(authority: Pair) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())


def _usage(*, certifies: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certifies,
        key_cert_sign=certifies,
        crl_sign=certifies,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
