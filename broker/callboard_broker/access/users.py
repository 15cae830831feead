"""The users file: names, roles and password hashes, and the first users' random passwords.

One JSON file (0600) in the state folder (0700). It is written atomically under a lock and read again whenever
it changes, so several processes can share it.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from callboard_broker.access import mosquitto
from callboard_broker.access.rules import Role
from callboard_core.errors import Conflict, Failed, Forbidden, NotFound
from callboard_core.runtime import credential_file, write_private

__all__ = ["User", "Users", "credential_file", "ensure_first_users", "users_file"]

# OWASP's first choice for argon2id: 19 MiB, 2 passes. About 20 ms here and well under a second on a Pi.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
#: Bytes of randomness in a password we make.
_PASSWORD_BYTES = 16


@dataclass(frozen=True, slots=True)
class User:
    """Who a credential belongs to.

    Attributes:
        client_id: the only MQTT client id it is good for, and which nobody else may use; empty for any.
        certificate: SHA-256 of the DER certificate that is valid for it now, in lower-case hex; empty for none.
    """

    name: str
    role: Role
    client_id: str = ""
    certificate: str = ""


@dataclass(frozen=True, slots=True)
class _Record:
    """One user as stored. ``mosquitto`` is the same password in the form that broker can check."""

    role: Role
    argon2: str
    mosquitto: str
    disabled: bool = False
    client_id: str = ""
    certificate: str = ""

    def user(self, name: str) -> User:
        """Say whose it is."""
        return User(name, self.role, self.client_id, self.certificate)


@dataclass(frozen=True, slots=True)
class _Known:
    """What the file held when it was last read, and who has what in it."""

    records: Mapping[str, _Record]
    by_client_id: Mapping[str, str]
    by_certificate: Mapping[str, str]

    @classmethod
    def of(cls, records: Mapping[str, _Record]) -> _Known:
        """Look the other ways up."""
        return cls(
            records,
            {record.client_id: name for name, record in records.items() if record.client_id},
            {record.certificate: name for name, record in records.items() if record.certificate},
        )


def users_file(state: Path) -> Path:
    """Return where a state folder keeps its users."""
    return state / "users.json"


def ensure_first_users(state: Path) -> Users:
    """Return the users of a state folder; make one user per role, each with a random password, where missing.

    A user whose password file was removed gets a new password. Safe when several processes start at once.

    Raises:
        Failed: the users file is damaged.
        Forbidden: the folder cannot be written.
    """
    users = Users(users_file(state))
    try:
        _private_folder(state)
        _private_folder(state / "credentials")
        with users.locked():
            for role in Role:
                _ensure(users, role, credential_file(state, role))
    except PermissionError as error:
        raise Forbidden(
            f"cannot write {error.filename or state}; give yourself the folder, or use another with --state"
        ) from None
    return users


def _ensure(users: Users, role: Role, password_file: Path) -> None:
    if role in users.names() and password_file.exists():
        return
    # Forgotten first, file second, user last: stopped anywhere in between, the next start finishes the work.
    users.remove(role)
    if not password_file.exists():
        write_private(password_file, secrets.token_hex(_PASSWORD_BYTES) + "\n")
    users.put(role, role, password_file.read_text().strip())


class Users:
    """Names, roles and passwords, kept in one file.

    Args:
        path: the users file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._known = _Known.of({})
        self._guard = threading.RLock()
        self._lock_depth = 0
        # Fast verifiers live only in this process: the key never leaves it.
        self._key = secrets.token_bytes(32)
        self._fast: dict[str, tuple[str, bytes]] = {}

    def names(self) -> list[str]:
        """Return all user names, disabled ones too."""
        return list(self._load())

    def verify(self, username: str, password: str) -> User | None:
        """Return whose credential this is, or None.

        The first success costs an argon2 verification (about 20 ms, so call it off the event loop), later ones
        microseconds. Every refusal costs one argon2 verification, whatever the reason, so that its duration
        does not tell which names exist.

        Raises:
            Failed: the users file is damaged.
        """
        known = self.recall(username, password)
        if known is not None:
            return known
        record = self._load().get(username)
        if not _check(record.argon2 if record else _nobody(), password) or record is None or record.disabled:
            return None
        self._fast[username] = (record.argon2, self._mark(password))
        return record.user(username)

    def recall(self, username: str, password: str) -> User | None:
        """Return whose credential this is if it was verified before; costs microseconds, so it may be called anywhere.

        Raises:
            Failed: the users file is damaged.
        """
        record = self._load().get(username)
        known_hash, known_mark = self._fast.get(username, ("", b""))
        if record is None or record.disabled or record.argon2 != known_hash:
            return None
        if not hmac.compare_digest(self._mark(password), known_mark):
            return None
        return record.user(username)

    def _mark(self, password: str) -> bytes:
        return hmac.digest(self._key, password.encode(errors="surrogatepass"), hashlib.sha256)

    def find(self, name: str) -> User | None:
        """Return an enabled user."""
        record = self._load().get(name)
        return None if record is None or record.disabled else record.user(name)

    def find_certificate(self, certificate: str) -> User | None:
        """Return the enabled user a certificate (SHA-256 of its DER, lower-case hex) is valid for now."""
        self._load()
        name = self._known.by_certificate.get(certificate)
        return None if name is None else self.find(name)

    def owner(self, client_id: str) -> str | None:
        """Return the name of the user, enabled or not, that a client id is bound to."""
        self._load()
        return self._known.by_client_id.get(client_id)

    def put(self, name: str, role: Role | str, password: str) -> None:
        """Add a user, or replace role and password of one; it is bound to no client id and has no certificate."""
        record = _made(Role(role), password)
        with self.locked():
            self._save({**self._load(), str(name): record})

    def enrol(self, node: str, password: str, certificate: str = "") -> None:
        """Add the user of a node, bound to the node's id, or replace password and certificate of it.

        Args:
            node: the node's id, which is the user's name too.
            password: in clear.
            certificate: SHA-256 of its DER in lower-case hex; earlier ones are worthless from now on.

        Raises:
            Conflict: a user of this name exists and is no node's.
        """
        record = replace(_made(Role.NODE, password), client_id=node, certificate=certificate)
        with self.locked():
            records = self._load()
            found = records.get(node)
            if node in set(Role) or (found is not None and found.client_id != node):
                raise Conflict(f"there is a user {node!r} that is no node's; give the node another id")
            self._save({**records, node: record})

    def certify(self, name: str, certificate: str) -> None:
        """Record a renewed certificate (SHA-256 of its DER, lower-case hex); live sessions go on.

        Raises:
            NotFound: there is no such user.
        """
        self._change(name, certificate=certificate)

    def disable(self, name: str, *, disabled: bool = True) -> None:
        """Refuse a user's password from now on, or accept it again.

        Raises:
            NotFound: there is no such user.
        """
        self._change(name, disabled=disabled)

    def _change(self, name: str, **changes: Any) -> None:
        with self.locked():
            records = self._load()
            if name not in records:
                raise NotFound(f"there is no user {name!r}; known are {', '.join(sorted(records)) or 'none'}")
            self._save({**records, name: replace(records[name], **changes)})

    def remove(self, name: str) -> None:
        """Forget a user; one that does not exist is no error."""
        with self.locked():
            records = self._load()
            if name in records:
                self._save({other: record for other, record in records.items() if other != name})

    def mosquitto_passwords(self) -> str:
        """Return the text of a Mosquitto password file with every enabled user."""
        return "".join(
            f"{name}:{r.mosquitto}\n" for name, r in sorted(self._load().items()) if not r.disabled
        )

    def roles(self) -> dict[str, Role]:
        """Return the role of every enabled user."""
        return {name: record.role for name, record in sorted(self._load().items()) if not record.disabled}

    def marks(self) -> dict[str, str]:
        """Return, for every enabled user, something that is another once its role, password or client id is.

        Never shown. A renewed certificate is no reason to end a session.
        """
        return {
            name: f"{record.role} {record.argon2} {record.client_id}"
            for name, record in self._load().items()
            if not record.disabled
        }

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the file against other threads and processes (may be nested)."""
        with self._guard:
            if self._lock_depth:
                yield
                return
            with self.path.with_suffix(".lock").open("w") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                self._lock_depth += 1
                try:
                    yield
                finally:
                    self._lock_depth -= 1

    def _load(self) -> Mapping[str, _Record]:
        with self._guard:
            seen = _stamp(self.path)
            if seen != self._seen:
                self._known = _Known.of({} if seen is None else _parse(self.path))
                self._seen = seen
            return self._known.records

    def _save(self, records: Mapping[str, _Record]) -> None:
        rows = {name: asdict(record) for name, record in sorted(records.items())}
        write_private(self.path, json.dumps(rows, indent=2) + "\n")


def _made(role: Role, password: str) -> _Record:
    return _Record(role, _HASHER.hash(password), mosquitto.hash_password(password))


def _private_folder(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _parse(path: Path) -> dict[str, _Record]:
    try:
        rows = json.loads(path.read_bytes())
        return {name: _Record(**{**row, "role": Role(row["role"])}) for name, row in rows.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Failed(
            f"the users file {path} is damaged ({error}); restore it from a backup, "
            "or move it away to get new users at the next start"
        ) from None


def _check(argon2_hash: str, password: str) -> bool:
    try:
        return _HASHER.verify(argon2_hash, password)
    except (VerificationError, InvalidHashError, UnicodeEncodeError):
        return False


_nobody_hash: list[str] = []


def _nobody() -> str:
    """Return a hash nobody's password matches, made once per process."""
    if not _nobody_hash:
        _nobody_hash.append(_HASHER.hash(secrets.token_hex(_PASSWORD_BYTES)))
    return _nobody_hash[0]
