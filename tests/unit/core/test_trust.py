"""Fingerprints, requests to certify a key, pinned contexts, and signatures."""

from __future__ import annotations

import datetime as dt
import hashlib
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from callboard_core.errors import BadRequest, Unauthorized
from callboard_core.trust import (
    certificates_in,
    fingerprint,
    fingerprint_of_pem,
    is_in_bundle,
    pinned_context,
    unverified_context,
)
from callboard_core.trust.keys import check_request, common_name_of, new_key, read_key, signing_request
from callboard_core.trust.signing import new_signing_key, public_key_of, sign, verify

PEM = serialization.Encoding.PEM


def certificate(name: str, key: str) -> str:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(read_key(key).public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
    )
    return built.sign(read_key(key), hashes.SHA256()).public_bytes(PEM).decode()


@pytest.fixture(scope="module")
def key() -> str:
    return new_key()


def test_a_certificate_is_known_by_the_sha256_of_its_der(key: str) -> None:
    one, other = certificate("one", key), certificate("other", key)
    der = ssl.PEM_cert_to_DER_cert(one)
    assert fingerprint_of_pem(one) == fingerprint(der) == hashlib.sha256(der).hexdigest()
    assert certificates_in("a comment\n" + one + other)[0] == der
    assert is_in_bundle(other + one, fingerprint(der))
    assert not is_in_bundle(other, fingerprint(der))
    assert common_name_of(other) == "other"


@pytest.mark.parametrize("text", ["", "hello", "-----BEGIN CERTIFICATE-----\n§\n-----END CERTIFICATE-----"])
def test_a_text_without_a_certificate_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="certificate"):
        fingerprint_of_pem(text)


def test_a_request_proves_that_its_sender_holds_the_key(key: str) -> None:
    found = check_request(signing_request(key, "greenhouse"))
    assert found.public_numbers() == read_key(key).public_key().public_numbers()


def _tampered(key: str) -> str:
    """A request whose signature was made by another key."""
    der = x509.load_pem_x509_csr(signing_request(key, "a").encode()).public_bytes(serialization.Encoding.DER)
    mine = (
        read_key(key)
        .public_key()
        .public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    )
    theirs = (
        read_key(new_key())
        .public_key()
        .public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    )
    return x509.load_der_x509_csr(der.replace(mine, theirs)).public_bytes(PEM).decode()


def _of_other_keys(made: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return request.sign(made, hashes.SHA256()).public_bytes(PEM).decode()


def test_requests_that_prove_nothing_or_are_of_other_keys_are_refused(key: str) -> None:
    with pytest.raises(BadRequest, match="not signed"):
        check_request(_tampered(key))
    with pytest.raises(BadRequest, match="P-256"):
        check_request(_of_other_keys(ec.generate_private_key(ec.SECP384R1())))
    with pytest.raises(BadRequest, match="P-256"):
        check_request(_of_other_keys(rsa.generate_private_key(65_537, 2_048)))
    with pytest.raises(BadRequest, match="longer than"):
        check_request(signing_request(key, "a") + " " * 20_000)


@given(st.text(max_size=200))
def test_any_other_text_is_no_request(text: str) -> None:
    with pytest.raises(BadRequest, match="csr"):
        check_request(text)


def test_a_pinned_context_trusts_nobody_else_and_asks_for_no_name(key: str, tmp_path: Path) -> None:
    own = tmp_path / "node.crt"
    own.write_text(certificate("node", key))
    (tmp_path / "node.key").write_text(key)
    context = pinned_context(certificate("board", key), certificate=own, key=tmp_path / "node.key")
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert not context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.cert_store_stats()["x509"] == 1
    assert unverified_context().verify_mode is ssl.CERT_NONE


def test_a_pinned_context_names_what_is_damaged(key: str, tmp_path: Path) -> None:
    for bundle in ("", "hello"):
        with pytest.raises(BadRequest, match="authority is damaged"):
            pinned_context(bundle)
    with pytest.raises(BadRequest, match=r"nothing\.crt"):
        pinned_context(certificate("board", key), certificate=tmp_path / "nothing.crt")


@pytest.fixture(scope="module")
def signing_key() -> str:
    return new_signing_key()


@given(st.binary(max_size=2_000))
def test_what_was_signed_is_believed(signing_key: str, data: bytes) -> None:
    verify(public_key_of(signing_key), data, sign(signing_key, data))


def test_changed_data_another_key_and_nonsense_are_not_believed(signing_key: str) -> None:
    signature = sign(signing_key, b"version 2")
    for public, data, signed in (
        (public_key_of(signing_key), b"version 1", signature),
        (public_key_of(new_signing_key()), b"version 2", signature),
        (public_key_of(signing_key), b"version 2", "nonsense"),
        (public_key_of(signing_key), b"version 2", ""),
    ):
        with pytest.raises(Unauthorized, match="not the board's"):
            verify(public, data, signed)
    with pytest.raises(BadRequest, match="public key is damaged"):
        verify("nonsense", b"", signature)


def test_damaged_keys_are_named(key: str, signing_key: str) -> None:
    for use, wrong in ((read_key, signing_key), (read_key, "x"), (public_key_of, key), (public_key_of, "x")):
        with pytest.raises(BadRequest, match="key"):
            use(wrong)
