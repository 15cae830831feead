from __future__ import annotations

import pytest

from callboard_broker.mqtt.topics import is_filter, is_topic, split_share


@pytest.mark.parametrize("topic", ["a", "/", "a//b", " ", "$SYS/x", "ä/é"])
def test_topics_that_may_be_published_to(topic: str) -> None:
    assert is_topic(topic)


@pytest.mark.parametrize("topic", ["", "a/#", "+", "a+b", "a\0", "/" * 200])
def test_topics_that_may_not(topic: str) -> None:
    assert not is_topic(topic)


@pytest.mark.parametrize("topic_filter", ["#", "+", "a/#", "+/a/+", "/+", "a", "/"])
def test_filters_that_are_valid(topic_filter: str) -> None:
    assert is_filter(topic_filter)


@pytest.mark.parametrize("topic_filter", ["", "a#", "#/a", "a/#/b", "a+", "+a/b", "a/b\0", "a/" * 300])
def test_filters_that_are_not(topic_filter: str) -> None:
    assert not is_filter(topic_filter)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a/b", ("", "a/b")),
        ("$share/g/a/#", ("g", "a/#")),
        ("$share//a", ("", "")),
        ("$share/g", ("g", "")),
        ("$share/g+/a", ("", "")),
    ],
)
def test_a_shared_filter_is_group_and_filter(name: str, parts: tuple[str, str]) -> None:
    assert split_share(name) == parts
