"""Who may use the board: users, their roles and tokens, changed by those who may; every change is in the audit log."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Collection
from pathlib import Path

from callboard_broker.access import Account, Right, Role, Users, credential_file
from callboard_broker.access.rules import Rule
from callboard_broker.services.api_tokens import ApiTokens
from callboard_broker.services.audit import Audit
from callboard_broker.services.logins import Logins
from callboard_broker.store.api_tokens import ApiTokenRecord
from callboard_core.errors import BadRequest, Conflict, NotFound
from callboard_core.runtime import write_private

__all__ = ["LEAST", "People"]

#: Fewest characters of a password that a person chooses (NIST SP 800-63B, 5.1.1.1), and most.
LEAST, _MOST = 8, 1000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
_CLIENT_ID = re.compile(r"[^+#/$\x00-\x1f{}]{1,64}")
_PASSWORD_BYTES = 12
#: This one keeps the board itself connected.
_BOARD = Role.BOARD.value


class People:
    """Safe from any thread. Methods that hash a password take about 20 ms.

    Every method that changes something takes ``by``, the user who asks.
    """

    def __init__(self, state: Path, users: Users, logins: Logins, tokens: ApiTokens, audit: Audit) -> None:
        self._state = state
        self._users = users
        self._logins = logins
        self._tokens = tokens
        self._audit = audit

    # ---- users

    def accounts(self) -> list[Account]:
        """Return all users, by name."""
        return self._users.accounts()

    def account(self, name: str) -> Account:
        """Return one user.

        Raises:
            NotFound: there is none of this name.
        """
        found = next((one for one in self.accounts() if one.user.name == name), None)
        if found is None:
            known = ", ".join(one.user.name for one in self.accounts())
            raise NotFound(f"there is no user {name!r}; known are {known}")
        return found

    def add(
        self, by: str, name: str, role: str, password: str | None = None, *, client_id: str = ""
    ) -> str | None:
        """Add a user; return the password that was made for it if none was given.

        Raises:
            BadRequest: name, password or client id are not possible.
            NotFound: there is no such role.
            Conflict: there is a user of this name, or the client id is bound to another one.
        """
        if not _NAME.fullmatch(name):
            raise BadRequest(
                f"name: {name!r} does not match {_NAME.pattern}: letters, digits and . _ @ -, at most 63"
            )
        if client_id and not _CLIENT_ID.fullmatch(client_id):
            raise BadRequest(f"client_id: {client_id!r} holds +, #, /, $ or more than 64 characters")
        if role == Role.BOARD:
            raise BadRequest("role: board is for the board itself; choose another")
        secret = _checked(password)
        with self._users.locked():
            if name in self._users.names():
                raise Conflict(f"there is a user {name!r} already; choose another name, or change that one")
            self._users.put(name, role, secret, client_id=client_id, chosen=password is not None)
        bound = f", bound to client id {client_id}" if client_id else ""
        self._audit.note(by, "user.add", name, detail=f"role {role}{bound}")
        return secret if password is None else None

    def change_password(
        self, by: str, name: str, password: str | None = None, *, keep_tokens: bool = False
    ) -> tuple[str | None, int]:
        """Give a user a new password; its sessions end, and its API tokens unless they are kept.

        Returns:
            The password if none was given, and how many tokens have ended.

        Raises:
            BadRequest: the password is too short or too long.
            NotFound: there is no such user.
            Conflict: it is the board's own.
        """
        self._changeable(name)
        secret = _checked(password)
        with self._users.locked():
            self._users.change_password(name, secret, chosen=password is not None)
            if name in set(Role):  # what programs of this machine log in with
                write_private(credential_file(self._state, name), secret + "\n")
        ended = self._end(name, keep_tokens=keep_tokens)
        self._audit.note(by, "user.password", name, detail=_ended(ended))
        return (secret if password is None else None), ended

    def change_role(self, by: str, name: str, role: str) -> None:
        """Give a user another role; its sessions end.

        Raises:
            NotFound: there is no such user or role.
            Conflict: it is built in, or the last one that may administer.
        """
        self._changeable(name)
        if name in set(Role):
            raise Conflict(f"the user {name!r} is built in and keeps its role; add another user")
        if role == Role.BOARD:
            raise BadRequest("role: board is for the board itself; choose another")
        with self._users.locked():
            if Right.ADMIN not in self._users.rights(role):
                self._keep_an_admin(name)
            self._users.change_role(name, role)
        self._logins.end_all(name)
        self._audit.note(by, "user.role", name, detail=f"role {role}")

    def disable(self, by: str, name: str, *, disabled: bool = True, keep_tokens: bool = False) -> int:
        """Refuse a user from now on and end its sessions, and its API tokens unless they are kept; or accept it again.

        Tokens that are kept are refused as well, until it is accepted again. Returns how many have ended.

        Raises:
            NotFound: there is no such user.
            Conflict: it is the board's own, or the last one that may administer.
        """
        self._changeable(name)
        with self._users.locked():
            if disabled:
                self._keep_an_admin(name)
            self._users.disable(name, disabled=disabled)
        ended = self._end(name, keep_tokens=keep_tokens) if disabled else 0
        self._audit.note(by, "user.disable" if disabled else "user.enable", name, detail=_ended(ended))
        return ended

    def remove(self, by: str, name: str) -> None:
        """Remove a user with all its tokens; its sessions end.

        Raises:
            NotFound: there is no such user.
            Conflict: it is built in, or the last one that may administer.
        """
        self._changeable(name)
        if name in set(Role):
            raise Conflict(f"the user {name!r} is built in; disable it instead")
        with self._users.locked():
            self._keep_an_admin(name)
            self._users.remove(name)
        self._audit.note(by, "user.remove", name, detail=_ended(self._end(name)))

    def _end(self, name: str, *, keep_tokens: bool = False) -> int:
        self._logins.end_all(name)
        return 0 if keep_tokens else self._tokens.remove_all(name)

    def _changeable(self, name: str) -> None:
        self.account(name)
        if name == _BOARD:
            raise Conflict("the user 'board' keeps the board itself connected and cannot be changed here")

    def _keep_an_admin(self, name: str) -> None:
        others = [one for one in self._users.enabled() if one.name not in {name, _BOARD}]
        found = self._users.find(name)
        is_admin = found is not None and Right.ADMIN in self._users.rights(found.role)
        if is_admin and not any(Right.ADMIN in self._users.rights(one.role) for one in others):
            raise Conflict(
                f"{name!r} is the last user that may administer; make another one first "
                "(callboard user add NAME --role admin)"
            )

    # ---- roles

    def roles(self) -> dict[str, Rule]:
        """Return all roles, the built-in ones first."""
        return {**{str(role): self._users.roles.rule(role) for role in Role}, **self._users.roles.custom()}

    def role(self, name: str) -> Rule:
        """Return one role.

        Raises:
            NotFound: there is none of this name.
        """
        return self._users.roles.rule(name)

    def put_role(self, by: str, name: str, rule: Rule) -> None:
        """Add a role, or replace one; who has it is connected anew.

        Raises:
            BadRequest: that is no name.
            Conflict: it is built in, or the last one that may administer would be gone.
        """
        with self._users.locked():
            old = self._users.roles.custom().get(name)
            if old is not None and Right.ADMIN in old.http and Right.ADMIN not in rule.http:
                self._keep_an_admin_beside(name)
            self._users.roles.put(name, rule)
        self._audit.note(by, "role.add" if old is None else "role.change", name, detail=_told(rule))

    def remove_role(self, by: str, name: str) -> None:
        """Remove a role that nobody has.

        Raises:
            NotFound: there is none of this name.
            Conflict: it is built in, or somebody has it.
        """
        with self._users.locked():
            holders = [one.user.name for one in self.accounts() if one.user.role == name]
            if holders and name not in set(Role):
                raise Conflict(f"{', '.join(holders)} has the role {name!r}; give them another one first")
            self._users.roles.remove(name)
        self._audit.note(by, "role.remove", name)

    def _keep_an_admin_beside(self, role: str) -> None:
        for one in self._users.enabled():
            if one.role != role and Right.ADMIN in self._users.rights(one.role):
                return
        raise Conflict(f"nobody could administer without the role {role!r}; make another admin first")

    # ---- tokens

    def tokens(self, username: str | None = None) -> list[ApiTokenRecord]:
        """Return all tokens, or those of one user."""
        return self._tokens.listing(username)

    def add_token(
        self, by: str, username: str, scope: Collection[str], *, note: str = "", expires: float | None = None
    ) -> tuple[str, ApiTokenRecord]:
        """Return a new token of a user, shown this once, and what is kept of it.

        Raises:
            NotFound: there is no such user.
            BadRequest: its role has less rights than ``scope``, or the time is over.
        """
        rights = self._users.rights(self.account(username).user.role)
        if more := sorted(set(scope) - set(rights)):
            has = ", ".join(right for right in Right if right in rights) or "none"
            raise BadRequest(f"scope: {username!r} has not the right {more[0]}; it has {has}")
        token, record = self._tokens.make(
            username, [right.value for right in Right if right in set(scope)], note=note, expires=expires
        )
        until = (
            "" if expires is None else f", until {time.strftime('%Y-%m-%d %H:%M', time.gmtime(expires))} UTC"
        )
        self._audit.note(
            by, "token.add", record.id, detail=f"for {username}: {' '.join(record.scope)}{until}"
        )
        return token, record

    def remove_token(self, by: str, token_id: str) -> None:
        """Make a token worthless.

        Raises:
            NotFound: there is none of this id.
        """
        record = self._tokens.remove(token_id)
        self._audit.note(by, "token.remove", token_id, detail=f"of {record.username}")


def _checked(password: str | None) -> str:
    if password is None:
        return secrets.token_urlsafe(_PASSWORD_BYTES)
    if not LEAST <= len(password) <= _MOST or not password.isprintable():
        raise BadRequest(f"password: expected {LEAST} to {_MOST} printable characters, without line breaks")
    return password


def _ended(tokens: int) -> str:
    return f"{tokens} tokens with it" if tokens else ""


def _told(rule: Rule) -> str:
    parts = {
        "publish": rule.publish,
        "subscribe": rule.subscribe,
        "never": rule.never,
        "http": sorted(rule.http),
    }
    return "; ".join(f"{key} {' '.join(value)}" for key, value in parts.items() if value)
