"""Clients of both versions, and of other makers, talk to each other."""

from __future__ import annotations

import contextlib
import queue
import shutil
import subprocess
from collections.abc import Iterator

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from support.engines import Engine

PROPS = {"content_type": "text/plain", "user_property": [("k", "v")], "message_expiry": 100}


@pytest.mark.parametrize(("from_level", "to_level"), [(4, 5), (5, 4), (5, 5), (4, 4)])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_versions_talk_to_each_other(
    engine: Engine, unique: str, from_level: int, to_level: int, qos: int
) -> None:
    with (
        engine.connect(f"{unique}a", level=from_level) as a,
        engine.connect(f"{unique}b", level=to_level) as b,
    ):
        b.subscribe((unique, 2))
        a.publish(unique, b"hello", qos=qos, **({"props": PROPS} if from_level == 5 else {}))
        got = b.message()
        assert (got.topic, got.payload, got.qos) == (unique, b"hello", qos)
        if from_level == to_level == 5:
            assert got.props["user_property"] == [("k", "v")]
            assert 98 <= got.props["message_expiry"] <= 100


@pytest.mark.parametrize("first", [4, 5])
def test_a_session_may_change_its_version(engine: Engine, unique: str, first: int) -> None:
    def come(level: int):
        keep = {"props": {"session_expiry": 60}} if level == 5 else {}
        return engine.connect(unique, level=level, clean=False, **keep)

    with come(first) as wire, engine.connect(f"{unique}p", level=5) as other:
        wire.subscribe((unique, 1))
        wire.disconnect()
        other.publish(unique, b"x", qos=1, props=PROPS)
    with come(9 - first) as wire:
        assert wire.connack.session_present
        assert wire.message().payload == b"x"
    engine.connect(unique).disconnect()


def test_a_retained_message_of_version_5_reaches_3_1_1(engine: Engine, unique: str) -> None:
    with engine.connect(f"{unique}a", level=5) as a, engine.connect(f"{unique}b") as b:
        a.publish(unique, b"kept", qos=1, retain=True, props=PROPS)
        b.subscribe((unique, 1))
        got = b.message()
        assert (got.payload, got.retain) == (b"kept", True)
        a.publish(unique, qos=1, retain=True)


@contextlib.contextmanager
def _paho(engine: Engine, client_id: str, protocol: int) -> Iterator[tuple[paho.Client, queue.Queue]]:
    heard: queue.Queue = queue.Queue()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id, protocol=protocol)
    client.on_message = lambda _c, _u, message: heard.put(message)
    client.on_subscribe = lambda _c, _u, _mid, codes, _p: heard.put(codes)
    client.on_connect = lambda _c, _u, _f, code, props: heard.put((code, props))
    client.connect(*engine.address)
    client.loop_start()
    try:
        code, _ = heard.get(timeout=20)
        assert not code.is_failure
        yield client, heard
    finally:
        client.disconnect()
        client.loop_stop()


@pytest.mark.parametrize("protocol", [paho.MQTTv311, paho.MQTTv5])
def test_paho_speaks_both_versions(engine: Engine, unique: str, protocol: int) -> None:
    with _paho(engine, unique, protocol) as (client, heard), engine.connect(f"{unique}w") as watcher:
        watcher.subscribe((f"{unique}/up", 2))
        client.subscribe(f"{unique}/down", qos=2)
        assert heard.get(timeout=20)[0].value == 2
        for qos in (0, 1, 2):
            client.publish(f"{unique}/up", f"{qos}", qos=qos).wait_for_publish(20)
            assert watcher.message().qos == qos
            watcher.publish(f"{unique}/down", b"%d" % qos, qos=qos)
            got = heard.get(timeout=20)
            assert (got.payload, got.qos) == (b"%d" % qos, qos)


def test_paho_5_sends_and_receives_properties(engine: Engine, unique: str) -> None:
    with _paho(engine, unique, paho.MQTTv5) as (client, heard):
        client.subscribe(unique, qos=1)
        heard.get(timeout=20)
        props = Properties(PacketTypes.PUBLISH)
        props.ResponseTopic = f"{unique}/answer"
        props.CorrelationData = b"12"
        props.UserProperty = ("a", "b")
        client.publish(unique, b"x", qos=1, properties=props)
        got = heard.get(timeout=20).properties
        assert (got.ResponseTopic, got.CorrelationData) == (f"{unique}/answer", b"12")
        assert got.UserProperty == [("a", "b")]


def _command(engine: Engine, program: str, *options: str) -> list[str]:
    return [shutil.which(program) or program, "-h", "127.0.0.1", "-p", str(engine.port), *options]


@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_mosquitto_sub_of_both_versions_hears_a_3_1_1_client(
    engine: Engine, unique: str, version: str
) -> None:
    with engine.connect(unique) as wire:
        wire.publish(f"{unique}/kept", b"retained text", qos=1, retain=True)
        command = _command(
            engine, "mosquitto_sub", "-V", version, "-t", f"{unique}/#", "-C", "1", "-W", "20", "-v"
        )
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        assert done.stdout == f"{unique}/kept retained text\n"
        wire.publish(f"{unique}/kept", qos=1, retain=True)


def test_mosquitto_pub_of_version_5_reaches_a_3_1_1_client(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        wire.subscribe((unique, 2))
        extra = ["-D", "publish", "user-property", "a", "b", "-D", "publish", "message-expiry-interval", "60"]
        command = _command(
            engine, "mosquitto_pub", "-V", "mqttv5", "-t", unique, "-m", "hi", "-q", "2", *extra
        )
        with subprocess.Popen(command) as program:
            assert wire.message().payload == b"hi"
            assert program.wait(20) == 0


@pytest.mark.parametrize("level", [4, 5])
def test_mosquitto_rr_gets_its_answer(engine: Engine, unique: str, level: int) -> None:
    """A request with Response Topic and Correlation Data, answered by us."""
    version = {4: "mqttv311", 5: "mqttv5"}[level]
    command = _command(
        engine, "mosquitto_rr", "-V", version, "-t", f"{unique}/ask", "-e", f"{unique}/tell", "-m", "2+2",
        "-W", "20", "-q", "1", "-D", "publish", "correlation-data", "c1",
    )  # fmt: skip
    if level == 4:
        command = command[:-4]
    with engine.connect(unique, level=level) as wire:
        wire.subscribe((f"{unique}/ask", 1))
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
            request = wire.message()
            if level == 5:
                assert request.props["response_topic"] == f"{unique}/tell"
                assert request.props["correlation_data"] == b"c1"
            wire.publish(
                f"{unique}/tell",
                b"4",
                qos=1,
                **({"props": {"correlation_data": b"c1"}} if level == 5 else {}),
            )
            out, _ = program.communicate(timeout=30)
            assert out.strip() == "4"
