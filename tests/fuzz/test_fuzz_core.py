"""Fuzz of the broker's core without sockets: whatever bytes come, nothing raises, nothing grows, others are served."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import strategies as st

from callboard_broker.mqtt.access import Everything
from support import packets as p
from support.fuzzing import SECONDS, broken, connects, levels, look, streams
from support.hubs import Broker, Client

pytestmark = pytest.mark.timeout(3 * SECONDS + 600)

LIMITS = {
    "message_bytes": 2_000,
    "inflight": 5,
    "queue_messages": 8,
    "queue_bytes": 2_000,
    "subscriptions": 6,
    "retained_messages": 10,
    "retained_bytes": 3_000,
    "topic_aliases": 3,
}


def feed(client: Client, *chunks: bytes) -> None:
    """Bytes as a socket would bring them; whoever wants to connect may."""
    hub = client.broker.hub
    for chunk in chunks:
        if client.closed:
            return
        client.connection.receive(chunk)
        if client.connection in hub.logins:
            hub.logins.remove(client.connection)
            hub.admit(client.connection, "", Everything())
        client.broker.turn()


def check(broker: Broker) -> None:
    """The bounds hold, whatever happened."""
    hub, limits = broker.hub, broker.hub.limits
    ours = [topic for topic in hub.retained.messages if not topic.startswith("$")]
    assert len(ours) <= limits.retained_messages
    for session in hub.sessions.values():
        assert len(session.queue) <= limits.queue_messages
        assert session.queue_bytes <= limits.queue_bytes
        assert session.queue_bytes == sum(each.message.size for each in session.queue)
        assert len(session.inflight) <= limits.inflight
        assert len(session.subscriptions) <= limits.subscriptions
    for connection in broker.clients:
        assert len(connection.pending) <= hub.largest_packet + 5
        assert connection.aliases is None or len(connection.aliases) <= limits.topic_aliases


def test_no_bytes_of_a_connected_client_do_harm() -> None:
    def inner(case: tuple[int, bytes, int]) -> None:
        level, raw, size = case
        broker = Broker(**LIMITS)
        calm = broker.client("calm")
        calm.subscribe(("calm", 1))
        wild = broker.client("wild", level=level)
        feed(wild, *(raw[at : at + size] for at in range(0, len(raw), size)))
        wild.packets()  # what is sent has to be MQTT as well
        check(broker)
        if not calm.closed:  # it may have been taken over
            calm.packets()
            calm.publish("calm", b"still here")
            broker.turn()
        broker.wait(1)
        check(broker)

    look(
        inner,
        400,
        levels.flatmap(lambda level: st.tuples(st.just(level), streams(level), st.integers(1, 40))),
    )


def test_no_bytes_of_a_stranger_do_harm() -> None:
    def inner(raw: bytes) -> None:
        broker = Broker(**LIMITS)
        client = broker.client()
        client.level = 5 if b"MQTT\x05" in raw else 4
        feed(client, raw, p.PING)
        check(broker)
        broker.wait(20)
        assert client.closed or client.connection.open

    look(
        inner,
        400,
        levels.flatmap(
            lambda level: st.one_of(connects(level), broken(connects(level)), st.binary(max_size=200))
        ),
    )


def test_it_does_not_matter_how_bytes_are_cut_into_chunks() -> None:
    def inner(case: tuple[int, bytes], cuts: list[int]) -> None:
        level, raw = case
        edges = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
        whole = _outcome(level, [raw])
        assert _outcome(level, [raw[a:b] for a, b in itertools.pairwise(edges)]) == whole

    look(
        inner,
        300,
        levels.flatmap(lambda level: st.tuples(st.just(level), streams(level))),
        st.lists(st.integers(0, 400)),
    )


def _outcome(level: int, chunks: list[bytes]) -> object:
    """What another client has seen, what was retained, and whether the connection was closed."""
    broker = Broker(**LIMITS | {"queue_messages": 1_000, "queue_bytes": 1_000_000, "inflight": 1_000})
    watch, wild = broker.client("watch"), broker.client("wild", level=level)
    watch.subscribe(("#", 2))
    feed(wild, *chunks)
    seen = [(m.topic, m.payload, m.qos) for m in watch.packets() if m.kind == p.PUBLISH]
    retained = {topic: message.payload for topic, message in broker.hub.retained.messages.items()}
    return seen, retained, wild.closed


def test_crowds_of_wild_clients_keep_the_bounds() -> None:
    """Several clients under a few names, so that they take over one another, share queues and leave wills."""

    def inner(data: st.DataObject) -> None:
        broker = Broker(**LIMITS)
        clients: dict[int, Client] = {}
        for _ in range(data.draw(st.integers(1, 8))):
            number = data.draw(st.integers(0, 3))
            client = clients.get(number)
            if client is None or client.closed:
                level = data.draw(levels)
                client = clients[number] = broker.client(level=level)
                keep = {"session_expiry": 5} if level == 5 else None
                raw = p.connect(f"wild{number % 3}", level=level, clean=data.draw(st.booleans()), props=keep)
                feed(client, raw)
            match data.draw(st.sampled_from(["talk", "talk", "talk", "vanish", "wait", "choke"])):
                case "talk":
                    feed(client, data.draw(streams(client.level, 6)))
                case "vanish":
                    client.connection.close()
                case "wait":
                    broker.wait(data.draw(st.integers(0, 8)))
                case "choke":
                    client.connection.choke(data.draw(st.booleans()))
            broker.turn()
            check(broker)
            for each in clients.values():
                each.packets()

    look(inner, 150, st.data())
