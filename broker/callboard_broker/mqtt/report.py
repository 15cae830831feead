"""What the broker says about itself under ``$SYS/broker``: Mosquitto's names, and ours under ``callboard/``.

Numbers are Mosquitto's (mosquitto(8), "Broker status"); ours are JSON for ``callboard doctor`` and ``/metrics``.
"""

from __future__ import annotations

import heapq
import json
import math
import resource
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from callboard_broker.mqtt.hub import Hub
    from callboard_broker.mqtt.session import Session

__all__ = ["Reporter"]

_ROOT = "$SYS/broker/"
#: How many of the worst are named.
_TOP = 10
#: Take-overs of one client id within an interval that look like two clients fighting for it.
_FLAPPING = 2
_WINDOWS = {"1min": 60.0, "5min": 300.0, "15min": 900.0}
_LOADS = {
    "messages/received": "messages_in",
    "messages/sent": "messages_out",
    "publish/received": "publish_in",
    "publish/sent": "publish_out",
    "publish/dropped": "dropped",
    "bytes/received": "bytes_in",
    "bytes/sent": "bytes_out",
    "connections": "connects",
    "sockets": "sockets",
}


class Reporter:
    """Works out the topics; keeps what it takes to give rates.

    Args:
        version: shown as ``callboard VERSION``.
        started: board's clock at start, Unix seconds.
    """

    def __init__(self, hub: Hub, version: str, started: float) -> None:
        self._hub = hub
        self._version = version
        self._started = self._last = started
        self._before: dict[str, int] = {}
        self._loads: dict[str, float] = {}
        self._published: dict[str, str] = {}
        self._most = 0
        self._taken_over: dict[str, int] = {}

    def changes(self, now: float) -> list[tuple[str, str]]:
        """Return the topics whose payload differs from the last time."""
        hub = self._hub
        self._most = max(self._most, self._connected())
        found = dict(self._numbers(now)) | dict(self._rates(now)) | dict(self._ours(now))
        self._last = now
        for connection in hub.connections:
            connection.publish_in = 0
        for session in hub.sessions.values():
            session.dropped = 0
        changed = [(_ROOT + name, text) for name, text in found.items() if self._published.get(name) != text]
        self._published = found
        return changed

    def _connected(self) -> int:
        return sum(connection.open for connection in self._hub.connections)

    def _numbers(self, now: float) -> Iterator[tuple[str, str]]:
        hub, count = self._hub, self._hub.counters
        connected, total = self._connected(), len(hub.sessions)
        waiting = sum(len(session.queue) + len(session.inflight) for session in hub.sessions.values())
        waiting_bytes = sum(session.queue_bytes for session in hub.sessions.values())
        kept = len(hub.retained.messages)
        yield "version", f"callboard {self._version}"
        yield "uptime", f"{int(now - self._started)} seconds"
        shared = sum(
            bool(subscription.group)
            for session in hub.sessions.values()
            for subscription in session.subscriptions.values()
        )
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        for name, number in (
            ("clients/total", total),
            ("clients/connected", connected),
            ("clients/active", connected),
            ("clients/disconnected", total - connected),
            ("clients/inactive", total - connected),
            ("clients/maximum", self._most),
            ("clients/expired", count.expired_sessions),
            ("messages/received", count.messages_in),
            ("messages/sent", count.messages_out),
            ("messages/stored", kept + waiting),
            ("store/messages/count", kept + waiting),
            ("store/messages/bytes", hub.retained.size + waiting_bytes),
            ("retained messages/count", kept),
            ("subscriptions/count", hub.tree.count),
            ("shared_subscriptions/count", shared),
            ("publish/messages/received", count.publish_in),
            ("publish/messages/sent", count.publish_out),
            ("publish/messages/dropped", count.dropped),
            ("publish/bytes/received", count.publish_bytes_in),
            ("publish/bytes/sent", count.publish_bytes_out),
            ("bytes/received", count.bytes_in),
            ("bytes/sent", count.bytes_out),
            ("heap/maximum", memory),
        ):
            yield name, str(number)

    def _rates(self, now: float) -> Iterator[tuple[str, str]]:
        """Exponentially weighted averages per minute, as Mosquitto's ``load/``."""
        elapsed = now - self._last
        for name, counter in _LOADS.items():
            value: int = getattr(self._hub.counters, counter)
            per_minute = (value - self._before.get(counter, 0)) * 60 / elapsed if elapsed > 0 else 0.0
            self._before[counter] = value
            for label, window in _WINDOWS.items():
                key = f"load/{name}/{label}"
                weight = math.exp(-elapsed / window)
                load = self._loads[key] = per_minute * (1 - weight) + self._loads.get(key, 0.0) * weight
                yield key, f"{load:.2f}"

    def _ours(self, now: float) -> Iterator[tuple[str, str]]:
        count = self._hub.counters
        yield "callboard/flapping", _json(self._flapping())
        yield "callboard/slow", _json(self._slow())
        yield "callboard/talkers", _json(self._talkers(now - self._last))
        yield "callboard/refused", _json(dict(count.refused))
        yield "callboard/bounds", _json(dict(count.bounds))
        yield "callboard/limits", _json(self._hub.limits.model_dump(mode="json"))

    def _flapping(self) -> list[dict[str, Any]]:
        """Client ids that were taken over again and again since the last report."""
        known, self._taken_over = self._taken_over, dict(self._hub.counters.taken_over)
        fresh = {client: total - known.get(client, 0) for client, total in self._taken_over.items()}
        worst = heapq.nlargest(_TOP, fresh.items(), key=lambda item: item[1])
        return [{"client": client, "takeovers": many} for client, many in worst if many >= _FLAPPING]

    def _slow(self) -> list[dict[str, Any]]:
        """Connected clients with messages that wait, or that were dropped since the last report."""

        def burden(session: Session) -> int:
            return session.dropped + len(session.queue)

        connected = (session for session in self._hub.sessions.values() if session.connection is not None)
        worst = heapq.nlargest(_TOP, connected, key=burden)
        return [
            {"client": session.client_id, "waiting": len(session.queue), "dropped": session.dropped}
            for session in worst
            if burden(session)
        ]

    def _talkers(self, elapsed: float) -> list[dict[str, Any]]:
        if elapsed <= 0:
            return []
        talkers = (c for c in self._hub.connections if c.session is not None and c.publish_in)
        worst = heapq.nlargest(_TOP, talkers, key=lambda connection: connection.publish_in)
        return [
            {"client": c.session.client_id, "rate": round(c.publish_in / elapsed, 1)}
            for c in worst
            if c.session is not None
        ]


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
