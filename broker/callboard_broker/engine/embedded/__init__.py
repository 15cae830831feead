"""The embedded broker: our MQTT core hosted in amqtt, in a process of its own."""

from callboard_broker.engine.embedded.engine import EmbeddedEngine

__all__ = ["EmbeddedEngine"]
