"""What each role may do, as topic patterns, and a grant compiled from them for one client.

Pure. ``{site}`` and ``{client}`` in a pattern stand for the site id and the client's own id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from callboard_core.farm.messages import ATTEMPT_WORKER
from callboard_core.topics import BOARD, Leaf, matches

__all__ = [
    "BOARD_WORKERS",
    "OWNER_RANK",
    "RULES",
    "Grant",
    "Holder",
    "Role",
    "Rule",
    "compile_grant",
    "covers",
    "grant_for",
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


@dataclass(frozen=True, slots=True)
class Rule:
    """Topic filters a role may publish to and subscribe to; everything else is denied.

    ``never`` takes away from ``publish``, and ``still`` gives back some of that.
    """

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    never: tuple[str, ...] = ()
    still: tuple[str, ...] = ()


#: The board's workers that are for people and the board. Mosquitto must be told their names, because there a
#: denial of all of them could not be taken back for one.
BOARD_WORKERS = ("api", "call", "forget", "history", "job", "submit")


_READ = ("{site}/#", "$SYS/#")
_OWN_REPLY = "{site}/{client}/reply"

RULES: dict[Role, Rule] = {
    Role.VIEWER: Rule(publish=(_OWN_REPLY,), subscribe=_READ),
    Role.OPERATOR: Rule(publish=(_OWN_REPLY, "{site}/+/command/#"), subscribe=_READ),
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
    Role.BOARD: Rule(publish=("{site}/#",), subscribe=_READ),
    Role.ADMIN: Rule(publish=("#", "$SYS/#"), subscribe=("#", "$SYS/#")),
}


#: Nobody can keep a node, let alone the board, away from its client id by taking that first.
_RANKS = {Role.VIEWER: 0, Role.OPERATOR: 0, Role.NODE: 1, Role.ADMIN: 2, Role.BOARD: 4}
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
    def role(self) -> str:
        """What the rights depend on."""

    @property
    def client_id(self) -> str:
        """The client id the credential is bound to; empty for any."""


def grant_for(user: Holder, site: str, client_id: str) -> Grant:
    """Return what a user may do as ``client_id``.

    Raises:
        ValueError: there is no such role.
    """
    return compile_grant(user.role, site, client_id, bound=bool(user.client_id))


def compile_grant(role: Role | str, site: str, client_id: str, *, bound: bool = False) -> Grant:
    """Return what a client of ``role`` may do; ``bound`` says that the client id is nobody else's.

    A client id that holds a wildcard or a level separator gets nothing that depends on its id, and neither does
    a node that calls itself the board.

    Raises:
        ValueError: there is no such role.
    """
    rule = RULES[Role(role)]
    if role == Role.NODE and client_id == BOARD:
        client_id = ""
    return Grant(
        site=site,
        publish=_fill(rule.publish, site, client_id),
        subscribe=_fill(rule.subscribe, site, client_id),
        never=_fill(rule.never, site, client_id),
        still=_fill(rule.still, site, client_id),
        rank=max(_RANKS[Role(role)], OWNER_RANK if bound else 0),
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


def _fill(patterns: Sequence[str], site: str, client_id: str) -> tuple[str, ...]:
    usable = bool(client_id) and not set(client_id) & set("+#/$\0")
    return tuple(
        pattern.replace("{site}", site).replace("{client}", client_id)
        for pattern in patterns
        if usable or "{client}" not in pattern
    )


def _may_subscribe(allowed: Sequence[str], wanted: str) -> bool:
    if wanted.startswith("$share/"):
        _, _, wanted = wanted.removeprefix("$share/").partition("/")
    return bool(wanted) and any(covers(one, wanted) for one in allowed)
