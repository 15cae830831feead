"""MQTT 5 sections 3.8 to 3.11 and 4.8: subscription options, identifiers and shared subscriptions."""

from __future__ import annotations

import pytest

from support import packets as p
from support.deviations import deviates
from support.engines import Engine

NO_LOCAL, AS_PUBLISHED, ONLY_NEW, NEVER = 0x04, 0x08, 0x10, 0x20


def test_mqtt_3_8_3_3_no_local_keeps_own_messages_away(engine: Engine, unique: str) -> None:
    with engine.connect(unique, level=5) as wire, engine.connect(f"{unique}p") as other:
        wire.subscribe((unique, 1 | NO_LOCAL))
        wire.publish(unique, b"mine", qos=1)
        other.publish(unique, b"yours", qos=1)
        assert wire.message().payload == b"yours"
        assert wire.is_quiet()


@pytest.mark.parametrize("options", [0, AS_PUBLISHED])
@pytest.mark.parametrize("retain", [False, True])
def test_retain_as_published_keeps_the_flag(engine: Engine, unique: str, options: int, retain: bool) -> None:
    with engine.connect(unique, level=5) as wire, engine.connect(f"{unique}p") as other:
        wire.subscribe((unique, 1 | options))
        other.publish(unique, b"x", qos=1, retain=retain)
        assert wire.message().retain is (retain and bool(options))
        other.publish(unique, qos=1, retain=True)


@pytest.mark.parametrize(("options", "first", "again"), [(0, 1, 1), (ONLY_NEW, 1, 0), (NEVER, 0, 0)])
def test_mqtt_3_3_1_9_retain_handling(
    engine: Engine, unique: str, options: int, first: int, again: int
) -> None:
    with engine.connect(unique, level=5) as wire, engine.connect(f"{unique}p") as other:
        other.publish(unique, b"x", qos=1, retain=True)
        for expected in (first, again):
            wire.subscribe((unique, options))
            got = wire.backlog()
            assert len(got) == expected
            assert all(m.retain for m in got)
        other.publish(unique, b"y", qos=1)
        assert wire.message().payload == b"y"
        other.publish(unique, qos=1, retain=True)


def test_mqtt_3_8_4_subscription_identifiers_come_with_every_delivery(engine: Engine, unique: str) -> None:
    """[MQTT-3.3.4-3], [MQTT-3.3.4-4]: all identifiers of overlapping subscriptions, in one or several copies."""
    with engine.connect(unique, level=5) as wire, engine.connect(f"{unique}p") as other:
        wire.subscribe((f"{unique}/a", 1), props={"subscription_identifier": 7})
        wire.subscribe((f"{unique}/#", 1), props={"subscription_identifier": 268_435_455})
        wire.subscribe((f"{unique}/+", 1))
        other.publish(f"{unique}/a", b"x", qos=1)
        found = [number for m in wire.backlog() for number in m.props.get("subscription_identifier", [])]
        expected = [7] if deviates(engine, "MQTT-3.3.4-4") else [7, 268_435_455]
        assert sorted(found) == expected


def test_a_subscription_identifier_comes_with_retained_messages(engine: Engine, unique: str) -> None:
    with engine.connect(unique, level=5) as wire, engine.connect(f"{unique}p") as other:
        other.publish(unique, b"x", qos=1, retain=True)
        wire.subscribe((unique, 1), props={"subscription_identifier": 42})
        assert wire.message().props == {"subscription_identifier": [42]}
        other.publish(unique, qos=1, retain=True)


def test_subscribing_again_changes_the_identifier(engine: Engine, unique: str) -> None:
    with engine.connect(unique, level=5) as wire:
        for number in (1, 2):
            wire.subscribe(unique, props={"subscription_identifier": number})
        wire.publish(unique, b"x")
        assert wire.message().props == {"subscription_identifier": [2]}


def test_mqtt_3_11_3_unsuback_says_which_filter_was_unknown(engine: Engine, unique: str) -> None:
    with engine.connect(unique, level=5) as wire:
        wire.subscribe(f"{unique}/a", f"{unique}/b")
        assert wire.unsubscribe(f"{unique}/a", f"{unique}/x", f"{unique}/b").codes == (0, 0x11, 0)


def test_overlapping_subscriptions_of_one_session_use_the_highest_qos(engine: Engine, unique: str) -> None:
    with engine.connect(unique, level=5) as wire, engine.connect(f"{unique}p") as other:
        wire.subscribe((f"{unique}/a", 0), (f"{unique}/#", 2))
        other.publish(f"{unique}/a", b"x", qos=2)
        if deviates(engine, "MQTT-3.3.5-1"):
            assert [m.qos for m in wire.backlog()] == [0, 2]
            return
        assert wire.message().qos == 2
        assert wire.is_quiet()


@pytest.mark.parametrize("level", [4, 5])
def test_mqtt_4_8_2_every_message_goes_to_one_member_of_a_share(
    engine: Engine, unique: str, level: int
) -> None:
    members = [engine.connect(f"{unique}{n}", level=level) for n in range(4)]
    for wire in members:
        assert wire.subscribe((f"$share/workers/{unique}/+", 1)).codes == (1,)
    with engine.connect(f"{unique}p") as other:
        for n in range(40):
            other.publish(f"{unique}/{n}", b"%d" % n, qos=1)
    shares = [[int(m.payload) for m in wire.backlog()] for wire in members]
    assert sorted(number for share in shares for number in share) == list(range(40))
    assert all(len(share) >= 2 for share in shares)
    for wire in members:
        wire.close()


def test_mqtt_4_8_2_shares_of_different_names_each_get_the_message(engine: Engine, unique: str) -> None:
    with (
        engine.connect(f"{unique}a", level=5) as a,
        engine.connect(f"{unique}b", level=4) as b,
        engine.connect(f"{unique}c", level=5) as c,
        engine.connect(f"{unique}p") as other,
    ):
        a.subscribe((f"$share/one/{unique}", 1))
        b.subscribe((f"$share/two/{unique}", 1))
        c.subscribe((unique, 1))
        other.publish(unique, b"x", qos=1)
        assert [len(wire.backlog()) for wire in (a, b, c)] == [1, 1, 1]


def test_mqtt_4_8_2_a_share_gives_no_retained_messages(engine: Engine, unique: str) -> None:
    """Section 3.8.4: retained messages are not sent to a shared subscription."""
    with engine.connect(unique, level=5) as wire, engine.connect(f"{unique}p") as other:
        other.publish(unique, b"x", qos=1, retain=True)
        wire.subscribe((f"$share/g/{unique}", 1))
        assert len(wire.backlog()) == (1 if deviates(engine, "v5 share and retained") else 0)
        other.publish(unique, qos=1, retain=True)


def test_who_leaves_a_share_gets_nothing_more(engine: Engine, unique: str) -> None:
    with (
        engine.connect(f"{unique}a") as a,
        engine.connect(f"{unique}b") as b,
        engine.connect(unique) as other,
    ):
        for wire in (a, b):
            wire.subscribe((f"$share/g/{unique}", 1))
        a.unsubscribe(f"$share/g/{unique}")
        for _ in range(4):
            other.publish(unique, b"x", qos=1)
        assert a.is_quiet()
        assert len(b.messages(4)) == 4
        b.close()
        other.publish(unique, b"nobody", qos=1)
        assert a.is_quiet()


def test_mqtt_4_8_2_5_what_a_vanished_member_did_not_acknowledge_goes_to_another(
    engine: Engine, unique: str
) -> None:
    with engine.connect(f"{unique}a", level=5) as a, engine.connect(f"{unique}p") as other:
        a.subscribe((f"$share/g/{unique}", 1))
        other.publish(unique, b"x", qos=1)
        assert a.expect(p.PUBLISH).payload == b"x"
        with engine.connect(f"{unique}b", level=5) as b:
            b.subscribe((f"$share/g/{unique}", 1))
            a.disconnect()
            if deviates(engine, "MQTT-4.8.2-5"):
                assert b.is_quiet()
                return
            assert b.message().payload == b"x"


def test_mqtt_4_8_2_6_what_a_member_refuses_goes_to_nobody(engine: Engine, unique: str) -> None:
    with (
        engine.connect(f"{unique}a", level=5) as a,
        engine.connect(f"{unique}b", level=5) as b,
        engine.connect(f"{unique}p") as other,
    ):
        a.subscribe((f"$share/g/{unique}", 1))
        other.publish(unique, b"x", qos=1)
        message = a.expect(p.PUBLISH)
        b.subscribe((f"$share/g/{unique}", 1))
        a.send(p.ack(p.PUBACK, message.pid, code=0x80))
        assert a.is_quiet()
        a.disconnect()
        assert b.is_quiet()


def test_a_share_and_an_ordinary_subscription_of_one_client_are_two(engine: Engine, unique: str) -> None:
    with engine.connect(unique, level=5) as wire, engine.connect(f"{unique}p") as other:
        wire.subscribe((f"$share/g/{unique}", 1), props={"subscription_identifier": 1})
        wire.subscribe((unique, 1), props={"subscription_identifier": 2})
        other.publish(unique, b"x", qos=1)
        found = [number for m in wire.backlog() for number in m.props["subscription_identifier"]]
        assert sorted(found) == [1, 2]


@pytest.mark.parametrize(
    "bad", ["$share/g", "$share//a", "$share/+/a", "$share/g/", "$share/#/a", "$share/g/a/#/b"]
)
def test_mqtt_4_8_2_1_bad_share_names_are_refused(engine: Engine, unique: str, bad: str) -> None:
    with engine.connect(unique, level=5) as wire:
        wire.send(p.subscribe([(bad, 0)], level=5))
        answer = wire.receive()
        if deviates(engine, f"v5 {bad}"):
            assert answer.codes == (0,)
            return
        assert answer.kind == p.DISCONNECT or answer.codes[0] >= 0x80, answer
