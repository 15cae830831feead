"""The same users and rules in Mosquitto's own formats: its password hash and its access control file. Pure."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping

from callboard_broker.access.rules import BOARD_WORKERS, RULES, Role, Rule
from callboard_core.topics import Leaf

__all__ = ["access_file", "hash_password"]

# Mosquitto's default is 101. It checks in its only thread, so this stays at about a millisecond; what protects
# the file is that our passwords are random, and its mode 0600.
_ROUNDS = 1_000
_SALT_BYTES = 12

_CLIENT = "{client}"
_OWN_TREE = "{site}/{client}/#"


def hash_password(password: str, *, salt: bytes | None = None, rounds: int = _ROUNDS) -> str:
    """Return what ``mosquitto_passwd`` would write: ``$7$rounds$salt$PBKDF2-HMAC-SHA512``."""
    salt = salt or secrets.token_bytes(_SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    return f"$7${rounds}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def access_file(site: str, users: Mapping[str, Role]) -> str:
    """Return the text of an access control file that allows each user what the role may do.

    Three things Mosquitto cannot express are weaker there: a pattern on the client id holds for every user, so
    a node may write under any node's topics (never to commands, except ping); a retained command is not
    refused by the broker but by the node it is sent to; and the board's workers are denied one by one.
    """
    # Whatever a role is, it may answer itself and read what is sent to its own id.
    lines = [f"pattern write {site}/%c/reply", f"pattern read {site}/%c/#"]
    for name, role in sorted(users.items()):
        rule = RULES[role]
        lines += ["", f"user {name}"]
        lines += [f"topic deny {topic}" for topic in _denied(rule, site)]
        lines += [f"topic write {topic}" for topic in _writable(rule, site)]
        lines += [f"topic read {_fill(topic, site)}" for topic in rule.subscribe if _CLIENT not in topic]
    return "\n".join(lines) + "\n"


def _denied(rule: Rule, site: str) -> list[str]:
    """Spell out what a client may not publish to: a denial wins over every grant, so it must not be too wide."""
    denied = [_fill(topic, site) for topic in rule.never]
    if not rule.still:
        return denied
    return [topic.replace("#", name) for topic in denied for name in BOARD_WORKERS]


def _writable(rule: Rule, site: str) -> list[str]:
    """Spell out what a client may publish to; under its own id becomes under any id, without the commands."""
    topics = [_fill(topic, site) for topic in rule.publish if _CLIENT not in topic]
    if _OWN_TREE in rule.publish:
        topics += [f"{site}/+/{leaf}/#" for leaf in Leaf if leaf is not Leaf.COMMAND]
    return topics


def _fill(topic: str, site: str) -> str:
    return topic.replace("{site}", site)
