"""A client of another make (paho, MQTT 5) over any transport, for tests that ask what it may do."""

from __future__ import annotations

import queue
import ssl
from typing import Any, Self

import paho.mqtt.client as paho

PATIENCE = 30.0


class Talker:
    """Connected for the length of a `with` block; `transport` is tcp, tls, ws or wss on 127.0.0.1."""

    def __init__(self, port: int, transport: str, client_id: str, username: str, password: str) -> None:
        self._events: queue.Queue[tuple[str, Any]] = queue.Queue()
        kind = "websockets" if transport in {"ws", "wss"} else "tcp"
        self._client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id,
            protocol=paho.MQTTv5,
            transport=kind,
            reconnect_on_failure=False,
        )
        self._client.username_pw_set(username, password)
        if transport in {"tls", "wss"}:
            self._client.tls_set(cert_reqs=ssl.CERT_NONE)
            self._client.tls_insecure_set(True)
        self._client.on_connect = lambda _c, _u, _f, reason, _p: self._events.put(("connected", reason))
        self._client.on_subscribe = lambda *_: self._events.put(("subscribed", None))
        self._client.on_publish = lambda *_: self._events.put(("published", None))
        self._client.on_disconnect = lambda *_: self._events.put(("disconnected", None))
        self._client.on_message = lambda _c, _u, message: self._events.put(("message", message))
        self._client.connect("127.0.0.1", port)

    def __enter__(self) -> Self:
        self._client.loop_start()
        assert not self._wait("connected").is_failure
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _wait(self, *kinds: str) -> Any:
        while True:
            found, value = self._events.get(timeout=PATIENCE)
            if found in kinds:
                return value

    def publish(self, topic: str, payload: bytes) -> None:
        """At QoS 1; returns once it is acknowledged, be it with a refusal, or the connection closed for it."""
        self._client.publish(topic, payload, qos=1)
        self._wait("published", "disconnected")

    def subscribe(self, *filters: str) -> None:
        """To each; returns once all are answered, be it with a refusal."""
        for one in filters:
            self._client.subscribe(one, qos=1)
            self._wait("subscribed")

    def heard_until(self, payload: bytes) -> set[str]:
        """Return the topics of the messages that came before one with this payload; not those of the broker's own."""
        heard: set[str] = set()
        while (message := self._wait("message")).payload != payload:
            heard.add(message.topic)
        return {topic for topic in heard if not topic.startswith("$")}
