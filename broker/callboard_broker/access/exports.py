"""Users and rules for brokers that are not ours: Mosquitto's files and dynamic security, EMQX's rules and users. Pure.

What a broker cannot express is left out rather than allowed, and told in a list of notes.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from callboard_broker.access.mosquitto import PasswordHash, access_file, own_tree
from callboard_broker.access.rules import Role, Rule
from callboard_broker.access.users import User
from callboard_core.topics import BOARD, Leaf

__all__ = ["Exported", "for_emqx", "for_mosquitto"]

#: Priorities of what is allowed, taken away from that, and given back of that; the highest decides.
_ALLOWED, _NEVER, _STILL = 0, 1, 2
_CLIENT, _USER = "{client}", "{user}"

RuleOf = Callable[[str], Rule | None]


@dataclass
class Exported:
    """Files by name, and what to know about them."""

    files: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def for_mosquitto(site: str, users: Iterable[User], rule_of: RuleOf, hashes: Mapping[str, str]) -> Exported:
    """Return ``passwords`` and ``access`` for Mosquitto's own checks, and ``dynamic-security.json`` for its plugin.

    Args:
        site: the site id.
        users: those that may log in.
        rule_of: a role to what it may do.
        hashes: name to password hash, as Mosquitto's password file has it.
    """
    known = list(users)
    made = Exported()
    made.files["passwords"] = "".join(f"{user.name}:{hashes[user.name]}\n" for user in known)
    made.files["access"] = access_file(site, known, rule_of)
    made.files["dynamic-security.json"] = _dynamic_security(site, known, rule_of, hashes)
    made.notes = [
        "either: password_file and acl_file, or the plugin with dynamic-security.json; not both",
        "with the files a user that is bound to a client id is not kept from using another one; the plugin does that",
        "neither refuses retained commands; nodes refuse them themselves",
        *_unbound(known, rule_of),
    ]
    return made


def for_emqx(site: str, users: Iterable[User], rule_of: RuleOf, hashes: Mapping[str, str]) -> Exported:
    """Return ``acl.conf`` (file authorization), and ``users.csv`` (to import into the built-in database)."""
    known = list(users)
    made = Exported()
    rules = [line for user in known for line in _emqx_rules(site, user, rule_of(user.role))]
    lines = ["%% The first rule that fits decides.", *_emqx_first(site), *rules, "{deny, all}.", ""]
    made.files["acl.conf"] = "\n".join(lines)
    rows, left_out = [], []
    for user in known:
        parts = PasswordHash.parse(hashes[user.name])
        salt = parts.salt.decode("ascii", "replace")
        if salt.isascii() and salt.isprintable():
            rows.append([user.name, parts.digest.hex(), salt, "false"])
        else:
            left_out.append(user.name)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [["user_id", "password_hash", "salt", "is_superuser"], *rows]
    )
    made.files["users.csv"] = text.getvalue()
    made.notes = [
        (
            "authentication: built_in_database, user_id_type username, algorithm pbkdf2 with mac_fun sha512, "
            "iterations 1000, dk_length 64; import users.csv there (password type: hash)"
        ),
        "authorization: a source of type file with acl.conf, no_match deny; EMQX 5.1 or later",
        *_wider(known, rule_of),
    ]
    if left_out:
        made.notes.append(
            f"without a password there: {', '.join(left_out)}; give them a new one (callboard user passwd)"
        )
    return made


# ---- Mosquitto's dynamic security plugin (mosquitto-dynamic-security, version 2.0)


def _dynamic_security(site: str, users: list[User], rule_of: RuleOf, hashes: Mapping[str, str]) -> str:
    clients, roles = [], []
    for user in users:
        rule = rule_of(user.role)
        clients.append(_dynamic_client(user, PasswordHash.parse(hashes[user.name])))
        roles.append(
            {"rolename": _role_name(user), "acls": [] if rule is None else list(_acls(site, user, rule))}
        )
    found = {
        "defaultACLAccess": {
            "publishClientSend": False,
            "publishClientReceive": True,
            "subscribe": False,
            "unsubscribe": True,
        },
        "clients": clients,
        "groups": [],
        "roles": roles,
    }
    return json.dumps(found, indent=2) + "\n"


def _dynamic_client(user: User, parts: PasswordHash) -> dict[str, Any]:
    client: dict[str, Any] = {"username": user.name}
    if user.client_id:
        client["clientid"] = user.client_id
    return client | {
        "textname": f"Callboard {user.role}",
        "password": parts.digest64,
        "salt": parts.salt64,
        "iterations": parts.rounds,
        "roles": [{"rolename": _role_name(user), "priority": -1}],
    }


def _role_name(user: User) -> str:
    # A role of its own for each, because the plugin knows no placeholders.
    return f"callboard-{user.name}"


def _acls(site: str, user: User, rule: Rule) -> Iterable[dict[str, Any]]:
    for topic in own_tree(rule, site, user.client_id):
        yield _acl("publishClientSend", topic, _ALLOWED)
    for topic in _filled(rule.publish, site, user):
        yield _acl("publishClientSend", topic, _ALLOWED)
    for topic in _filled(rule.never, site, user):
        yield _acl("publishClientSend", topic, _NEVER, allow=False)
    for topic in _filled(rule.still, site, user):
        yield _acl("publishClientSend", topic, _STILL)
    for topic in _filled(rule.subscribe, site, user):
        yield _acl("subscribePattern", topic, _ALLOWED)


def _acl(kind: str, topic: str, priority: int, *, allow: bool = True) -> dict[str, Any]:
    return {"acltype": kind, "topic": topic, "priority": priority, "allow": allow}


def _filled(topics: Iterable[str], site: str, user: User) -> list[str]:
    """The topics that mean something for this user alone."""
    found = []
    for topic in topics:
        filled = topic.replace("{site}", site).replace(_USER, user.name)
        if user.client_id:
            filled = filled.replace(_CLIENT, user.client_id)
        if _CLIENT not in filled and not filled.startswith("$audit"):
            found.append(filled)
    return found


def _unbound(users: Iterable[User], rule_of: RuleOf) -> list[str]:
    """Who cannot do with the plugin what depends on the client id."""
    names = [
        user.name
        for user in users
        if not user.client_id
        and (rule := rule_of(user.role)) is not None
        and any(_CLIENT in topic for topic in (*rule.publish, *rule.subscribe))
    ]
    if not names:
        return []
    return [
        f"with the plugin these have no replies of their own, because they are bound to no client id: {', '.join(names)}"
    ]


# ---- EMQX (file authorization, EMQX 5.1)


def _emqx_first(site: str) -> Iterable[str]:
    """What goes for everybody.

    EMQX puts a client id into a rule as it is: one that holds a wildcard would stand for those of all others.
    """
    commands = f"{site}/+/{Leaf.COMMAND}/#"
    yield f"{{deny, {{clientid, {{re, {_quoted('[+#/${}]')}}}}}, all, [{_quoted('#')}]}}."
    yield f"{{deny, all, {{publish, [{{retain, true}}]}}, [{_quoted(commands)}]}}."


def _wider(users: Iterable[User], rule_of: RuleOf) -> list[str]:
    """Who may subscribe to more there than here: EMQX compares a filter with a rule as if it were a topic."""
    names = [
        user.name
        for user in users
        if user.role not in set(Role)
        and (rule := rule_of(user.role)) is not None
        and any(topic.endswith("/+") for topic in rule.subscribe)
    ]
    if not names:
        return []
    return [
        f"where a role subscribes to …/+, EMQX also lets it subscribe to …/# and below; this concerns {', '.join(names)}"
    ]


def _emqx_rules(site: str, user: User, rule: Rule | None) -> Iterable[str]:
    if rule is None:
        return
    if user.client_id:
        who = f"{{'and', [{{username, {_quoted(user.name)}}}, {{clientid, {_quoted(user.client_id)}}}]}}"
    else:
        who = f"{{username, {_quoted(user.name)}}}"
    if user.role == Role.NODE and not user.client_id:
        yield f"{{deny, {{'and', [{who}, {{clientid, {_quoted(BOARD)}}}]}}, all, [{_quoted('#')}]}}."
    for verdict, action, topics in (
        ("allow", "publish", rule.still),
        ("deny", "publish", rule.never),
        ("allow", "publish", rule.publish),
        ("allow", "subscribe", rule.subscribe),
    ):
        filled = [_emqx_topic(topic, site) for topic in topics if not topic.startswith("$audit")]
        if filled:
            yield f"{{{verdict}, {who}, {action}, [{', '.join(map(_quoted, filled))}]}}."


def _emqx_topic(topic: str, site: str) -> str:
    return topic.replace("{site}", site).replace(_CLIENT, "${clientid}").replace(_USER, "${username}")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
