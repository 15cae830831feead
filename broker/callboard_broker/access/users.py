"""The users file: names, roles and password hashes, and the first users' random passwords.

One JSON file (0600) in the state folder (0700). It is written atomically under a lock and read again whenever
it changes, so several processes can share it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from callboard_broker.access import mosquitto
from callboard_broker.access.kept import Kept
from callboard_broker.access.roles import Roles, roles_file
from callboard_broker.access.rules import Grant, Holder, Right, Role
from callboard_core.errors import Conflict, Forbidden, NotFound
from callboard_core.runtime import credential_file, write_private

__all__ = ["Account", "User", "Users", "credential_file", "ensure_first_users", "users_file"]

# OWASP's first choice for argon2id: 19 MiB, 2 passes. About 20 ms here and well under a second on a Pi.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
#: Bytes of randomness in a password we make, and how it looks in a first user's file.
_PASSWORD_BYTES = 16
_MADE = re.compile(rf"[0-9a-f]{{{2 * _PASSWORD_BYTES}}}")


@dataclass(frozen=True, slots=True)
class User:
    """Who a credential belongs to.

    Attributes:
        client_id: the only MQTT client id it is good for, and which nobody else may use; empty for any.
        certificate: SHA-256 of the DER certificate that is valid for it now, in lower-case hex; empty for none.
    """

    name: str
    role: str
    client_id: str = ""
    certificate: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """A user, and whether it may not log in at present."""

    user: User
    disabled: bool


@dataclass(frozen=True, slots=True)
class _Record:
    """One user as stored, its password in one of the first two forms.

    Attributes:
        argon2: of a password that somebody may have chosen; empty if there is the other form.
        sha256: of one that the board made, in hex: what is random enough not to be guessed needs no slow hash.
        mosquitto: the same password in the form that broker can check.
    """

    role: str
    argon2: str
    mosquitto: str
    disabled: bool = False
    client_id: str = ""
    certificate: str = ""
    sha256: str = ""

    @property
    def secret(self) -> str:
        """What changes with the password."""
        return self.argon2 or self.sha256

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
    password = password_file.read_text().strip()
    users.put(role, role, password, chosen=_MADE.fullmatch(password) is None)


class Users:
    """Names, roles and passwords, kept in one file, and beside it the site's own roles.

    Args:
        path: the users file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.roles = Roles(roles_file(path))
        remedy = "restore it from a backup, or move it away to get new users at the next start"
        self._file = Kept(path, _parse, what="users", remedy=remedy)
        # Fast verifiers live only in this process: the key never leaves it.
        self._key = secrets.token_bytes(32)
        self._fast: dict[str, tuple[str, bytes]] = {}

    # ---- who is there

    def names(self) -> list[str]:
        """Return all user names, disabled ones too."""
        return list(self._load())

    def accounts(self) -> list[Account]:
        """Return all users, by name."""
        return [Account(record.user(name), record.disabled) for name, record in sorted(self._load().items())]

    def enabled(self) -> list[User]:
        """Return the users that may log in, by name."""
        return [one.user for one in self.accounts() if self.find(one.user.name) is not None]

    def find(self, name: str) -> User | None:
        """Return an enabled user whose role exists."""
        record = self._load().get(name)
        if record is None or record.disabled or self.roles.find(record.role) is None:
            return None
        return record.user(name)

    def find_certificate(self, certificate: str) -> User | None:
        """Return the enabled user a certificate (SHA-256 of its DER, lower-case hex) is valid for now."""
        name = self._file.load().by_certificate.get(certificate)
        return None if name is None else self.find(name)

    def owner(self, client_id: str) -> str | None:
        """Return the name of the user, enabled or not, that a client id is bound to."""
        return self._file.load().by_client_id.get(client_id)

    def is_node(self, name: str) -> bool:
        """Tell whether this is the user, enabled or not, of a node that has a credential of its own."""
        record = self._load().get(name)
        return record is not None and record.role == Role.NODE and record.client_id == name

    def rights(self, role: str) -> frozenset[Right]:
        """Return what a role may do over HTTP; nothing if there is no such role."""
        rule = self.roles.find(role)
        return frozenset() if rule is None else rule.http

    def grant(self, user: Holder, site: str, client_id: str) -> Grant:
        """Return what a user may do over MQTT as ``client_id``.

        Raises:
            NotFound: its role does not exist (any more).
        """
        return self.roles.grant(user, site, client_id)

    # ---- passwords

    def verify(self, username: str, password: str) -> User | None:
        """Return whose credential this is, or None.

        The first success with a chosen password costs an argon2 verification (about 20 ms, so call it off the event loop),
        later ones microseconds. Every refusal costs one argon2 verification, whatever the reason, so that its duration does
        not tell which names exist.

        Raises:
            Failed: the users file is damaged.
        """
        known = self.recall(username, password)
        if known is not None:
            return known
        record = self._load().get(username)
        enabled = self.find(username) is not None
        right = _check((record.argon2 if record else "") or _nobody(), password)
        if not right or record is None or not enabled:
            return None
        self._fast[username] = (record.secret, self._mark(password))
        return record.user(username)

    def recall(self, username: str, password: str) -> User | None:
        """Return whose credential this is if it was verified before, or if :meth:`recognise` does.

        Costs microseconds, so it may be called anywhere; but whoever may ask as often as he likes can guess quickly.

        Raises:
            Failed: the users file is damaged.
        """
        record = self._load().get(username)
        if record is None or record.sha256:
            return self.recognise(username, password)
        known_hash, known_mark = self._fast.get(username, ("", b""))
        if record.secret != known_hash or not hmac.compare_digest(self._mark(password), known_mark):
            return None
        return self.find(username)

    def remembers(self, username: str) -> bool:
        """Tell whether :meth:`recall` knows the user's password, so that another one is wrong.

        Raises:
            Failed: the users file is damaged.
        """
        record = self._load().get(username)
        return record is not None and (
            bool(record.sha256) or record.secret == self._fast.get(username, ("",))[0]
        )

    def recognise(self, username: str, password: str) -> User | None:
        """Return whose credential this is if the board made its password: nobody guesses that, however often he asks.

        Raises:
            Failed: the users file is damaged.
        """
        record = self._load().get(username)
        if record is None or not hmac.compare_digest(_sha256(password), record.sha256):
            return None
        return self.find(username)

    def _mark(self, password: str) -> bytes:
        return hmac.digest(self._key, password.encode(errors="surrogatepass"), hashlib.sha256)

    # ---- changes

    def put(self, name: str, role: str, password: str, *, client_id: str = "", chosen: bool = True) -> None:
        """Add a user, or replace one; it has no certificate.

        Args:
            name: unique.
            role: built in, or one of the site's own.
            password: in clear.
            client_id: the only one the credential is to be good for.
            chosen: whether somebody may have chosen the password; else it has at least 128 random bits.

        Raises:
            NotFound: there is no such role.
            Conflict: the client id is bound to another user.
        """
        self.roles.rule(role)
        record = replace(_made(role, password, chosen=chosen), client_id=client_id)
        with self.locked():
            owner = self.owner(client_id) if client_id else None
            if owner not in {None, name}:
                raise Conflict(f"the client id {client_id!r} is bound to user {owner!r}; choose another")
            self._save({**self._load(), str(name): record})

    def enrol(self, node: str, password: str, certificate: str = "") -> None:
        """Add the user of a node, bound to the node's id, or replace password and certificate of it.

        Args:
            node: the node's id, which is the user's name too.
            password: in clear; at least 128 random bits, since its hash is a fast one.
            certificate: SHA-256 of its DER in lower-case hex; earlier ones are worthless from now on.

        Raises:
            Conflict: a user of this name exists and is no node's.
        """
        made = _made(Role.NODE.value, password, chosen=False)
        record = replace(made, client_id=node, certificate=certificate)
        with self.locked():
            records = self._load()
            if node in set(Role) or (node in records and not self.is_node(node)):
                raise Conflict(f"there is a user {node!r} that is no node's; give the node another id")
            self._save({**records, node: record})

    def certify(self, name: str, certificate: str) -> None:
        """Record a renewed certificate (SHA-256 of its DER, lower-case hex); live sessions go on.

        Raises:
            NotFound: there is no such user.
        """
        self._change(name, certificate=certificate)

    def change_password(self, name: str, password: str, *, chosen: bool = True) -> None:
        """Replace a user's password; sessions of the old one end.

        Raises:
            NotFound: there is no such user.
        """
        made = _made("", password, chosen=chosen)
        self._change(name, argon2=made.argon2, mosquitto=made.mosquitto, sha256=made.sha256)

    def change_role(self, name: str, role: str) -> None:
        """Give a user another role; its sessions end.

        Raises:
            NotFound: there is no such user or role.
        """
        self.roles.rule(role)
        self._change(name, role=str(role))

    def disable(self, name: str, *, disabled: bool = True) -> None:
        """Refuse a user's credential from now on, or accept it again.

        Raises:
            NotFound: there is no such user.
        """
        self._change(name, disabled=disabled)

    def remove(self, name: str) -> None:
        """Forget a user; one that does not exist is no error."""
        with self.locked():
            records = self._load()
            if name in records:
                self._save({other: record for other, record in records.items() if other != name})

    def _change(self, name: str, **changes: Any) -> None:
        with self.locked():
            records = self._load()
            if name not in records:
                raise NotFound(f"there is no user {name!r}; known are {', '.join(sorted(records)) or 'none'}")
            self._save({**records, name: replace(records[name], **changes)})

    # ---- for brokers and sessions

    def mosquitto_hashes(self) -> dict[str, str]:
        """Return the password of every enabled user as Mosquitto's password file has it."""
        records = self._load()
        return {user.name: records[user.name].mosquitto for user in self.enabled()}

    def mosquitto_passwords(self) -> str:
        """Return the text of a Mosquitto password file with every enabled user."""
        return "".join(f"{name}:{hashed}\n" for name, hashed in self.mosquitto_hashes().items())

    def marks(self) -> dict[str, str]:
        """Return, for every enabled user, what :meth:`mark` does."""
        return {name: mark for name in self._load() if (mark := self.mark(name))}

    def mark(self, name: str) -> str:
        """Return something that is another once the user's role, password, client id or rights are; empty if disabled.

        A renewed certificate is no reason to end a session.
        """
        found = self._load().get(name)
        if found is None or self.find(name) is None:
            return ""
        text = f"{found.role} {found.secret} {found.client_id} {self.roles.mark(found.role)}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the file against other threads and processes (may be nested)."""
        with self._file.locked():
            yield

    def _load(self) -> Mapping[str, _Record]:
        return self._file.load().records

    def _save(self, records: Mapping[str, _Record]) -> None:
        self._file.save({name: asdict(record) for name, record in records.items()})


def _made(role: str, password: str, *, chosen: bool) -> _Record:
    mosquittos = mosquitto.hash_password(password)
    if chosen:
        return _Record(str(role), _HASHER.hash(password), mosquittos)
    return _Record(str(role), argon2="", mosquitto=mosquittos, sha256=_sha256(password))


def _private_folder(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)


def _parse(rows: Mapping[str, Any]) -> _Known:
    records = {name: _Record(**row) for name, row in rows.items()}
    for record in records.values():
        if not all(
            isinstance(text, str) for text in (record.role, record.argon2, record.sha256, record.client_id)
        ):
            raise TypeError("a role, hash or client id is no text")
    return _Known.of(records)


def _sha256(password: str) -> str:
    return hashlib.sha256(password.encode(errors="surrogatepass")).hexdigest()


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
