"""The same users and rules in Mosquitto's own formats: its password hash and its access control file. Pure."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from callboard_broker.access.rules import AUDIT_FEED, BOARD_WORKERS, Holder, Role, Rule
from callboard_core.topics import Leaf

__all__ = ["PasswordHash", "access_file", "hash_password", "own_tree"]

# Mosquitto's default is 101. It checks in its only thread, so this stays at about a millisecond; what protects
# the file is that our passwords are random, and its mode 0600.
_ROUNDS = 1_000
#: Random bytes, which are the 12 characters that Mosquitto insists on.
_SALT_BYTES = 9

_CLIENT = "{client}"
_OWN_TREE = "{site}/{client}/#"
_OWN_REPLY = "{site}/{client}/reply"


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """A password as Mosquitto keeps it: PBKDF2 with HMAC-SHA512.

    Attributes:
        rounds: of PBKDF2.
        salt: printable, unless an earlier version made it.
        digest: 64 bytes.
    """

    rounds: int
    salt: bytes
    digest: bytes

    @property
    def salt64(self) -> str:
        """The salt in base64."""
        return base64.b64encode(self.salt).decode()

    @property
    def digest64(self) -> str:
        """The digest in base64."""
        return base64.b64encode(self.digest).decode()

    @classmethod
    def parse(cls, text: str) -> PasswordHash:
        """Read ``$7$rounds$salt$digest``."""
        _, _, rounds, salt, digest = text.split("$")
        return cls(int(rounds), base64.b64decode(salt), base64.b64decode(digest))

    def __str__(self) -> str:
        return f"$7${self.rounds}${self.salt64}${self.digest64}"


def hash_password(password: str, *, salt: bytes | None = None, rounds: int = _ROUNDS) -> str:
    """Return what ``mosquitto_passwd`` would write: ``$7$rounds$salt$PBKDF2-HMAC-SHA512``."""
    # As text, because other brokers keep it as such.
    salt = salt or secrets.token_urlsafe(_SALT_BYTES).encode()
    return str(PasswordHash(rounds, salt, hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)))


def access_file(site: str, users: Iterable[Holder], rule_of: Callable[[str], Rule | None]) -> str:
    """Return the text of an access control file that allows each user what the role may do.

    Args:
        site: the site id.
        users: those that may log in.
        rule_of: a role to what it may do.

    Four things Mosquitto cannot express are weaker there: a pattern on the client id holds for every user, so a node that
    is not bound to an id may write under any node's topics (never to commands, except ping); a user bound to a client id
    is not kept from using another one; a retained command is not refused by the broker but by the node it is sent to; and
    the board's workers are denied one by one.
    """
    known = list(users)
    # Whatever a role is, it may answer itself. What else depends on the client id is a pattern, which holds for everybody.
    own = {_OWN_REPLY, *_depending(known, rule_of)}
    lines = [f"pattern write {_pattern(site, _OWN_REPLY)}"]
    lines += [f"pattern read {_pattern(site, topic)}" for topic in sorted(own)]
    for user in known:
        rule = rule_of(user.role)
        if rule is not None:
            lines += ["", f"user {user.name}", *_lines(rule, _Names(site, user.name, user.client_id))]
        if user.role == Role.BOARD:
            lines.append(f"topic readwrite {AUDIT_FEED}")  # who was kept out, from the engine to the board
    return "\n".join(lines) + "\n"


def _depending(users: Iterable[Holder], rule_of: Callable[[str], Rule | None]) -> Iterable[str]:
    """What users that are bound to no client id may read by the one they use."""
    for user in users:
        rule = None if user.client_id else rule_of(user.role)
        if rule is not None:
            yield from (topic for topic in rule.subscribe if _CLIENT in topic and "{user}" not in topic)


def _pattern(site: str, topic: str) -> str:
    return topic.replace("{site}", site).replace(_CLIENT, "%c")


class _Names(NamedTuple):
    """What the placeholders stand for; an empty client id is any."""

    site: str
    user: str
    client: str

    def fill(self, topics: Iterable[str]) -> list[str]:
        """Return the topics that can be written down."""
        found = []
        for topic in topics:
            filled = topic.replace("{site}", self.site).replace("{user}", self.user)
            filled = filled.replace(_CLIENT, self.client or _CLIENT)
            if _CLIENT not in filled:
                found.append(filled)
        return found


def _lines(rule: Rule, names: _Names) -> list[str]:
    lines = [f"topic deny {topic}" for topic in _denied(rule, names)]
    lines += [f"topic write {topic}" for topic in _writable(rule, names)]
    return lines + [
        f"topic read {topic}" for topic in names.fill(rule.subscribe) if not topic.startswith("$audit")
    ]


def _denied(rule: Rule, names: _Names) -> list[str]:
    """Spell out what a client may not publish to: a denial wins over every grant, so it must not be too wide."""
    denied = names.fill(rule.never)
    if not rule.still:
        return denied
    return [topic.replace("#", name) for topic in denied for name in BOARD_WORKERS]


def _writable(rule: Rule, names: _Names) -> list[str]:
    """Spell out what a client may publish to; under its own id becomes under any id, without the commands."""
    return names.fill(rule.publish) + own_tree(rule, names.site, names.client)


def own_tree(rule: Rule, site: str, client_id: str) -> list[str]:
    """Return where a client that is bound to no id may write because it may under its own: any id, but no commands."""
    if client_id or _OWN_TREE not in rule.publish:
        return []
    return [f"{site}/+/{leaf}/#" for leaf in Leaf if leaf is not Leaf.COMMAND]
