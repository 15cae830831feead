"""Topics: build, parse and match them. Pure functions; no I/O.

The tree is ``{site}/{node}/{leaf}[/{kind}/{name}]``. Ids (site, node, name) match ``[a-z0-9][a-z0-9-]{0,62}``.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum

from callboard_core.errors import BadRequest

__all__ = [
    "BOARD",
    "ID_PATTERN",
    "Address",
    "Kind",
    "Leaf",
    "announce",
    "check_id",
    "client_of",
    "command",
    "event",
    "every_card",
    "every_command",
    "every_state",
    "every_status",
    "matches",
    "reply",
    "series",
    "slug",
    "state",
    "status",
    "stream",
]

#: The board's own node id.
BOARD = "board"

#: What an id looks like, as a regular expression that must match all of it.
ID_PATTERN = r"[a-z0-9][a-z0-9-]{0,62}"

_ID = re.compile(ID_PATTERN)


class Leaf(StrEnum):
    """What a topic carries; the third level."""

    STATUS = "status"
    ANNOUNCE = "announce"
    STATE = "state"
    SERIES = "series"
    STREAM = "stream"
    COMMAND = "command"
    EVENT = "event"
    REPLY = "reply"


class Kind(StrEnum):
    """What a node can offer; the fourth level. A job of the farm has a state, and no card."""

    SENSOR = "sensor"
    CONTROL = "control"
    ACTION = "action"
    WORKER = "worker"
    SLOT = "slot"
    LOOP = "loop"
    CAMERA = "camera"
    JOB = "job"


_BARE = frozenset({Leaf.STATUS, Leaf.ANNOUNCE, Leaf.REPLY})
_LEAVES = frozenset(Leaf)
_KINDS = frozenset(Kind)


@dataclass(frozen=True, slots=True)
class Address:
    """One topic, taken apart.

    ``kind`` is set for everything under a thing, ``name`` for a thing or an event, and neither for
    ``status``, ``reply`` and the node's own ``announce``.
    """

    site: str
    node: str
    leaf: Leaf
    kind: Kind | None = None
    name: str | None = None

    def __str__(self) -> str:
        parts = [self.site, self.node, self.leaf.value]
        if self.kind is not None:
            parts.append(self.kind.value)
        if self.name is not None:
            parts.append(self.name)
        return "/".join(parts)

    @classmethod
    def parse(cls, topic: str) -> Address:
        """Take a topic apart.

        Raises:
            BadRequest: the topic is not one of the tree's; the message names the level.
        """
        levels = topic.split("/")
        if len(levels) < 3:  # noqa: PLR2004 - site, node, leaf
            raise BadRequest(f"topic {topic!r}: expected site/node/leaf")
        site, node, leaf_text, *rest = levels
        check_id(site, "site")
        check_id(node, "node")
        if leaf_text not in _LEAVES:
            raise BadRequest(
                f"topic {topic!r}: unknown leaf {leaf_text!r}, expected one of {', '.join(Leaf)}"
            )
        leaf = Leaf(leaf_text)
        match rest:
            case [] if leaf in _BARE:
                return cls(site, node, leaf)
            case [name] if leaf is Leaf.EVENT:
                return cls(site, node, leaf, None, check_id(name, "event"))
            case [kind, name] if leaf not in {Leaf.STATUS, Leaf.REPLY, Leaf.EVENT}:
                if kind not in _KINDS:
                    raise BadRequest(
                        f"topic {topic!r}: unknown kind {kind!r}, expected one of {', '.join(Kind)}"
                    )
                return cls(site, node, leaf, Kind(kind), check_id(name, "name"))
        raise BadRequest(f"topic {topic!r}: wrong number of levels after {leaf.value!r}")


def check_id(value: str, field: str = "id") -> str:
    """Return ``value`` if it is an id.

    Raises:
        BadRequest: it is not; the message names ``field`` and suggests a valid spelling.
    """
    if _ID.fullmatch(value):
        return value
    try:
        hint = f"; try {slug(value)!r}"
    except BadRequest:
        hint = ""
    raise BadRequest(
        f"{field} {value!r} is not an id: use 1 to 63 of a-z, 0-9 and '-', not starting with '-'{hint}"
    )


def slug(text: str) -> str:
    """Turn any text into an id: ``"Open vent"`` and ``"open_vent"`` give ``"open-vent"``, ``"Größe"`` gives ``"grosse"``.

    Raises:
        BadRequest: no letter or digit is left.
    """
    spelled = unicodedata.normalize("NFKD", text.casefold())
    letters = "".join(each for each in spelled if not unicodedata.combining(each))
    found = re.sub(r"[^a-z0-9]+", "-", letters).strip("-")[:63].rstrip("-")
    if not found:
        raise BadRequest(f"{text!r} has no letter or digit to make an id of")
    return found


def status(site: str, node: str) -> str:
    """Topic of a node's liveness (retained, last will)."""
    return f"{site}/{node}/status"


def announce(site: str, node: str, kind: Kind | None = None, name: str | None = None) -> str:
    """Topic of a node's own card, or of one of its things' cards."""
    return f"{site}/{node}/announce" if kind is None else f"{site}/{node}/announce/{kind}/{name}"


def state(site: str, node: str, kind: Kind, name: str) -> str:
    """Topic of a thing's last value or state (retained)."""
    return f"{site}/{node}/state/{kind}/{name}"


def series(site: str, node: str, kind: Kind, name: str) -> str:
    """Topic of a thing's batches of readings."""
    return f"{site}/{node}/series/{kind}/{name}"


def stream(site: str, node: str, kind: Kind, name: str) -> str:
    """Topic of a thing's raw bytes."""
    return f"{site}/{node}/stream/{kind}/{name}"


def command(site: str, node: str, kind: Kind, name: str) -> str:
    """Topic to which calls for a thing are sent (never retained)."""
    return f"{site}/{node}/command/{kind}/{name}"


def event(site: str, node: str, name: str) -> str:
    """Topic of one of a node's events."""
    return f"{site}/{node}/event/{name}"


def reply(site: str, client: str) -> str:
    """Topic on which a client receives acknowledgements and replies."""
    return f"{site}/{client}/reply"


def client_of(reply_topic: str) -> str:
    """Return whose reply topic it is: the client that :func:`reply` was given."""
    return reply_topic.rsplit("/", 2)[-2]


def every_status(site: str) -> str:
    """Filter: the liveness of every node."""
    return f"{site}/+/status"


def every_card(site: str) -> str:
    """Filter: the whole directory (``#`` also matches the node's own card)."""
    return f"{site}/+/announce/#"


def every_state(site: str) -> str:
    """Filter: every thing's last value or state."""
    return f"{site}/+/state/#"


def every_command(site: str, node: str) -> str:
    """Filter: all calls for one node."""
    return f"{site}/{node}/command/#"


def matches(topic_filter: str, topic: str) -> bool:
    """Tell whether an MQTT filter matches a topic (MQTT 3.1.1, 4.7: ``$`` topics need a literal first level)."""
    if topic.startswith("$") and topic_filter[:1] in {"+", "#"}:
        return False
    wanted, levels = topic_filter.split("/"), topic.split("/")
    for position, level in enumerate(wanted):
        if level == "#":
            return True
        if position >= len(levels) or level not in {"+", levels[position]}:
            return False
    return len(wanted) == len(levels)
