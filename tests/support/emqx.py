"""What EMQX makes of an ``acl.conf``: its file authorization, as its documentation (5.x, "Use ACL File") tells it.

Rules from top to bottom, the first that fits decides. Who: a user name, a client id, a regular expression on it, ``and``.
Topics: filters, in which ``${clientid}`` and ``${username}`` are put as they are, wildcards included; ``+`` of a rule also
matches a ``#`` that is subscribed to, since what is subscribed to is compared like a topic.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

__all__ = ["Acl"]

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\'[a-z]+\'|[a-z_]+|[{}\[\],.]')


@dataclass(frozen=True)
class Acl:
    """A file's rules."""

    rules: list[Any]

    @classmethod
    def read(cls, text: str) -> Acl:
        """Read the text of a file; fails at what is no list of Erlang terms."""
        lines = [line for line in text.splitlines() if not line.startswith("%%")]
        return cls(_Terms("\n".join(lines)).every())

    def allows(self, user: str, client: str, action: str, topic: str, *, retain: bool = False) -> bool:
        """Tell whether a client may publish to a topic, or subscribe to a filter."""
        topic = re.sub(r"^\$share/[^/]*/", "", topic) if action == "subscribe" else topic
        for verdict, who, *rest in self.rules:
            what, topics = rest or ("all", ["#"])
            named = [t.replace("${clientid}", client).replace("${username}", user) for t in topics]
            if (
                _is(who, user, client)
                and _means(what, action, retain=retain)
                and any(_match(topic.split("/"), one.split("/")) for one in named)
            ):
                return bool(verdict == "allow")
        return False


def _is(who: Any, user: str, client: str) -> bool:
    if who == "all":
        return True
    kind, value = who
    if kind == "and":
        return all(_is(one, user, client) for one in value)
    name = {"username": user, "clientid": client}[kind]
    return re.search(value[1], name) is not None if isinstance(value, tuple) else value == name


def _means(what: Any, action: str, *, retain: bool) -> bool:
    if isinstance(what, tuple):
        kind, options = what
        assert options == [("retain", "true")]
        return bool(kind == action) and retain
    return what in {"all", action}


def _match(topic: list[str], rule: list[str]) -> bool:
    if rule == ["#"]:
        return True
    if not topic or not rule:
        return not topic and not rule
    return rule[0] in {"+", topic[0]} and _match(topic[1:], rule[1:])


class _Terms:
    """Erlang terms: tuples, lists, strings, atoms."""

    def __init__(self, text: str) -> None:
        assert not _TOKEN.sub("", text).strip(), _TOKEN.sub("", text)
        self._tokens = _TOKEN.findall(text)

    def every(self) -> list[Any]:
        found = []
        while self._tokens:
            found.append(self._one())
            assert self._tokens.pop(0) == "."
        return found

    def _one(self) -> Any:
        token = self._tokens.pop(0)
        if token in {"{", "["}:
            items = self._items({"{": "}", "[": "]"}[token])
            return tuple(items) if token == "{" else items
        return json.loads(token) if token[0] == '"' else token.strip("'")

    def _items(self, end: str) -> list[Any]:
        items: list[Any] = []
        while self._tokens[0] != end:
            items.append(self._one())
            if self._tokens[0] == ",":
                self._tokens.pop(0)
        self._tokens.pop(0)
        return items
