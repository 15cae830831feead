"""Where mosquitto 2.0 departs from the standard. Each entry's behaviour is asserted by the test of that rule."""

from __future__ import annotations

from support.engines import Engine

MOSQUITTO = {
    "MQTT-3.3.5-1": "overlapping filters: the QoS of the first filter found, not the highest one",
    "MQTT-4.8.2-5": "what a member of a share did not acknowledge before it vanished is lost",
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
    "v5 no reason": "closes without the DISCONNECT that would say why",
    "v5 take-over": "closes the old connection without the DISCONNECT that would say why",
    "v5 CONNECT: authentication data without a method": "accepted",
    "v5 PUBLISH with a subscription identifier": "passed on",
    "v5 PUBLISH with a wildcard response topic": "passed on",
    "v5 PUBLISH with payload format 2": "passed on",
    "v5 SUBSCRIBE no local to a share": "accepted",
    "v5 will delay": "a delayed will waits although its session has ended",
    "v5 receive maximum": "one acknowledgement opens the whole window again, so more are in flight than allowed",
    "v5 receive maximum exceeded": "PUBREC 0x97 and close, instead of DISCONNECT 0x93",
    "v5 unknown identifiers": "reason code 0 instead of 0x92",
    "v5 share and retained": "retained messages are sent to a shared subscription",
    "v5 $share/g": "accepted",
    "v5 $share//a": "accepted",
    "v5 $share/+/a": "accepted",
    "v5 $share/g/": "accepted",
}


def deviates(engine: Engine, rule: str) -> bool:
    """Whether this engine is known not to follow the rule; the test then asserts what it does instead."""
    return engine.name == "mosquitto" and rule in MOSQUITTO
