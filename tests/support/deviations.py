"""Where mosquitto 2.0 departs from the standard. Each entry's behaviour is asserted by the test of that rule."""

from __future__ import annotations

from support.engines import Engine

MOSQUITTO = {
    "MQTT-3.3.5-1": "overlapping filters: the QoS of the first filter found, not the highest one",
    "MQTT-4.3.3-2": "the third copy of a QoS 2 PUBLISH closes the connection",
    "SUBACK from a client": "ignored",
    "UNSUBACK from a client": "ignored",
    "PINGRESP from a client": "ignored",
    "PUBLISH QoS 0 with DUP": "taken as if DUP were not set",
    "PUBACK with flags": "flags not looked at",
    "PUBACK too long": "surplus bytes not looked at",
    "PUBREC with flags": "flags not looked at",
    "PUBCOMP with flags": "flags not looked at",
    "PINGREQ with flags": "flags not looked at",
    "PINGREQ with a body": "body not looked at",
}


def deviates(engine: Engine, rule: str) -> bool:
    """Whether this engine is known not to follow the rule; the test then asserts what it does instead."""
    return engine.name == "mosquitto" and rule in MOSQUITTO
