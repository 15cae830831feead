"""MQTT 3.1.1 section 3.1.2.5 and 3.14.4: when a last will is published, and how."""

from __future__ import annotations

import pytest

from support import packets as p
from support.engines import Engine
from support.wire import Will, connect


@pytest.mark.parametrize("way", ["close", "reset"])
def test_mqtt_3_1_2_8_the_will_is_published_when_the_connection_breaks(
    engine: Engine, unique: str, way: str
) -> None:
    with engine.connect(f"{unique}w") as watcher:
        watcher.subscribe((unique, 2))
        getattr(engine.connect(unique, will=Will(unique, b"last words", qos=1)), way)()
        got = watcher.message()
        assert (got.payload, got.qos, got.retain) == (b"last words", 1, False)


@pytest.mark.parametrize(
    "violation", [b"\xf0\x00", p.subscribe([]), p.publish("a/+", b"x"), b"\x36\x05\x00\x01a\x00\x01"]
)
def test_mqtt_3_1_2_8_the_will_is_published_after_a_protocol_error(
    engine: Engine, unique: str, violation: bytes
) -> None:
    with engine.connect(f"{unique}w") as watcher, engine.connect(unique, will=Will(unique)) as wire:
        watcher.subscribe(unique)
        wire.send(violation)
        assert wire.is_closed()
        assert watcher.message().payload == b"gone"


def test_mqtt_3_1_2_10_disconnect_removes_the_will(engine: Engine, unique: str) -> None:
    with engine.connect(f"{unique}w") as watcher, engine.connect(unique, will=Will(unique)) as wire:
        watcher.subscribe(unique)
        wire.disconnect()
        connect(engine.address, unique).close()  # a later connection without a will has none
        assert watcher.is_quiet()


def test_mqtt_3_14_4_3_disconnect_right_behind_a_publish_still_removes_the_will(
    engine: Engine, unique: str
) -> None:
    with engine.connect(f"{unique}w") as watcher, engine.connect(unique, will=Will(unique)) as wire:
        watcher.subscribe(unique)
        wire.send(p.publish(unique, b"bye"), p.disconnect())
        wire.close()
        assert watcher.message().payload == b"bye"
        assert watcher.is_quiet()


def test_mqtt_3_1_2_8_a_take_over_publishes_the_will(engine: Engine, unique: str) -> None:
    with engine.connect(f"{unique}w") as watcher:
        watcher.subscribe(unique)
        with engine.connect(unique, will=Will(unique, b"first")) as old, engine.connect(unique) as new:
            assert old.is_closed()
            assert watcher.message().payload == b"first"
            assert new.is_quiet()
        assert watcher.is_quiet()


def test_the_will_of_the_new_connection_replaces_the_old_one(engine: Engine, unique: str) -> None:
    with engine.connect(f"{unique}w") as watcher:
        watcher.subscribe(unique)
        old = engine.connect(unique, will=Will(unique, b"first"))
        new = engine.connect(unique, will=Will(unique, b"second"))
        assert watcher.message().payload == b"first"
        assert old.is_closed()
        new.close()
        assert watcher.message().payload == b"second"


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_1_2_14_the_will_has_the_qos_it_asked_for(engine: Engine, unique: str, qos: int) -> None:
    with engine.connect(f"{unique}w") as watcher:
        watcher.subscribe((unique, 2))
        engine.connect(unique, will=Will(unique, qos=qos)).close()
        assert watcher.message().qos == qos


def test_mqtt_3_1_2_16_a_will_without_retain_is_not_kept(engine: Engine, unique: str) -> None:
    with engine.connect(f"{unique}w") as watcher:
        watcher.subscribe(unique)
        engine.connect(unique, will=Will(unique)).close()
        assert not watcher.message().retain
        with engine.connect(f"{unique}l") as late:
            late.subscribe(unique)
            assert late.is_quiet()


def test_mqtt_3_1_2_17_a_retained_will_is_kept_for_later_subscribers(engine: Engine, unique: str) -> None:
    with engine.connect(f"{unique}w") as watcher:
        watcher.subscribe(unique)
        engine.connect(unique, will=Will(unique, b"offline", retain=True)).close()
        assert not watcher.message().retain
        with engine.connect(f"{unique}l") as late:
            late.subscribe(unique)
            got = late.message()
            assert (got.payload, got.retain) == (b"offline", True)
            late.publish(unique, retain=True, qos=1)


def test_an_empty_retained_will_clears_the_topic(engine: Engine, unique: str) -> None:
    with engine.connect(f"{unique}w") as watcher:
        watcher.publish(unique, b"there", qos=1, retain=True)
        watcher.subscribe(unique)
        assert watcher.message().payload == b"there"
        engine.connect(unique, will=Will(unique, b"", retain=True)).close()
        assert watcher.message().payload == b""
        with engine.connect(f"{unique}l") as late:
            late.subscribe(unique)
            assert late.is_quiet()


def test_the_will_of_a_kept_session_is_published_and_the_session_stays(engine: Engine, unique: str) -> None:
    with engine.connect(f"{unique}w") as watcher:
        watcher.subscribe(unique)
        lost = engine.connect(unique, clean=False, will=Will(unique, qos=1))
        lost.subscribe((f"{unique}/in", 1))
        lost.close()
        assert watcher.message().payload == b"gone"
        watcher.publish(f"{unique}/in", b"waiting", qos=1)
        with engine.connect(unique, clean=False) as back:
            assert back.message().payload == b"waiting"
            assert watcher.is_quiet()
    engine.connect(unique).disconnect()


def test_a_session_gets_its_own_will_when_it_subscribed_to_it(engine: Engine, unique: str) -> None:
    lost = engine.connect(unique, clean=False, will=Will(unique, qos=1))
    lost.subscribe((unique, 1))
    lost.reset()
    with engine.connect(unique, clean=False) as back:
        assert back.message().payload == b"gone"
    engine.connect(unique).disconnect()
