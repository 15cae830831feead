from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard_broker.mqtt.handlers import HANDLERS
from callboard_broker.mqtt.phase import Phase
from callboard_broker.mqtt.wire import PacketType
from support import packets as p
from support.hubs import Broker, Deny
from support.packets import Will

BODIES = {
    PacketType.CONNECT: p.connect("again"),
    PacketType.PUBLISH: p.publish("a"),
    PacketType.PUBACK: p.ack(p.PUBACK, 1),
    PacketType.PUBREC: p.ack(p.PUBREC, 1),
    PacketType.PUBREL: p.ack(p.PUBREL, 1),
    PacketType.PUBCOMP: p.ack(p.PUBCOMP, 1),
    PacketType.SUBSCRIBE: p.subscribe([("a", 0)]),
    PacketType.UNSUBSCRIBE: p.unsubscribe(["a"]),
    PacketType.PINGREQ: p.PING,
}


@pytest.mark.parametrize("kind", range(16))
def test_a_fresh_connection_takes_nothing_but_connect(kind: int) -> None:
    client = Broker().client()
    client.feed(BODIES.get(kind, bytes((kind << 4, 0))))  # type: ignore[call-overload]
    expected = Phase.CHECKING if kind == PacketType.CONNECT else Phase.CLOSED
    assert client.connection.phase is expected


@pytest.mark.parametrize(
    "opener",
    [b"G", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02", b"\0", b"\x11", b"\x10" + p.varint(1_000_000)],
    ids=["letter", "http", "tls", "zero", "flags", "longer than any"],
)
def test_what_cannot_become_a_connect_is_closed_at_once(opener: bytes) -> None:
    client = Broker(message_bytes=10_000_000).client()
    assert client.feed(opener) == []
    assert client.closed


@pytest.mark.parametrize("kind", range(16))
def test_an_open_connection_takes_what_its_table_says(kind: int) -> None:
    client = Broker().client("a")
    client.feed(BODIES.get(kind, bytes((kind << 4, 0))))  # type: ignore[call-overload]
    known = (Phase.OPEN, kind) in HANDLERS
    assert client.closed is (not known or kind == PacketType.DISCONNECT)


@pytest.mark.parametrize("kind", [k for k in BODIES if k is not PacketType.PUBLISH])
def test_wrong_header_flags_close_the_connection(kind: PacketType) -> None:
    client = Broker().client() if kind is PacketType.CONNECT else Broker().client("a")
    raw = BODIES[kind]
    client.feed(bytes((raw[0] ^ 1,)) + raw[1:])
    assert client.closed


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=12))
def test_how_the_bytes_are_cut_makes_no_difference(sizes: list[int]) -> None:
    broker = Broker()
    other, client = broker.client("other"), broker.client()
    other.subscribe(("#", 2))
    raw = b"".join(
        [
            p.publish("a", b"0"),
            p.publish("a", b"1"),
            p.publish("b" * 200, b"x" * 200),
            p.publish("a", b"2", qos=1, pid=5),
            p.publish("a", b"3", qos=2, pid=6),
            p.ack(p.PUBREL, 6),
            p.publish("a", b"4", retain=True),
            p.PING,
        ]
    )
    client.connect("client")
    cuts, answers = itertools.cycle(sizes), []
    while raw:
        size = next(cuts)
        answers += client.feed(raw[:size])
        raw = raw[size:]
    assert [packet.kind for packet in answers] == [p.PUBACK, p.PUBREC, p.PUBCOMP, p.PINGRESP]
    assert other.payloads() == [b"0", b"1", b"x" * 200, b"2", b"3", b"4"]


def test_what_follows_connect_at_once_is_handled_after_it_is_accepted() -> None:
    broker = Broker()
    client = broker.client()
    client.feed(p.connect("a") + p.subscribe([("a", 0)]) + p.publish("a", b"early"))
    assert client.packets() == []
    broker.hub.admit(client.connection, "", Deny())
    broker.turn()
    assert [packet.kind for packet in client.packets()] == [p.CONNACK, p.SUBACK, p.PUBLISH]


def test_more_than_a_packet_before_connack_is_too_much() -> None:
    broker = Broker(message_bytes=1024)
    client = broker.client()
    client.feed(p.connect("a"))
    client.feed(b"\x30\x7f" + b"x" * (broker.hub.largest_packet + 1))
    assert client.closed


def test_a_packet_over_the_limit_closes_before_its_body_comes() -> None:
    client = Broker(message_bytes=1024).client("a")
    client.feed(b"\x30" + p.varint(200_000))
    assert client.closed


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_over_the_limit_closes_the_connection(qos: int) -> None:
    client = Broker(message_bytes=1024).client("a")
    client.publish("a", b"1", qos=qos)  # so that the topic is a known one
    assert not client.closed
    client.publish("a", b"x" * 1025, qos=qos)
    assert client.closed


def test_a_publish_that_is_not_allowed_is_acknowledged_and_goes_nowhere() -> None:
    broker = Broker()
    reader = broker.client("reader")
    reader.subscribe(("#", 0))
    old = broker.client("old", grant=Deny(publish=("a",)))
    new = broker.client("new", level=5, grant=Deny(publish=("a",)))
    assert [packet.kind for packet in old.publish("a", qos=1)] == [p.PUBACK]
    assert [packet.code for packet in new.publish("a", qos=1)] == [0x87]
    old.publish("a", qos=0)
    assert reader.payloads() == []
    assert broker.hub.counters.refused["publish"] == 3


@pytest.mark.parametrize("level", [4, 5])
def test_subscribe_tells_what_is_not_allowed(level: int) -> None:
    client = Broker().client("a", level=level, grant=Deny(subscribe=("secret",)))
    (answer,) = client.subscribe(("fine", 1), ("secret", 1))
    assert answer.codes == (1, 0x80 if level == 4 else 0x87)


def test_delivery_is_checked_for_live_and_retained_messages() -> None:
    broker = Broker()
    broker.client("writer").publish("secret", retain=True)
    reader = broker.client("reader", grant=Deny(receive=("secret",)))
    reader.subscribe(("#", 0), ("$share/g/#", 0))
    broker.client("writer").publish("secret")
    assert reader.payloads() == []


def test_a_will_that_may_not_be_published_refuses_the_connect() -> None:
    client = Broker().client()
    assert client.connect("a", grant=Deny(publish=("w",)), will=Will("w")).code == 5


def test_topic_aliases_are_the_publishers_own() -> None:
    broker = Broker()
    reader, first, second = broker.client("r"), broker.client("a", level=5), broker.client("b", level=5)
    reader.subscribe(("#", 0))
    first.publish("one", b"1", props={"topic_alias": 1})
    second.publish("two", b"2", props={"topic_alias": 1})
    first.publish("", b"3", props={"topic_alias": 1})
    second.publish("", b"4", props={"topic_alias": 1})
    assert [(packet.topic, packet.payload) for packet in reader.packets()] == [
        ("one", b"1"),
        ("two", b"2"),
        ("one", b"3"),
        ("two", b"4"),
    ]


@pytest.mark.parametrize("alias", [0, 101, 5])
def test_an_alias_that_is_not_set_or_out_of_range_closes(alias: int) -> None:
    client = Broker().client("a", level=5)
    client.publish("", b"1", props={"topic_alias": alias})
    assert client.closed


def test_a_client_gets_no_packet_over_its_maximum() -> None:
    broker = Broker()
    small = broker.client("small", level=5, props={"maximum_packet_size": 50})
    small.subscribe(("#", 1))
    writer = broker.client("writer")
    writer.publish("a", b"x" * 100, qos=1)
    writer.publish("a", b"fits", qos=1)
    assert small.payloads() == [b"fits"]
    assert not small.connection.session.inflight  # type: ignore[union-attr]


def test_a_defect_of_ours_costs_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker()
    client, other = broker.client("a"), broker.client("b")

    def fail(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(broker.hub.router.tree, "remove", fail)
    client.feed(p.unsubscribe(["a"]))
    assert client.closed
    assert other.feed(p.PING)[0].kind == p.PINGRESP


def test_long_work_is_shared_out_over_turns() -> None:
    broker = Broker()
    readers = [broker.client(f"r{number}") for number in range(50)]
    for reader in readers:
        reader.subscribe(("a", 1))
    writer = broker.client("w")
    writer.publish("a", qos=1)
    raw = b"".join(p.publish("a", b"%d" % n, qos=1, pid=n + 1) for n in range(300))
    writer.connection.receive(raw)
    assert writer.connection.pressed
    broker.turn()
    assert not writer.connection.pressed
    assert len(readers[0].payloads()) == 301
