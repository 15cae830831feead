"""What a topic name and a topic filter may look like (MQTT 4.7), and shared subscriptions' filters."""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_LEVELS", "SHARE", "is_filter", "is_topic", "split_share"]

SHARE: Final = "$share/"
#: Deeper topics are refused, so that no walk over the tree is longer than this.
MAX_LEVELS: Final = 200


def is_topic(topic: str) -> bool:
    """Tell whether a message may be published to ``topic``: not empty, no wildcard, no NUL."""
    return (
        bool(topic)
        and "#" not in topic
        and "+" not in topic
        and "\0" not in topic
        and topic.count("/") < MAX_LEVELS
    )


def is_filter(topic_filter: str) -> bool:
    """Tell whether ``topic_filter`` is valid: ``#`` only as the whole last level, ``+`` only as a whole level."""
    levels = topic_filter.split("/")
    if not topic_filter or len(levels) > MAX_LEVELS or "\0" in topic_filter:
        return False
    if any("+" in level and level != "+" for level in levels):
        return False
    return "#" not in topic_filter or ("#" not in "/".join(levels[:-1]) and levels[-1] == "#")


def split_share(topic_filter: str) -> tuple[str, str]:
    """Split ``$share/group/filter`` into group and filter; the group of an ordinary filter is empty.

    A malformed shared filter gives an empty filter, which is never valid.
    """
    if not topic_filter.startswith(SHARE):
        return "", topic_filter
    group, _, rest = topic_filter[len(SHARE) :].partition("/")
    if not group or "+" in group or "#" in group:
        return "", ""
    return group, rest
