"""MQTT 3.1.1 section 4.7 and 1.5.3: topic names, filters, wildcards and UTF-8."""

from __future__ import annotations

import pytest

from support import packets as p
from support.engines import Engine

MATCHES = [
    # filter, topic, whether they match (the standard's own examples first)
    ("sport/tennis/player1/#", "sport/tennis/player1", True),
    ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
    ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
    ("sport/#", "sport", True),
    ("sport/tennis/+", "sport/tennis/player1", True),
    ("sport/tennis/+", "sport/tennis/player1/ranking", False),
    ("sport/+", "sport", False),
    ("sport/+", "sport/", True),
    ("+/+", "/finance", True),
    ("/+", "/finance", True),
    ("+", "/finance", False),
    ("sport/+/player1", "sport/tennis/player1", True),
    ("+/tennis/#", "sport/tennis", True),
    ("+/tennis/#", "sport/tennis/a/b", True),
    ("a/b", "a/B", False),
    ("a/b", "a/b/", False),
    ("a//b", "a//b", True),
    ("a/+/b", "a//b", True),
    ("a/b", "a/ b", False),
    ("a/+/+/d", "a/b/c/d", True),
    ("a/+/+/d", "a/b/d", False),
    ("a/+/#", "a", False),
    ("a/+/#", "a/b", True),
    ("+/#", "a", True),
    ("#", "a/b/c", True),
    ("a/$x/b", "a/$x/b", True),
    ("a/+/b", "a/$x/b", True),
    ("ä/ö", "ä/ö", True),
]


@pytest.mark.parametrize(("wanted", "topic", "matches"), MATCHES)
def test_mqtt_4_7_filters_match_as_the_standard_says(
    engine: Engine, unique: str, wanted: str, topic: str, matches: bool
) -> None:
    with engine.connect(unique) as wire:
        wire.subscribe(wanted)
        wire.publish(topic, unique.encode(), qos=1)
        got = [m for m in wire.backlog() if m.payload == unique.encode()]
        assert [m.topic for m in got] == ([topic] if matches else [])


@pytest.mark.parametrize("topic", ["a/+", "a/#", "#", "+", "a+", "a/b#"])
def test_mqtt_3_3_2_2_wildcards_in_a_published_topic_close(engine: Engine, unique: str, topic: str) -> None:
    with engine.connect(unique) as wire:
        wire.send(p.publish(topic, b"x", qos=1, pid=1))
        assert wire.is_closed()


@pytest.mark.parametrize("wanted", ["a/#/b", "a#", "#/a", "##", "a/b#", "/#/"])
def test_mqtt_4_7_1_2_a_hash_has_to_be_the_whole_last_level(engine: Engine, unique: str, wanted: str) -> None:
    _refused(engine, unique, wanted)


@pytest.mark.parametrize("wanted", ["a+", "+a", "a/b+/c", "++", "a/+b"])
def test_mqtt_4_7_1_3_a_plus_has_to_be_a_whole_level(engine: Engine, unique: str, wanted: str) -> None:
    _refused(engine, unique, wanted)


def _refused(engine: Engine, unique: str, wanted: str) -> None:
    """A bad filter is a protocol error; refusing it in SUBACK is tolerated by the standard's wording."""
    with engine.connect(unique) as wire:
        wire.send(p.subscribe([(wanted, 0)]))
        assert wire.is_closed()


def test_mqtt_4_7_2_1_leading_wildcards_do_not_match_dollar_topics(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        wire.subscribe("#", "+/#", f"+/{unique}")
        wire.publish(f"$test/{unique}", b"hidden", qos=0)
        assert not [m for m in wire.backlog() if m.topic.startswith("$")]


def test_mqtt_4_7_2_1_dollar_topics_are_found_when_named(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire, engine.connect(f"{unique}p") as other:
        wire.subscribe(f"$test/{unique}/#")
        other.publish(f"$test/{unique}/a", b"seen")
        assert other.is_quiet()
        assert wire.message().payload == b"seen"


def test_publishing_under_dollar_sys_does_no_harm(engine: Engine, unique: str) -> None:
    """Only the broker writes there: a client's message is dropped, or its connection closed; no zombie stays."""
    with engine.connect(f"{unique}w") as watcher, engine.connect(unique) as wire:
        watcher.subscribe("$SYS/fake/#")
        wire.send(p.publish("$SYS/fake/x", b"x", qos=1, pid=3))
        assert wire.is_closed(0.5) or wire.receive().kind == p.PUBACK
        assert watcher.is_quiet()


def test_mqtt_4_7_3_1_topics_and_filters_have_at_least_one_character(engine: Engine, unique: str) -> None:
    for raw in (p.publish("", b"x", qos=1), p.subscribe([("", 0)])):
        with engine.connect(unique) as wire:
            wire.send(raw)
            assert wire.is_closed()


def test_mqtt_4_7_3_2_null_is_refused_in_topics_and_filters(engine: Engine, unique: str) -> None:
    for raw in (p.publish("a\0b", b"x", qos=1), p.subscribe([("a\0b", 0)])):
        with engine.connect(unique) as wire:
            wire.send(raw)
            assert wire.is_closed()


def test_mqtt_4_7_3_3_topics_may_be_65535_bytes_long(engine: Engine, unique: str) -> None:
    topic = f"{unique}/" + "x" * (65535 - len(unique) - 1)
    with engine.connect(unique) as wire:
        wire.subscribe(topic)
        wire.publish(topic, b"long", qos=1)
        assert wire.wait_for(lambda m: m.kind == p.PUBLISH).topic == topic


def test_topics_may_have_many_levels(engine: Engine, unique: str) -> None:
    topic = "/".join([unique] * 150)
    with engine.connect(unique) as wire:
        assert wire.subscribe(f"{unique}/#").codes == (0,)
        wire.publish(topic, b"deep", qos=1)
        assert wire.wait_for(lambda m: m.kind == p.PUBLISH).topic == topic


def test_mqtt_4_7_3_4_topics_are_not_normalised(engine: Engine, unique: str) -> None:
    """Composed and decomposed é are different topics."""
    with engine.connect(unique) as wire:
        wire.subscribe(f"{unique}/\u00e9")
        wire.publish(f"{unique}/e\u0301", b"other", qos=1)
        wire.publish(f"{unique}/\u00e9", b"same", qos=1)
        assert [m.payload for m in wire.backlog()] == [b"same"]


BAD_UTF8 = [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"a\xc3"]


@pytest.mark.parametrize("bad", BAD_UTF8)
def test_mqtt_1_5_3_1_ill_formed_utf8_closes_the_connection(engine: Engine, unique: str, bad: bytes) -> None:
    for raw in (p.publish(bad, b"x", qos=1), p.subscribe([(bad, 0)]), p.unsubscribe([bad])):
        with engine.connect(unique) as wire:
            wire.send(raw)
            assert wire.is_closed()


def test_mqtt_1_5_3_3_a_byte_order_mark_is_kept(engine: Engine, unique: str) -> None:
    topic = f"\ufeff{unique}"
    with engine.connect(unique) as wire:
        wire.subscribe("+")
        wire.publish(topic, b"bom", qos=1)
        assert wire.wait_for(lambda m: m.payload == b"bom").topic == topic
