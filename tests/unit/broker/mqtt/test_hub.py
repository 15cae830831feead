from __future__ import annotations

import pytest

from callboard_broker.mqtt.reasons import Reason
from support import packets as p
from support.hubs import Broker, Deny
from support.packets import Will


def test_another_users_session_cannot_be_taken_over() -> None:
    broker = Broker()
    owner = broker.client("shared", user="ada")
    thief = broker.client()
    assert thief.connect("shared", user="eve").code == 2
    assert not owner.closed
    owner.connection.close()
    assert broker.client().connect("shared", user="eve").code == 0


def test_a_persistent_session_stays_its_owners_while_he_is_away() -> None:
    broker = Broker()
    broker.client("shared", user="ada", clean=False).connection.close()
    new = broker.client(level=5)
    assert new.connect("shared", user="eve").code == Reason.CLIENT_IDENTIFIER_NOT_VALID


def test_who_outranks_the_holder_of_a_client_id_gets_it() -> None:
    broker = Broker()
    squatter = broker.client("greenhouse", user="viewer", grant=Deny())
    node = broker.client("greenhouse", user="node", grant=Deny(rank=1))
    assert squatter.closed
    assert broker.client().connect("greenhouse", user="viewer", grant=Deny()).code == 2
    assert not node.closed


def test_who_outranks_the_owner_of_a_session_gets_nothing_of_it() -> None:
    broker = Broker()
    squatter = broker.client("greenhouse", user="viewer", clean=False)
    squatter.subscribe(("letters", 1))
    squatter.connection.close()
    broker.client("writer").publish("letters", b"private", qos=1)
    node = broker.client()
    answer = node.connect("greenhouse", user="node", grant=Deny(rank=1), clean=False)
    assert (answer.code, answer.session_present) == (0, False)
    assert node.everything() == []
    assert not broker.hub.sessions["greenhouse"].subscriptions


def test_a_login_that_is_refused_touches_nothing() -> None:
    broker = Broker()
    owner = broker.client("a", will=Will("w"))
    other = broker.client()
    other.feed(p.connect("a"))
    other.connection.refuse(Reason.BAD_USER_NAME_OR_PASSWORD)
    broker.turn()
    assert [packet.code for packet in other.packets()] == [4]
    assert not owner.closed
    assert list(broker.hub.sessions) == ["a"]


@pytest.mark.parametrize("clean", [True, False])
def test_taking_over_publishes_the_will_and_counts(clean: bool) -> None:
    broker = Broker()
    watcher = broker.client("watcher")
    watcher.subscribe(("w", 0))
    old = broker.client("a", clean=clean, will=Will("w", b"gone"))
    broker.client("a", clean=clean)
    assert old.closed
    assert watcher.payloads() == [b"gone"]
    assert broker.hub.counters.taken_over["a"] == 1


def test_a_clean_disconnect_forgets_the_will() -> None:
    broker = Broker()
    watcher = broker.client("watcher")
    watcher.subscribe(("w", 0))
    broker.client("a", will=Will("w")).feed(p.disconnect())
    assert watcher.payloads() == []


def test_a_silent_client_is_dropped_after_one_and_a_half_keep_alives() -> None:
    broker = Broker()
    watcher = broker.client("watcher", keepalive=0)
    watcher.subscribe(("w", 0))
    silent = broker.client("silent", keepalive=10, will=Will("w", b"silent"))
    busy = broker.client("busy", keepalive=10)
    for _ in range(15):
        broker.wait(1)
        busy.feed(p.PING)
    assert not silent.closed
    broker.wait(1)
    assert silent.closed
    assert not busy.closed
    assert watcher.payloads() == [b"silent"]


def test_a_connection_without_connect_is_closed_in_time() -> None:
    broker = Broker(connect_timeout=5)
    slow = broker.client()
    for _ in range(5):
        slow.feed(b"\x10" if slow.connection.pending == b"" else b"")
        broker.wait(1.25)
    assert slow.closed


def test_a_delayed_will_waits_and_a_return_cancels_it() -> None:
    broker = Broker()
    watcher = broker.client("watcher", keepalive=0)
    watcher.subscribe(("w", 0))
    will = Will("w", b"late", props={"will_delay": 10})
    options = {"level": 5, "clean": False, "props": {"session_expiry": 100}}
    broker.client("a", will=will, **options).connection.close()
    broker.wait(5)
    broker.client("a", **options).connection.close()
    broker.wait(20)
    assert watcher.payloads() == []
    broker.client("a", will=will, **options).connection.close()
    broker.wait(11)
    assert watcher.payloads() == [b"late"]


def test_a_delayed_will_does_not_outlive_its_session() -> None:
    broker = Broker()
    watcher = broker.client("watcher", keepalive=0)
    watcher.subscribe(("w", 0))
    will = Will("w", b"late", props={"will_delay": 100})
    broker.client("a", level=5, will=will, props={"session_expiry": 5}).connection.close()
    broker.wait(6)
    assert watcher.payloads() == [b"late"]
    assert "a" not in broker.hub.sessions


def test_a_session_expires() -> None:
    broker = Broker(session_expiry=60)
    client = broker.client("a", clean=False)
    client.subscribe(("x", 1))
    client.connection.close()
    broker.wait(59)
    assert "a" in broker.hub.sessions
    broker.wait(2)
    assert "a" not in broker.hub.sessions
    assert broker.hub.tree.count == 0
    assert broker.hub.counters.expired_sessions == 1


def test_disconnect_may_change_the_sessions_life() -> None:
    broker = Broker()
    client = broker.client("a", level=5, props={"session_expiry": 100})
    client.feed(p.disconnect(0, {"session_expiry": 0}))
    assert "a" not in broker.hub.sessions


def test_expired_retained_messages_go_by_themselves() -> None:
    broker = Broker()
    broker.client("w", level=5).publish("x", retain=True, props={"message_expiry": 5})
    assert "x" in broker.hub.retained.messages
    broker.wait(6)
    assert "x" not in broker.hub.retained.messages


@pytest.mark.parametrize("bound", [{"retained_messages": 3}, {"retained_bytes": 200}])
def test_retained_messages_are_bounded_and_may_still_be_replaced(bound: dict[str, int]) -> None:
    broker = Broker(**bound)
    for number in range(20):
        broker.hub.router.announce(f"$SYS/{number}", "the broker's own do not count")
    writer = broker.client("w")
    for number in range(5):
        writer.publish(f"{number}", b"x", retain=True)
    assert sorted(name for name in broker.hub.retained.messages if name[0] != "$") == ["0", "1", "2"]
    assert broker.hub.counters.bounds["retained"] == 2
    writer.publish("1", b"y", retain=True)
    assert broker.hub.retained.messages["1"].payload == b"y"


def test_subscriptions_of_one_session_are_bounded() -> None:
    client = Broker(subscriptions=2).client("a", level=5)
    (answer,) = client.subscribe(("a", 0), ("b", 0), ("c", 0))
    assert answer.codes == (0, 0, 0x97)
    (again,) = client.subscribe(("a", 1))
    assert again.codes == (1,)


def test_sessions_are_bounded() -> None:
    broker = Broker(sessions=2)
    broker.client("a")
    broker.client("b", clean=False).connection.close()
    assert broker.client(level=5).connect("c").code == Reason.SERVER_BUSY
    assert broker.client("b").connection.open


def test_shared_messages_go_to_one_member_and_pass_over_the_absent() -> None:
    broker = Broker()
    here, there, away = broker.client("here"), broker.client("there"), broker.client("away", clean=False)
    for member in (here, there, away):
        member.subscribe(("$share/g/x", 1))
    away.connection.close()
    writer = broker.client("w")
    for number in range(6):
        writer.publish("x", b"%d" % number, qos=1)
    first, second = here.payloads(), there.payloads()
    assert sorted(first + second) == [b"%d" % number for number in range(6)]
    assert len(first) == len(second) == 3


@pytest.mark.parametrize("vanishes", ["socket", "expiry", "take-over"])
def test_what_a_vanished_member_of_a_share_left_undone_goes_to_another(vanishes: str) -> None:
    broker = Broker(inflight=2, session_expiry=10)
    lost = broker.client("lost", clean=vanishes != "expiry")
    lost.subscribe(("$share/g/x", 1))
    writer = broker.client("w")
    for number in range(4):
        writer.publish("x", b"%d" % number, qos=1)
    assert len(lost.packets()) == 2  # what the window takes
    lost.feed(p.ack(p.PUBACK, 1))
    other = broker.client("other")
    other.subscribe(("$share/g/x", 1))
    assert other.payloads() == []
    if vanishes == "take-over":
        broker.client("lost")
    else:
        lost.connection.close()
    broker.wait(0 if vanishes != "expiry" else 11)
    assert other.everything() == [b"1", b"2", b"3"]
    assert not broker.hub.tree.group("x", "other")


def test_qos_2_that_was_sent_to_a_member_is_not_sent_to_another() -> None:
    """MQTT-4.8.2-4: it might be handled twice. What was not sent yet may go to another."""
    broker = Broker(inflight=1)
    lost = broker.client("lost")
    lost.subscribe(("$share/g/x", 2))
    writer = broker.client("w")
    for payload in (b"sent", b"queued"):
        writer.publish("x", payload, qos=2)
    other = broker.client("other")
    other.subscribe(("$share/g/x", 2))
    lost.connection.close()
    broker.turn()
    assert other.payloads() == [b"queued"]


def test_what_the_last_member_of_a_share_left_undone_is_gone() -> None:
    broker = Broker()
    last = broker.client("last")
    last.subscribe(("$share/g/x", 1))
    broker.client("w").publish("x", qos=1)
    last.connection.close()
    broker.turn()
    assert broker.hub.tree.count == 0
    assert list(broker.hub.sessions) == ["w"]


def test_a_subscriber_with_no_local_does_not_hear_itself() -> None:
    broker = Broker()
    client, other = broker.client("a", level=5), broker.client("b")
    client.subscribe(("x", 0b100))
    client.publish("x", b"mine")
    other.publish("x", b"theirs")
    assert client.payloads() == [b"theirs"]


def test_closing_inside_a_publish_leaves_the_others_served() -> None:
    broker = Broker(queue_messages=1, patience=0)
    readers = [broker.client(f"r{number}") for number in range(3)]
    for reader in readers:
        reader.subscribe(("x", 1))
    readers[1].connection.choke(True)
    writer = broker.client("w")
    for _ in range(5):
        writer.publish("x", qos=1)
        broker.wait(0.25)
    assert readers[1].closed
    assert len(readers[0].payloads()) == len(readers[2].payloads()) == 5


def test_the_brokers_own_messages_are_retained_without_bound_or_journal() -> None:
    broker = Broker(retained_messages=0)
    broker.hub.router.announce("$SYS/broker/x", "1")
    client = broker.client("a")
    (_, message) = client.subscribe(("$SYS/#", 0))
    assert (message.topic, message.retain) == ("$SYS/broker/x", True)
    client.publish("$SYS/broker/x", b"forged", retain=True)
    assert broker.hub.retained.messages["$SYS/broker/x"].payload == b"1"


def test_clients_that_come_and_go_leave_no_timers_behind() -> None:
    broker = Broker()
    watcher = broker.client("watcher", keepalive=0)
    watcher.subscribe(("w", 0))
    will = Will("w", b"late", props={"will_delay": 10})
    for number in range(3_000):
        client = broker.client(
            f"{number % 3}", level=5, will=will, clean=number % 2 == 0, props={"session_expiry": 100}
        )
        client.connection.close()
    assert len(broker.hub._timers) <= 1_100
    watcher.payloads()
    broker.wait(11)
    assert watcher.payloads() == [b"late"] * 3
    broker.wait(100)
    assert list(broker.hub.sessions) == ["watcher"]


def test_replaced_retained_messages_leave_no_expiries_behind() -> None:
    broker = Broker()
    writer = broker.client("w", level=5)
    for number in range(3_000):
        writer.publish(
            "x", b"%d" % number, retain=True, props={"message_expiry": 1_000 if number < 2_999 else 5}
        )
    assert len(broker.hub.router._expiring) <= 1_010
    broker.wait(6)
    assert not broker.hub.retained.messages
