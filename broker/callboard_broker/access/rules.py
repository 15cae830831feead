"""What each role may do, as topic patterns, and a grant compiled from them for one client.

Pure. ``{site}``, ``{client}`` and ``{user}`` in a pattern stand for the site id, the client's own id and its user.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from callboard_core.farm.messages import ATTEMPT_WORKER
from callboard_core.topics import BOARD, Leaf, matches

__all__ = [
    "AUDIT_FEED",
    "BOARD_WORKERS",
    "OWNER_RANK",
    "RULES",
    "Grant",
    "Holder",
    "Right",
    "Role",
    "Rule",
    "compile_grant",
    "compile_rule",
    "covers",
    "is_command",
]

#: Answers kept per client and kind of question; a client that walks through more topics starts afresh.
CACHE_LIMIT = 2_000


class Role(StrEnum):
    """What a credential is for."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    NODE = "node"
    BOARD = "board"
    ADMIN = "admin"


class Right(StrEnum):
    """What a role may do over HTTP; whoever has a later one has those before it too."""

    READ = "read"
    COMMAND = "command"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Rule:
    """Topic filters a role may publish to and subscribe to, and its rights over HTTP; everything else is denied.

    ``never`` takes away from ``publish``, and ``still`` gives back some of that.
    """

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    never: tuple[str, ...] = ()
    still: tuple[str, ...] = ()
    http: frozenset[Right] = frozenset()
    note: str = ""


#: The board's workers that are for people and the board. Mosquitto must be told their names, because there a
#: denial of all of them could not be taken back for one.
BOARD_WORKERS = ("api", "call", "forget", "history", "job", "submit")


_READ = ("{site}/#", "$SYS/#")
_OWN_REPLY = "{site}/{client}/reply"

#: Where the embedded broker tells who sent which command. Not below $SYS, which everybody may read.
AUDIT_FEED = "$audit/commands"

RULES: dict[str, Rule] = {
    Role.VIEWER: Rule(publish=(_OWN_REPLY,), subscribe=_READ, http=frozenset({Right.READ})),
    Role.OPERATOR: Rule(
        publish=(_OWN_REPLY, "{site}/+/command/#"),
        subscribe=_READ,
        http=frozenset({Right.READ, Right.COMMAND}),
    ),
    Role.NODE: Rule(
        # The answer goes to the caller's reply topic; a starting node asks its namesake whether it lives; workers
        # call each other. What nodes tell everybody as events is also for nodes (heartbeats, publish/subscribe).
        publish=(
            "{site}/{client}/#",
            "{site}/+/reply",
            "{site}/+/command/action/ping",
            "{site}/+/command/action/lane",
            "{site}/+/command/worker/+",
        ),
        subscribe=("{site}/{client}/#", "{site}/+/announce/#", "{site}/+/status", "{site}/+/event/+"),
        # What the board itself offers (forgetting nodes, for one) is for people and the board. Only what becomes
        # of the tasks it assigned, slots tell it themselves.
        never=("{site}/board/command/worker/#",),
        still=(f"{{site}}/board/command/worker/{ATTEMPT_WORKER}",),
    ),
    Role.BOARD: Rule(publish=("{site}/#",), subscribe=(*_READ, AUDIT_FEED)),
    Role.ADMIN: Rule(publish=("#", "$SYS/#"), subscribe=("#", "$SYS/#", AUDIT_FEED), http=frozenset(Right)),
}


#: Nobody can keep a node, let alone the board, away from its client id by taking that first.
_RANKS: Mapping[str, int] = {Role.VIEWER: 0, Role.OPERATOR: 0, Role.NODE: 1, Role.ADMIN: 2, Role.BOARD: 4}
#: Of whoever uses the client id that is bound to him: only the board may take it.
OWNER_RANK = 3


class _Answers(dict[str, bool]):
    """Answers by topic, worked out once each."""

    def __init__(self, decide: Callable[[str], bool]) -> None:
        super().__init__()
        self._decide = decide

    def __missing__(self, topic: str) -> bool:
        if len(self) >= CACHE_LIMIT:
            self.clear()
        answer = self[topic] = self._decide(topic)
        return answer


class Grant:
    """What one client may do. Cheap to ask: every answer is kept by topic.

    Attributes:
        rank: whoever outranks the holder of a client id may take it.
    """

    __slots__ = ("_publish", "_receive", "_site", "_subscribe", "rank")

    #: Whatever a filter that may be subscribed to can match may also be received.
    subscribe_covers_receive = True

    def __init__(
        self,
        *,
        site: str,
        publish: Sequence[str],
        subscribe: Sequence[str],
        never: Sequence[str] = (),
        still: Sequence[str] = (),
        rank: int = 0,
    ) -> None:
        self._site = site
        self.rank = rank
        self._publish = _Answers(
            lambda topic: (
                any(matches(allowed, topic) for allowed in publish)
                and (topic in still or not any(matches(denied, topic) for denied in never))
            )
        )
        self._receive = _Answers(lambda topic: any(matches(allowed, topic) for allowed in subscribe))
        self._subscribe = _Answers(lambda wanted: _may_subscribe(subscribe, wanted))

    def may_publish(self, topic: str, retain: bool = False) -> bool:
        """Tell whether the client may publish to ``topic``; nobody may retain a command."""
        return self._publish[topic] and not (retain and is_command(self._site, topic))

    def may_subscribe(self, topic_filter: str) -> bool:
        """Tell whether everything ``topic_filter`` can match may be received (``$share/…/`` is looked through)."""
        return self._subscribe[topic_filter]

    def may_receive(self, topic: str) -> bool:
        """Tell whether a message on ``topic`` may be delivered to the client."""
        return self._receive[topic]


class Holder(Protocol):
    """Whose rights they are."""

    @property
    def name(self) -> str:
        """The user's name."""

    @property
    def role(self) -> str:
        """What the rights depend on."""

    @property
    def client_id(self) -> str:
        """The client id the credential is bound to; empty for any."""


def compile_grant(role: Role | str, site: str, client_id: str, *, bound: bool = False) -> Grant:
    """Return what a client of a built-in role may do; ``bound`` says that the client id is nobody else's.

    Raises:
        ValueError: there is no such role.
    """
    return compile_rule(RULES[Role(role)], role, site, client_id, bound=bound)


def compile_rule(
    rule: Rule, role: str, site: str, client_id: str, *, user: str = "", bound: bool = False
) -> Grant:
    """Return what a client may do by a rule.

    A client id or user name that holds a wildcard or a level separator gets nothing that depends on it, and neither does
    a node that calls itself the board.
    """
    if role == Role.NODE and client_id == BOARD:
        client_id = ""
    names = {"client": client_id, "user": user}
    return Grant(
        site=site,
        publish=_fill(rule.publish, site, names),
        subscribe=_fill(rule.subscribe, site, names),
        never=_fill(rule.never, site, names),
        still=_fill(rule.still, site, names),
        rank=max(_RANKS.get(role, 0), OWNER_RANK if bound else 0),
    )


def is_command(site: str, topic: str) -> bool:
    """Tell whether ``topic`` carries commands of ``site``."""
    levels = topic.split("/", 3)
    return len(levels) == 4 and levels[0] == site and levels[2] == Leaf.COMMAND  # noqa: PLR2004


def covers(allowed: str, wanted: str) -> bool:
    """Tell whether every topic that matches the filter ``wanted`` also matches the filter ``allowed``."""
    if wanted.startswith("$") and allowed[:1] in {"+", "#"}:
        return False
    ours, theirs = allowed.split("/"), wanted.split("/")
    for position, level in enumerate(ours):
        if level == "#":
            return True
        # `a/#` also matches `a` itself, so a trailing `#` reaches one level less than `+`.
        if position >= len(theirs) or theirs[position] == "#":
            return False
        if level not in {"+", theirs[position]}:
            return False
    return len(ours) == len(theirs)


def _fill(patterns: Sequence[str], site: str, names: Mapping[str, str]) -> tuple[str, ...]:
    usable = {key: name for key, name in names.items() if name and not set(name) & set("+#/$\0{}")}
    return tuple(
        filled
        for filled in (_filled(pattern.replace("{site}", site), usable) for pattern in patterns)
        if "{" not in filled
    )


def _filled(pattern: str, names: Mapping[str, str]) -> str:
    for key, name in names.items():
        pattern = pattern.replace(f"{{{key}}}", name)
    return pattern


def _may_subscribe(allowed: Sequence[str], wanted: str) -> bool:
    if wanted.startswith("$share/"):
        _, _, wanted = wanted.removeprefix("$share/").partition("/")
    return bool(wanted) and any(covers(one, wanted) for one in allowed)
