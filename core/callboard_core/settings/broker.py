"""Bounds and durability of the embedded broker. Sizes in bytes, times in seconds, rates per second."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from callboard_core.messages import MESSAGE_LIMIT

__all__ = ["BrokerDurability", "BrokerLimits"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class BrokerLimits(_Section):
    """What the broker accepts. Nothing it keeps for others is without a bound."""

    message_bytes: int = Field(default=MESSAGE_LIMIT, ge=1024, le=268_000_000, description="largest message")
    inflight: int = Field(
        default=1_000, ge=1, le=65_535, description="messages sent to a client and not acknowledged"
    )
    queue_messages: int = Field(default=10_000, ge=0, description="messages waiting for one session")
    queue_bytes: int = Field(default=16_777_216, ge=0, description="the same, in bytes")
    write_buffer_bytes: int = Field(
        default=1_048_576,
        ge=4_096,
        description="bytes a socket does not take, above which its reader is slow",
    )
    patience: float = Field(
        default=3.0,
        ge=0,
        description="how long publishers wait for a connected client that makes no progress and whose queue is half full",
    )
    sessions: int = Field(default=50_000, ge=1, description="sessions, connected or not")
    connections: int = Field(default=10_000, ge=1, description="clients at once")
    connections_per_address: int = Field(default=10_000, ge=1, description="clients at once from one address")
    connect_rate: int = Field(default=10_000, ge=1, description="new connections a second")
    connect_timeout: float = Field(default=10.0, gt=0, description="from accepting a socket to its CONNECT")
    logins_waiting: int = Field(
        default=10,
        ge=1,
        description="different passwords for one user from one address that wait to be checked at once",
    )
    subscriptions: int = Field(default=10_000, ge=1, description="filters of one session")
    retained_messages: int = Field(default=200_000, ge=0, description="topics with a retained message")
    retained_bytes: int = Field(default=268_435_456, ge=0, description="the same, in bytes")
    retained_pending: int = Field(
        default=400_000, ge=1, description="retained messages still to be sent to one session"
    )
    session_expiry: float = Field(
        default=30 * 86_400.0, ge=0, description="how long a persistent session outlives its connection"
    )
    topic_aliases: int = Field(default=100, ge=0, le=65_535, description="aliases an MQTT 5 client may set")
    stall_timeout: float = Field(
        default=60.0, gt=0, description="how long a client may take nothing before it is disconnected"
    )


class BrokerDurability(_Section):
    """When what clients were promised is on the disk."""

    commit_delay: float = Field(
        default=0.0, ge=0, le=1, description="how long acknowledgements may wait for others to share a write"
    )
    fsync: bool = Field(
        default=False, description="wait for the disk, so that a power cut loses nothing either"
    )
    will_grace: float = Field(
        default=15.0,
        ge=0,
        description="after a crash of the broker, time to come back before a will is published",
    )
