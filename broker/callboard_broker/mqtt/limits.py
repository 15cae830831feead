"""Every bound of the broker with its default, in one place."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the embedded broker. Sizes in bytes, times in seconds, rates per second.

    Attributes:
        packet: largest packet, from its first byte to its last.
        inflight: QoS 1 and 2 messages sent to one session and not yet acknowledged.
        queue_messages: messages waiting for one session, connected or not.
        queue_bytes: the same, in bytes.
        write_buffer: bytes not yet accepted by the socket, above which a reader counts as slow.
        connections: clients at once.
        connections_per_address: clients at once from one address.
        connect_rate: new connections a second, over all addresses (a burst of one second is allowed).
        connect_timeout: from accepting a socket to a complete CONNECT.
        subscriptions: filters of one session.
        retained_messages: topics with a retained message.
        retained_bytes: the same, in bytes.
        retained_pending: retained messages still to be sent to one session.
        session_expiry: how long a persistent session outlives its connection, at most.
        topic_aliases: aliases an MQTT 5 client may set.
        stall: how long a connection may refuse every byte before it is closed.
    """

    packet: int = 1_048_576
    inflight: int = 1_000
    queue_messages: int = 10_000
    queue_bytes: int = 16_777_216
    write_buffer: int = 1_048_576
    connections: int = 10_000
    connections_per_address: int = 10_000
    connect_rate: int = 5_000
    connect_timeout: float = 10.0
    subscriptions: int = 10_000
    retained_messages: int = 200_000
    retained_bytes: int = 268_435_456
    retained_pending: int = 400_000
    session_expiry: float = 30 * 86_400.0
    topic_aliases: int = 100
    stall: float = 60.0
