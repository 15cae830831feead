"""The roles file: roles of a site's own beside the built-in ones, each with topic patterns and HTTP rights."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from callboard_broker.access.kept import Kept
from callboard_broker.access.rules import RULES, Grant, Holder, Right, Role, Rule, compile_rule
from callboard_core.errors import BadRequest, Conflict, NotFound
from callboard_core.topics import check_id

__all__ = ["Roles", "make_rule", "roles_file"]

#: Patterns of one kind in one role, and characters of a pattern and a note.
_PATTERNS, _LONGEST = 100, 500
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_PLACEHOLDERS = ("site", "client", "user")


def roles_file(users: Path) -> Path:
    """Return where the roles lie, beside the users file."""
    return users.with_name("roles.json")


class Roles:
    """Built-in roles and those of one file.

    Args:
        path: the roles file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        remedy = "restore it from a backup, or move it away: who has one of its roles cannot log in then"
        self._file = Kept(path, _parse, what="roles", remedy=remedy)

    def custom(self) -> Mapping[str, Rule]:
        """Return the site's own roles by name."""
        return self._file.load()

    def find(self, name: str) -> Rule | None:
        """Return what a role may do, or None if there is no such role."""
        return RULES.get(name) or self._file.load().get(name)

    def rule(self, name: str) -> Rule:
        """Return what a role may do.

        Raises:
            NotFound: there is no such role.
        """
        found = self.find(name)
        if found is None:
            known = ", ".join([*RULES, *sorted(self.custom())])
            raise NotFound(f"there is no role {name!r}; known are {known}")
        return found

    def mark(self, name: str) -> str:
        """Return something that is another once what a role may do over MQTT is; built-in ones never change."""
        rule = self.custom().get(name)
        return "" if rule is None else repr((rule.publish, rule.subscribe, rule.never))

    def put(self, name: str, rule: Rule) -> None:
        """Add or replace a role.

        Raises:
            BadRequest: that is no name.
            Conflict: it is a built-in one.
        """
        if check_id(name, "role") in set(Role):
            raise Conflict(f"the role {name!r} is built in and cannot be changed; choose another name")
        with self._file.locked():
            self._save({**self.custom(), name: rule})

    def remove(self, name: str) -> None:
        """Forget a role.

        Raises:
            NotFound: there is no such role.
            Conflict: it is a built-in one.
        """
        if name in set(Role):
            raise Conflict(f"the role {name!r} is built in and cannot be removed")
        with self._file.locked():
            self.rule(name)
            self._save({other: rule for other, rule in self.custom().items() if other != name})

    def grant(self, user: Holder, site: str, client_id: str) -> Grant:
        """Return what a user may do as ``client_id``.

        Raises:
            NotFound: there is no such role (any more).
        """
        rule = self.rule(user.role)
        return compile_rule(rule, user.role, site, client_id, user=user.name, bound=bool(user.client_id))

    def _save(self, rules: Mapping[str, Rule]) -> None:
        self._file.save({name: _row(rule) for name, rule in rules.items()})


def make_rule(
    *,
    publish: Sequence[str] = (),
    subscribe: Sequence[str] = (),
    never: Sequence[str] = (),
    http: Sequence[str] = (),
    note: str = "",
) -> Rule:
    """Return a rule made of texts.

    Args:
        publish: filters it may publish to; ``{site}``, ``{client}`` and ``{user}`` stand for site, client id, user name.
        subscribe: filters whose messages it may receive.
        never: filters that are taken away from ``publish``.
        http: of read, command and admin; whoever has a later one has the earlier ones too.
        note: what it is for.

    Raises:
        BadRequest: one of them is wrong; the message names it.
    """
    rights = set(http)
    if unknown := rights - set(Right):
        raise BadRequest(f"http: {min(unknown)!r} is none of {', '.join(Right)}")
    for kind, patterns in (("publish", publish), ("subscribe", subscribe), ("never", never)):
        if len(patterns) > _PATTERNS:
            raise BadRequest(f"{kind}: {len(patterns)} patterns, more than {_PATTERNS}")
        for pattern in patterns:
            _check(pattern, kind)
    if len(note) > _LONGEST:
        raise BadRequest(f"note: longer than {_LONGEST} characters")
    return Rule(tuple(publish), tuple(subscribe), tuple(never), http=_with_lower(rights), note=note)


def _with_lower(rights: set[str]) -> frozenset[Right]:
    order = list(Right)
    highest = max((order.index(Right(right)) for right in rights), default=-1)
    return frozenset(order[: highest + 1])


def _check(pattern: str, kind: str) -> None:
    wrong = [name for name in _PLACEHOLDER.findall(pattern) if name not in _PLACEHOLDERS]
    filled = _PLACEHOLDER.sub("x", pattern)
    levels = filled.split("/")
    if wrong:
        problem = f"{{{wrong[0]}}} is none of {', '.join(f'{{{name}}}' for name in _PLACEHOLDERS)}"
    elif not pattern or len(pattern) > _LONGEST or not _is_one_line(pattern) or set(filled) & set("{}"):
        problem = (
            f"expected a topic filter of at most {_LONGEST} characters, none of them a control character"
        )
    elif "#" in "".join(levels[:-1]) or any(len(one) > 1 and set(one) & set("+#") for one in levels):
        problem = "+ and # stand for whole levels, # only for the last ones"
    elif filled.startswith("$") and (kind != "subscribe" or levels[0] != "$SYS"):
        problem = "of what begins with $, only $SYS/… can be subscribed to"
    else:
        return
    raise BadRequest(f"{kind}: {pattern!r}: {problem}")


def _is_one_line(pattern: str) -> bool:
    """Brokers keep their rules in lines: what goes into one must not begin another."""
    return not any(unicodedata.category(one) in {"Cc", "Zl", "Zp"} for one in pattern)


def _row(rule: Rule) -> dict[str, Any]:
    return {
        "publish": rule.publish,
        "subscribe": rule.subscribe,
        "never": rule.never,
        "http": [right for right in Right if right in rule.http],
        "note": rule.note,
    }


def _parse(rows: Mapping[str, Any]) -> dict[str, Rule]:
    try:
        return {
            check_id(name, "role"): make_rule(**row) for name, row in rows.items() if name not in set(Role)
        }
    except BadRequest as error:
        raise ValueError(error.message) from None
