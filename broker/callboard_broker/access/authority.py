"""The board's certificate authority on disk: made at the first start, repaired at every one, rotated on demand.

``STATE/trust/`` (0700, files 0600):

- ``ca.key``: the private key and certificate of the authority in force; while another one is being replaced, also the
  certificate that the old one gave the new one, and the old one's. The truth about the authority, changed in one step.
- ``ca.crt``, ``bundle.crt``: the authority's certificate; every authority in force. Derived.
- ``server.pem``: the server's key, its certificate, and what leads from it to an old authority. Derived.
- ``update.key``, ``update.pub``: sign updates (Ed25519); nodes pin the public one when they enrol.

Every process of a board may do all this at the same time, and be killed at any moment.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from callboard_broker.access.certificates import (
    Pair,
    certify_node,
    certify_server,
    cross_sign,
    new_authority,
    pem_of,
)
from callboard_core.errors import BadRequest, Conflict, Failed
from callboard_core.runtime import write_private
from callboard_core.trust import fingerprint
from callboard_core.trust.keys import check_request, new_key, read_key
from callboard_core.trust.signing import new_signing_key, public_key_of, sign

__all__ = ["Authority", "TrustFiles"]


@dataclass(frozen=True)
class TrustFiles:
    """Where a state folder keeps what its trust rests on."""

    folder: Path

    @classmethod
    def of(cls, state: Path) -> TrustFiles:
        """Return those of a state folder."""
        return cls(state / "trust")

    @property
    def authority(self) -> Path:
        """The certificate that people give to other MQTT clients and browsers."""
        return self.folder / "ca.crt"

    @property
    def bundle(self) -> Path:
        """Every authority in force."""
        return self.folder / "bundle.crt"

    @property
    def server(self) -> Path:
        """The server's key and chain, in one file so that they always fit each other."""
        return self.folder / "server.pem"


@dataclass(frozen=True)
class _Authority:
    """What ``ca.key`` holds. While ``old`` is there, ``cross`` leads from it to the one in force."""

    pair: Pair
    cross: x509.Certificate | None = None
    old: x509.Certificate | None = None

    @property
    def in_force(self) -> tuple[x509.Certificate, ...]:
        return (self.pair.certificate, *([self.old] if self.old else []))


class Authority:
    """The authority of a state folder. Safe from any thread, and beside other processes.

    Args:
        state: the state folder.
        site: the site's id, for the certificate's name.
    """

    def __init__(self, state: Path, site: str) -> None:
        self.files = TrustFiles.of(state)
        self._site = site
        self._secret = self.files.folder / "ca.key"
        self._update = self.files.folder / "update.key"
        self._guard = threading.RLock()
        self._read: tuple[tuple[int, int], _Authority] | None = None

    def ensure(self, names: Iterable[str]) -> bool:
        """Make what is missing, and the server's certificate anew if it does not fit any more.

        Args:
            names: host names and addresses of the board.

        Returns:
            Whether the server's certificate was made.

        Raises:
            Failed: a key that cannot be made anew without every node joining again is damaged.
            OSError: the folder cannot be written.
        """
        self.files.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.files.folder.stat().st_mode & 0o077:
            self.files.folder.chmod(0o700)
        with self._locked():
            if not self._secret.exists():
                self._save(_Authority(new_authority(self._site, _now())))
            if not self._update.exists():
                write_private(self._update, new_signing_key())
            return self._derive(names)

    @property
    def bundle(self) -> str:
        """Every authority in force, as PEM; the one that signs comes first."""
        return pem_of(*self._load().in_force)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate of the authority that signs."""
        return _fingerprint(self._load().pair.certificate)

    @property
    def old_fingerprint(self) -> str | None:
        """SHA-256 of the certificate of the authority that is being replaced, if one is."""
        old = self._load().old
        return None if old is None else _fingerprint(old)

    @property
    def ends(self) -> dt.datetime:
        """Until when the authority that signs is valid."""
        return self._load().pair.certificate.not_valid_after_utc

    @property
    def update_key(self) -> str:
        """What nodes check updates with: base64 of an Ed25519 public key."""
        try:
            return public_key_of(self._update.read_text())
        except (OSError, ValueError, BadRequest) as error:
            raise _damaged(self._update, error) from None

    def sign_update(self, manifest: bytes) -> str:
        """Sign the bytes of an update's manifest; returns base64.

        Raises:
            Failed: the key is damaged.
        """
        try:
            return sign(self._update.read_text(), manifest)
        except (OSError, ValueError, BadRequest) as error:
            raise _damaged(self._update, error) from None

    def certify(self, csr: str, node: str) -> str:
        """Return a certificate (PEM) for a node; of the request only the key counts, which its sender must hold.

        Raises:
            BadRequest: the request is none, or proves nothing.
            Failed: the authority is damaged.
        """
        return pem_of(certify_node(self._load().pair, check_request(csr), node))

    def rotate(self, names: Iterable[str]) -> None:
        """Put a new authority in force; the old one certifies it, and is trusted until :meth:`finish`.

        Raises:
            Conflict: the last rotation is not finished.
        """
        with self._locked():
            found = self._load()
            if found.old is not None:
                raise Conflict(
                    "a rotation is under way already; finish it first (`callboard trust rotate --finish`)"
                )
            new = new_authority(self._site, _now())
            self._save(_Authority(new, cross_sign(found.pair, new), found.pair.certificate))
            self._derive(names)

    def finish(self, names: Iterable[str]) -> None:
        """Trust the old authority no more.

        Raises:
            Conflict: there is none.
        """
        with self._locked():
            found = self._load()
            if found.old is None:
                raise Conflict("no rotation is under way; begin one with `callboard trust rotate`")
            self._save(_Authority(found.pair))
            self._derive(names)

    # ---- files

    def _derive(self, names: Iterable[str]) -> bool:
        """Write what follows from ``ca.key`` where it does not."""
        found = self._load()
        _write_if_other(self.files.authority, pem_of(found.pair.certificate))
        _write_if_other(self.files.bundle, pem_of(*found.in_force))
        _write_if_other(self._update.with_suffix(".pub"), self.update_key + "\n")
        wanted = sorted(set(names))
        if _is_server(self.files.server, found, wanted):
            return False
        write_private(self.files.server, _server(found, wanted))
        return True

    def _load(self) -> _Authority:
        with self._guard:
            try:
                found = self._secret.stat()
                stamp = (found.st_ino, found.st_mtime_ns)
                if self._read is None or self._read[0] != stamp:
                    self._read = stamp, _parse(self._secret.read_text())
                return self._read[1]
            except (OSError, ValueError, BadRequest, UnsupportedAlgorithm, InvalidSignature) as error:
                raise _damaged(self._secret, error) from None

    def _save(self, authority: _Authority) -> None:
        pair = authority.pair
        rest = [one for one in (pair.certificate, authority.cross, authority.old) if one is not None]
        write_private(self._secret, _key_pem(pair) + pem_of(*rest))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._guard, (self.files.folder / ".lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _parse(text: str) -> _Authority:
    key = read_key(text)
    own, *rest = x509.load_pem_x509_certificates(text.encode())
    if own.public_key() != key.public_key():
        raise ValueError("the certificate is not that of the key")
    own.verify_directly_issued_by(own)
    if not rest:
        return _Authority(Pair(key, own))
    cross, old = rest
    cross.verify_directly_issued_by(old)
    return _Authority(Pair(key, own), cross, old)


def _server(authority: _Authority, names: list[str]) -> str:
    key = read_key(new_key())
    own = certify_server(authority.pair, key.public_key(), names)
    chain = [own, *([authority.cross] if authority.cross else [])]
    return _key_pem(Pair(key, own)) + pem_of(*chain)


def _is_server(file: Path, authority: _Authority, names: list[str]) -> bool:
    """Tell whether a file is a server's as it should be now."""
    try:
        text = file.read_text()
        own, *chain = x509.load_pem_x509_certificates(text.encode())
        own.verify_directly_issued_by(authority.pair.certificate)
        found = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        fits = own.public_key() == read_key(text).public_key()
    except (OSError, ValueError, BadRequest, InvalidSignature, x509.ExtensionNotFound):
        return False
    known = sorted(str(name.value) for name in found)
    return fits and known == names and chain == ([authority.cross] if authority.cross else [])


def _key_pem(pair: Pair) -> str:
    return pair.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _write_if_other(path: Path, text: str) -> None:
    try:
        if path.read_text() == text:
            return
    except (OSError, ValueError):
        pass  # it is not there, or is no text: it is written
    write_private(path, text)


def _fingerprint(certificate: x509.Certificate) -> str:
    return fingerprint(certificate.public_bytes(serialization.Encoding.DER))


def _damaged(path: Path, error: Exception) -> Failed:
    reason = (
        getattr(error, "strerror", None) or getattr(error, "message", None) or error or type(error).__name__
    )
    return Failed(
        f"{path} is damaged ({reason}); restore it from a backup, or move {path.parent} away to begin anew: "
        "then every node has to join again"
    )


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
