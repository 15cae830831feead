"""MQTT 3.1.1 section 3.3.1.3: retained messages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import packets as p
from support.engines import Engine
from support.wire import Wire


@pytest.fixture
def pair(engine: Engine, unique: str) -> Iterator[tuple[Wire, Wire]]:
    """A publisher and a subscriber; what is retained under the test's word is cleared afterwards."""
    with engine.connect(f"{unique}p") as publisher, engine.connect(f"{unique}s") as subscriber:
        yield publisher, subscriber
    with engine.connect(f"{unique}c") as cleaner:
        cleaner.subscribe(f"{unique}/#")
        for message in cleaner.backlog():
            cleaner.publish(message.topic, retain=True, qos=1)


def test_mqtt_3_3_1_6_a_new_subscription_gets_what_is_retained_with_the_flag(pair, unique: str) -> None:
    publisher, subscriber = pair
    for n in range(5):
        publisher.publish(f"{unique}/{n}", b"%d" % n, qos=n % 3, retain=True)
    publisher.publish(f"{unique}/other/deep", b"no", qos=1, retain=True)
    subscriber.subscribe((f"{unique}/+", 2))
    got = subscriber.messages(5)
    assert {(m.topic[-1], m.payload, m.qos) for m in got} == {(f"{n}", b"%d" % n, n % 3) for n in range(5)}
    assert all(m.retain and not m.dup for m in got)
    assert subscriber.is_quiet()


def test_mqtt_3_3_1_9_an_established_subscription_gets_it_without_the_flag(pair, unique: str) -> None:
    publisher, subscriber = pair
    subscriber.subscribe((f"{unique}/a", 1))
    publisher.publish(f"{unique}/a", b"live", qos=1, retain=True)
    got = subscriber.message()
    assert (got.retain, got.payload) == (False, b"live")


def test_mqtt_3_3_1_5_a_retained_message_replaces_the_one_before(pair, unique: str) -> None:
    publisher, subscriber = pair
    for n in range(3):
        publisher.publish(f"{unique}/a", b"%d" % n, qos=1, retain=True)
    subscriber.subscribe(f"{unique}/a")
    assert subscriber.message().payload == b"2"
    assert subscriber.is_quiet()


def test_mqtt_3_3_1_7_a_qos_0_retained_message_replaces_one_of_higher_qos(pair, unique: str) -> None:
    publisher, subscriber = pair
    publisher.publish(f"{unique}/a", b"old", qos=2, retain=True)
    publisher.publish(f"{unique}/a", b"new", qos=0, retain=True)
    assert publisher.is_quiet()
    subscriber.subscribe((f"{unique}/a", 2))
    got = subscriber.message()
    assert (got.payload, got.qos) == (b"new", 0)


def test_mqtt_3_3_1_10_a_zero_length_retained_message_is_delivered_and_clears(
    pair, engine, unique: str
) -> None:
    publisher, subscriber = pair
    publisher.publish(f"{unique}/a", b"x", qos=1, retain=True)
    subscriber.subscribe(f"{unique}/a")
    assert subscriber.message().retain
    publisher.publish(f"{unique}/a", b"", qos=1, retain=True)
    got = subscriber.message()
    assert (got.payload, got.retain) == (b"", False)
    with engine.connect(f"{unique}late") as late:
        late.subscribe(f"{unique}/a")
        assert late.is_quiet()


def test_mqtt_3_3_1_11_a_zero_length_retained_message_is_never_stored(pair, unique: str) -> None:
    publisher, subscriber = pair
    publisher.publish(f"{unique}/never", b"", qos=1, retain=True)
    subscriber.subscribe(f"{unique}/#")
    assert subscriber.is_quiet()


def test_mqtt_3_3_1_12_a_message_without_retain_leaves_the_retained_one(pair, unique: str) -> None:
    publisher, subscriber = pair
    publisher.publish(f"{unique}/a", b"keep", qos=1, retain=True)
    publisher.publish(f"{unique}/a", b"pass", qos=1)
    publisher.publish(f"{unique}/a", b"", qos=1)
    subscriber.subscribe(f"{unique}/a")
    assert subscriber.message().payload == b"keep"
    assert subscriber.is_quiet()


def test_mqtt_3_8_4_3_subscribing_again_sends_the_retained_message_again(pair, unique: str) -> None:
    publisher, subscriber = pair
    publisher.publish(f"{unique}/a", b"x", qos=1, retain=True)
    for _ in range(3):
        subscriber.subscribe((f"{unique}/a", 1))
        assert subscriber.message().retain
    assert subscriber.is_quiet()


def test_retained_messages_go_to_the_one_who_subscribed_and_to_nobody_else(pair, engine, unique: str) -> None:
    """A new connection must not be sent what matches other clients' filters."""
    publisher, subscriber = pair
    subscriber.subscribe(f"{unique}/#")
    publisher.publish(f"{unique}/a", b"x", qos=1, retain=True)
    assert subscriber.message().payload == b"x"
    with engine.connect(f"{unique}new") as new:
        assert new.is_quiet()
        new.subscribe(f"{unique}/elsewhere")
        assert new.is_quiet()
    assert subscriber.is_quiet()


def test_reconnecting_to_a_kept_session_does_not_send_retained_messages_again(
    pair, engine, unique: str
) -> None:
    publisher, _ = pair
    publisher.publish(f"{unique}/a", b"x", qos=1, retain=True)
    with engine.connect(unique, clean=False) as wire:
        wire.subscribe((f"{unique}/a", 1))
        assert wire.message().retain
    with engine.connect(unique, clean=False) as wire:
        assert wire.connack.session_present
        assert wire.is_quiet()
    engine.connect(unique).disconnect()


@pytest.mark.parametrize(("published", "granted"), [(0, 2), (1, 0), (1, 2), (2, 1), (2, 2)])
def test_a_retained_message_has_the_lower_of_both_qos(
    pair, unique: str, published: int, granted: int
) -> None:
    publisher, subscriber = pair
    publisher.publish(f"{unique}/a", b"x", qos=published, retain=True)
    assert publisher.is_quiet()
    subscriber.subscribe((f"{unique}/a", granted))
    assert subscriber.message().qos == min(published, granted)


def test_retained_messages_are_found_by_every_kind_of_filter(pair, engine, unique: str) -> None:
    publisher, _ = pair
    topics = {f"{unique}", f"{unique}/a", f"{unique}/a/b", f"{unique}/a/c", f"{unique}/x/b", f"{unique}//b"}
    for topic in topics:
        publisher.publish(topic, b"x", qos=1, retain=True)
    expected = {
        f"{unique}/#": topics,
        f"{unique}/+": {f"{unique}/a"},
        f"{unique}/+/b": {f"{unique}/a/b", f"{unique}/x/b", f"{unique}//b"},
        f"{unique}/a/#": {f"{unique}/a", f"{unique}/a/b", f"{unique}/a/c"},
        f"{unique}/a/+/#": {f"{unique}/a/b", f"{unique}/a/c"},
        f"{unique}//b": {f"{unique}//b"},
    }
    for wanted, found in expected.items():
        with engine.connect(f"{unique}f") as wire:
            wire.subscribe(wanted)
            assert {m.topic for m in wire.backlog()} == found, wanted
    publisher.publish(unique, retain=True, qos=1)


def test_a_retained_message_is_delivered_once_per_new_subscription_in_a_subscribe(pair, unique: str) -> None:
    """Two overlapping filters in one SUBSCRIBE are two new subscriptions; one or two copies are both allowed."""
    publisher, subscriber = pair
    publisher.publish(f"{unique}/a", b"x", qos=1, retain=True)
    subscriber.subscribe((f"{unique}/a", 1), (f"{unique}/#", 1))
    got = [m for m in subscriber.backlog() if m.kind == p.PUBLISH]
    assert len(got) in {1, 2}
    assert all(m.retain for m in got)
