"""Payloads survive the wire, and what does not parse is told which key is wrong."""

import contextlib
import json
import math
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from callboard_core.errors import ERRORS, BadPayload, CallboardError, NotFound, TooLarge
from callboard_core.messages import (
    Batch,
    Call,
    ErrorBody,
    Event,
    Level,
    Payload,
    Reading,
    Reply,
    Severity,
    State,
    Status,
    StatusName,
    parse,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
names = st.text(string.ascii_lowercase, min_size=1, max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
whole = st.integers(-(2**63), 2**63 - 1)
values = st.one_of(st.booleans(), whole, numbers, texts)
times = st.floats(0, 253_402_300_799)
epochs = st.integers(0, 2**53 - 1)
json_values = st.recursive(
    st.one_of(st.none(), values),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
json_objects = st.dictionaries(texts, json_values, max_size=4)
maybe = st.none()
error_bodies = st.builds(ErrorBody, code=names, message=texts, type=maybe | names, traceback=maybe | texts)
batches = st.integers(1, 20).flatmap(
    lambda size: st.builds(
        Batch,
        t=st.lists(times, min_size=size, max_size=size),
        v=st.lists(values, min_size=size, max_size=size),
    )
)
payloads = st.one_of(
    st.builds(Status, status=st.sampled_from(StatusName), epoch=epochs, t=times, instance=maybe | names),
    st.builds(Reading, v=values, t=times),
    st.builds(
        State,
        v=maybe | values,
        t=times,
        level=st.sampled_from(Level),
        error=maybe | error_bodies,
        call=maybe | names,
    ),
    batches,
    st.builds(
        Call, id=names, reply_to=maybe | names, args=json_objects, expires=maybe | times, t=maybe | times
    ),
    st.builds(
        Reply, id=names, progress=maybe | st.floats(0, 1), ok=maybe | st.booleans(), result=json_values
    ),
    st.builds(Event, t=times, severity=st.sampled_from(Severity), message=texts, data=json_objects),
)
models = st.sampled_from([Status, Reading, State, Batch, Call, Reply, Event, ErrorBody])


@given(payloads)
def test_a_payload_survives_being_encoded_and_parsed(payload):
    again = parse(type(payload), payload.encode())
    assert again == payload
    assert again.encode() == payload.encode()


@given(payloads)
def test_a_payload_is_a_json_object_without_empty_keys(payload):
    content = json.loads(payload.encode())
    assert isinstance(content, dict)
    assert None not in content.values()


@given(models, st.one_of(st.binary(), json_values.map(json.dumps), json_objects.map(json.dumps)))
def test_any_bytes_are_a_payload_or_a_bad_payload(model, payload):
    with contextlib.suppress(BadPayload):
        assert isinstance(parse(model, payload), model)


@given(payloads, names)
def test_unknown_keys_are_ignored(payload, key):
    content = json.loads(payload.encode())
    parsed = parse(type(payload), json.dumps({f"x-{key}": 1} | content))
    assert parsed == payload


@pytest.mark.parametrize(
    ("model", "payload", "key", "expected"),
    [
        (Reading, "", "", "Invalid JSON"),
        (Reading, b"\xff\xfe", "", "Invalid JSON"),
        (Reading, "[1]", "", "expected an object"),
        (Reading, '{"t": 1}', "v", "v: missing; it is required"),
        (Reading, '{"v": {}, "t": 1}', "v", "v: expected true/false, a finite number or a text"),
        (Reading, '{"v": null, "t": 1}', "v", "v: expected true/false, a finite number or a text"),
        (Reading, '{"v": NaN, "t": 1}', "v", "v: expected true/false, a finite number or a text"),
        (Reading, '{"v": 1e999, "t": 1}', "v", "v: expected true/false, a finite number or a text"),
        (Reading, '{"v": 1, "t": NaN}', "t", "t: expected a finite number"),
        (Reading, '{"v": 1, "t": -1}', "t", "t: expected greater than or equal to 0"),
        (Reading, '{"v": 1, "t": 1e12}', "t", "t: expected less than"),
        (State, '{"v": [], "t": 1}', "v", "v: expected true/false, a finite number or a text"),
        (Batch, '{"t": [1, 2], "v": [1, {}]}', "v.1", "v.1: expected true/false, a finite number or a text"),
        (Batch, '{"t": [1, 2], "v": [1]}', "v", "v: has 1 items and t has 2; send as many"),
        (Batch, '{"t": [], "v": []}', "t", "t: List should have at least 1 item"),
        (Status, '{"epoch": 1, "t": 1}', "status", "status: missing; it is required"),
        (Status, '{"status": "up", "epoch": 1, "t": 1}', "status", "status: expected 'init', 'ready', 'sleeping'"),
        (Status, '{"status": "lost", "epoch": -1, "t": 1}', "epoch", "epoch: expected greater"),
        (Status, '{"status": "lost", "epoch": 9007199254740992, "t": 1}', "epoch", "epoch: expected less than"),
        (Call, '{"args": {}}', "id", "id: missing; it is required"),
        (Call, '{"id": "", "args": {}}', "id", "id: String should have at least 1 character"),
        (Call, '{"id": "x", "args": []}', "args", "args: expected an object"),
        (Call, '{"id": "x", "args": {"a": [{"b": NaN}]}}', "args", "args: NaN and infinity are no JSON numbers"),
        (Reply, '{"id": "x", "result": -Infinity}', "result", "result: NaN and infinity are no JSON numbers"),
        (Reply, '{"id": "x", "progress": 2}', "progress", "progress: expected less than or equal to 1"),
        (Reply, '{"id": "x", "error": {"code": "failed"}}', "error.message", "error.message: missing"),
        (Event, '{"t": 1, "data": {"a": NaN}}', "data", "data: NaN and infinity are no JSON numbers"),
    ],
)  # fmt: skip
def test_a_bad_payload_names_the_key_and_what_it_takes(model, payload, key, expected):
    with pytest.raises(BadPayload) as caught:
        parse(model, payload)
    assert caught.value.key == key
    assert caught.value.message.startswith(expected)


def test_deep_nesting_is_a_bad_payload():
    with pytest.raises(BadPayload, match="recursion limit"):
        parse(Call, '{"id": "x", "args": {"a": ' + "[" * 100_000 + "]" * 100_000 + "}}")


def test_whole_numbers_over_64_bits_become_floats_and_beyond_floats_are_refused():
    assert parse(Reading, '{"v": 10000000000000000000000, "t": 1}').v == pytest.approx(1e22)
    with pytest.raises(BadPayload, match="finite number"):
        parse(Reading, '{"v": 1' + "0" * 400 + ', "t": 1}')


@pytest.mark.parametrize(
    ("text", "kind"), [("true", bool), ("1", int), ("1.0", float), ('"1"', str), ('""', str), ("-0.0", float)]
)
def test_a_value_keeps_its_type(text, kind):
    value = parse(Reading, f'{{"v": {text}, "t": 1}}').v
    assert type(value) is kind
    assert json.dumps(value) == text


def test_nothing_that_is_not_finite_can_be_built():
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValidationError):
            Reading(v=value, t=1)
        with pytest.raises(ValidationError):
            Reply(id="x", ok=True, result={"a": value})


@pytest.mark.parametrize("payload", [State(v="\ud800", t=1), Call(id="x", args={"a": "\udfff"})])
def test_half_a_surrogate_pair_is_refused_when_encoding(payload: Payload):
    with pytest.raises(BadPayload, match="not valid Unicode text"):
        payload.encode()


def test_a_payload_over_the_limit_is_too_large_before_it_is_parsed():
    with pytest.raises(TooLarge, match="101 bytes is over the limit of 100"):
        parse(Reading, b"x" * 101, limit=100)


def test_a_reply_is_final_once_it_says_ok_or_not():
    assert not Reply(id="x", ack=True).final
    assert not Reply(id="x", progress=0.5).final
    assert Reply(id="x", ok=True).final
    assert Reply(id="x", ok=False, error=ErrorBody(code="failed", message="m")).final


@pytest.mark.parametrize("code", ERRORS)
def test_an_error_survives_the_wire(code):
    error = ERRORS[code]("why")
    body = parse(ErrorBody, ErrorBody.of(error).encode())
    assert type(body.to_exception()) is type(error)
    assert str(body.to_exception()) == "why"


def test_the_callees_own_exception_keeps_its_type_and_message():
    body = ErrorBody.of(ZeroDivisionError("division by zero"))
    assert (body.code, body.type, body.message) == (
        "failed",
        "ZeroDivisionError",
        "ZeroDivisionError: division by zero",
    )
    assert isinstance(body.to_exception(), CallboardError)
    assert isinstance(ErrorBody.of(NotFound("gone")).to_exception(), NotFound)
