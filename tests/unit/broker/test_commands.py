"""MQTT 5 requests become calls that callees understand, and their answers carry the correlation data again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from callboard_broker.engine.embedded.commands import LONGEST, Commands
from callboard_broker.mqtt.message import Message
from callboard_broker.mqtt.properties import Property
from callboard_core.calls.envelopes import encode_result, read_call

TOPIC, REPLY = "callboard/alpha/command/worker/add", "callboard/me/reply"
COMMANDS = Commands("callboard")


def translate(payload: bytes, topic: str = TOPIC, **more: Any) -> bytes:
    return COMMANDS.translate(topic, payload, {Property.RESPONSE_TOPIC: REPLY, **more.get("properties", {})})


@pytest.mark.parametrize("correlation", [b"", b"\x00\xff?", bytes(range(LONGEST))])
def test_a_request_becomes_a_call_and_its_answer_carries_the_correlation(correlation: bytes) -> None:
    properties = {Property.CORRELATION_DATA: correlation, Property.MESSAGE_EXPIRY: 7}
    call = read_call(translate('{"args": {"a": "ä"}}'.encode(), properties=properties))
    assert (call.args, call.reply_to, call.brief) == ({"a": "ä"}, REPLY, True)
    assert call.expires is not None
    assert call.t is not None
    assert call.expires - call.t == 7
    message = Message(REPLY, encode_result(call.id, 3))
    assert message.payload.startswith(COMMANDS.mark)
    assert COMMANDS.correlation(message) == (
        b"\x09" + len(correlation).to_bytes(2, "big") + correlation if correlation else b""
    )


def test_two_requests_are_two_calls() -> None:
    assert read_call(translate(b"{}")).id != read_call(translate(b"{}")).id
    assert read_call(translate(b"")).args == {}


@pytest.mark.parametrize(
    ("payload", "topic"),
    [
        (b"not json", TOPIC),
        (b"[1]", TOPIC),
        (b'{"id": "mine"}', TOPIC),
        (b'{"reply_to": "callboard/x/reply"}', TOPIC),
        (b"{}", "callboard/alpha/event/x"),
        (b"{}", "other/alpha/command/worker/add"),
        (b"{}", "callboard/alpha/command"),
    ],
)
def test_what_is_no_request_of_ours_is_left_alone(payload: bytes, topic: str) -> None:
    assert translate(payload, topic) == payload


def test_correlation_data_that_is_too_long_is_not_cut() -> None:
    assert translate(b"{}", properties={Property.CORRELATION_DATA: bytes(LONGEST + 1)}) == b"{}"


@pytest.mark.parametrize("text", ["mqtt5.", "mqtt5.x", "mqtt5.x.***", "mqtt5.x.ä", "mqtt5." + "x." * 400])
def test_an_id_that_somebody_made_up_harms_nothing(text: str) -> None:
    for topic in (REPLY, "callboard/a/event/x"):
        assert COMMANDS.correlation(Message(topic, json.dumps({"id": text}).encode())) == b""
        assert COMMANDS.correlation(Message(topic, COMMANDS.mark + text.encode())) == b""
    assert json.loads(encode_result("x", 1))["id"] == "x"
