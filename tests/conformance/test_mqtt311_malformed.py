"""MQTT 3.1.1 section 4.8: malformed packets close the connection they came on, and nothing else."""

from __future__ import annotations

import pytest

from support import packets as p
from support.deviations import deviates
from support.engines import Engine
from support.wire import Will, rejected

# name -> bytes sent on a connected client's socket
MALFORMED = {
    "reserved type 0": b"\x00\x00",
    "reserved type 15": b"\xf0\x00",
    "CONNACK from a client": b"\x20\x02\x00\x00",
    "SUBACK from a client": b"\x90\x03\x00\x01\x00",
    "UNSUBACK from a client": b"\xb0\x02\x00\x01",
    "PINGRESP from a client": b"\xd0\x00",
    "remaining length of five bytes": b"\x30\xff\xff\xff\xff\x01",
    "PUBLISH without a body": b"\x30\x00",
    "PUBLISH shorter than its topic length": b"\x30\x04\x00\x09ab",
    "PUBLISH QoS 1 without an identifier": b"\x32\x03\x00\x01a",
    "PUBLISH QoS 1 with half an identifier": b"\x32\x04\x00\x01a\x00",
    "PUBLISH QoS 1 with identifier 0": b"\x32\x05\x00\x01a\x00\x00",
    "PUBLISH QoS 2 with identifier 0": b"\x34\x05\x00\x01a\x00\x00",
    "PUBLISH QoS 0 with DUP": b"\x38\x04\x00\x01ax",
    "PUBLISH QoS 3": b"\x36\x06\x00\x01a\x00\x01x",
    "PUBLISH to an empty topic": b"\x30\x03\x00\x00x",
    "PUBLISH to a wildcard": p.publish("a/#", b"x"),
    "PUBLISH to a topic with NUL": p.publish("a\0", b"x"),
    "PUBLISH to a topic in bad UTF-8": p.publish(b"\xff\xfe", b"x"),
    "PUBACK without an identifier": b"\x40\x00",
    "PUBACK with one byte": b"\x40\x01\x00",
    "PUBACK with identifier 0": b"\x40\x02\x00\x00",
    "PUBACK with flags": b"\x41\x02\x00\x01",
    "PUBACK too long": b"\x40\x04\x00\x01\x00\x00",
    "PUBREC with flags": b"\x52\x02\x00\x01",
    "PUBREC with identifier 0": b"\x50\x02\x00\x00",
    "PUBREL without its flag": b"\x60\x02\x00\x01",
    "PUBREL with identifier 0": b"\x62\x02\x00\x00",
    "PUBREL too short": b"\x62\x01\x00",
    "PUBCOMP with flags": b"\x71\x02\x00\x01",
    "PUBCOMP too short": b"\x70\x01\x00",
    "SUBSCRIBE with identifier 0": p.subscribe([("a", 0)], pid=0),
    "SUBSCRIBE without filters": b"\x82\x02\x00\x01",
    "SUBSCRIBE without a body": b"\x82\x00",
    "SUBSCRIBE without a QoS byte": b"\x82\x05\x00\x01\x00\x01a",
    "SUBSCRIBE with QoS 3": p.subscribe([("a", 3)]),
    "SUBSCRIBE with reserved bits": p.subscribe([("a", 0x40)]),
    "SUBSCRIBE with a filter longer than the packet": b"\x82\x06\x00\x01\x00\x20ab",
    "SUBSCRIBE with a bad second filter": p.subscribe([("a", 0), ("a/#/b", 0)]),
    "SUBSCRIBE without its flag": b"\x80" + p.subscribe([("a", 0)])[1:],
    "UNSUBSCRIBE with identifier 0": p.unsubscribe(["a"], pid=0),
    "UNSUBSCRIBE without filters": b"\xa2\x02\x00\x01",
    "UNSUBSCRIBE without its flag": b"\xa0" + p.unsubscribe(["a"])[1:],
    "UNSUBSCRIBE with an empty filter": p.unsubscribe([""]),
    "PINGREQ with flags": b"\xc1\x00",
    "PINGREQ with a body": b"\xc0\x01\x00",
    "DISCONNECT with flags": b"\xe8\x00",
    "DISCONNECT with a body": b"\xe0\x01\x00",
}


@pytest.mark.parametrize("which", MALFORMED)
def test_mqtt_4_8_0_1_a_malformed_packet_closes_its_connection_and_fires_the_will(
    engine: Engine, unique: str, which: str
) -> None:
    with engine.connect(f"{unique}w") as bystander, engine.connect(unique, will=Will(unique, qos=1)) as wire:
        bystander.subscribe((unique, 1))
        wire.send(MALFORMED[which])
        if deviates(engine, which):
            wire.send(p.publish(f"{unique}/alive", b"x", qos=2, pid=9))
            assert wire.wait_for(lambda packet: packet.kind == p.PUBREC).pid == 9
            return
        assert wire.is_closed()
        assert bystander.message().payload == b"gone"


HELLO = p.text("MQTT") + b"\x04\x02\x00\x3c"
BAD_CONNECTS = {
    "flags in the fixed header": b"\x11" + p.connect("a")[1:],
    "no body": b"\x10\x00",
    "protocol name cut": b"\x10\x03\x00\x04M",
    "no client id": p.frame(0x10, HELLO),
    "client id cut": p.frame(0x10, HELLO + b"\x00\x09abc"),
    "bytes after the end": p.frame(0x10, HELLO + p.text("abc") + b"\x00"),
    "reserved flag": p.connect("abc", flags=3),
    "will of QoS 3": p.connect("abc", will=Will("w"), flags=0x1E),
    "will QoS without will": p.connect("abc", flags=0x0A),
    "will retain without will": p.connect("abc", flags=0x22),
    "empty will topic": p.connect("abc", will=Will("")),
    "wildcard in the will topic": p.connect("abc", will=Will("a/#")),
    "NUL in the will topic": p.connect("abc", will=Will("a\0")),
    "bad UTF-8 in the will topic": p.frame(
        0x10, p.text("MQTT") + b"\x04\x06\x00\x3c" + p.text("abc") + p.text(b"\xff") + p.data(b"x")
    ),
    "password without user": p.connect("abc", password="x"),
    "user name in bad UTF-8": p.frame(
        0x10, p.text("MQTT") + b"\x04\x82\x00\x3c" + p.text("abc") + p.text(b"\xff")
    ),
    "NUL in the client id": p.connect("a\0c"),
    "five length bytes": b"\x10\xff\xff\xff\xff\x7f",
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
}


@pytest.mark.parametrize("which", BAD_CONNECTS)
def test_mqtt_3_1_4_1_a_malformed_connect_is_closed(engine: Engine, which: str) -> None:
    answer = rejected(engine.address, BAD_CONNECTS[which])
    assert answer is None or answer.code != 0
