"""One MQTT connection over paho-mqtt: reconnects, queues within bounds, publishes, subscribes and calls."""

from callboard_core.link.aio import AsyncLink
from callboard_core.link.backoff import Backoff
from callboard_core.link.calls import new_id
from callboard_core.link.lane import Timer
from callboard_core.link.link import Link
from callboard_core.link.subscriptions import Subscription
from callboard_core.link.values import Credential, Endpoint, Message, Will

__all__ = [
    "AsyncLink",
    "Backoff",
    "Credential",
    "Endpoint",
    "Link",
    "Message",
    "Subscription",
    "Timer",
    "Will",
    "new_id",
]
