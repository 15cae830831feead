import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callboard_core.calls import quick
from callboard_core.calls.arguments import check_arguments, checker
from callboard_core.calls.envelopes import encode_call, encode_result, read_call, read_reply, read_result
from callboard_core.errors import BadPayload
from callboard_core.messages import Call, Reply, parse

VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2)
)
PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)


@given(st.dictionaries(st.text(max_size=5), PLAIN, max_size=4))
def test_a_plain_call_is_written_as_its_model_would(args):
    payload = encode_call("id", "site/me/reply", args, now=1e9, timeout=2.5)
    written = Call(id="id", reply_to="site/me/reply", args=args, t=1e9, expires=1e9 + 2.5, accept="msgpack")
    assert read_call(payload) == parse(Call, payload) == written


@given(PLAIN)
def test_a_plain_answer_is_written_as_its_model_would(result):
    payload = encode_result("id", result)
    assert read_reply(payload) == parse(Reply, payload) == Reply(id="id", ok=True, result=result)


@given(
    st.dictionaries(
        st.sampled_from(["id", "reply_to", "args", "expires", "t", "accept", "cancel", "again"]),
        VALUES | st.dictionaries(st.text(max_size=3), VALUES, max_size=2),
    )
)
@example(
    {"id": "1", "reply_to": "s/me/reply", "args": {"x": 1}, "expires": 2.5, "t": 0.5, "accept": "msgpack"}
)
@example({"id": "1", "reply_to": "s/me/reply", "args": {"x": 1e999}, "expires": 2.5, "t": 0.5, "accept": "x"})
def test_a_call_that_is_read_quickly_is_what_the_model_would_take(fields):
    payload = json.dumps(fields).encode()
    found = quick.call_of(payload)
    if found is not None:
        model = parse(Call, payload)
        assert {name: getattr(found, name) for name in Call.model_fields} == model.model_dump()


def test_a_usual_call_is_read_quickly():
    found = quick.call_of(encode_call("1", "s/me/reply", {"x": 1, "y": "b"}, now=1e9, timeout=2.5))
    assert found is not None
    assert (found.id, found.args, found.expires - found.t) == ("1", {"x": 1, "y": "b"}, 2.5)


@given(st.dictionaries(st.sampled_from(["id", "ok", "result", "error", "ack", "progress"]), VALUES))
@example({"id": "1", "ok": True, "result": 7})
@example({"id": "1", "ok": True, "result": 1e999})
def test_an_answer_that_is_read_quickly_is_what_the_model_would_take(fields):
    payload = json.dumps(fields).encode()
    found = quick.result_of(payload)
    if found is not None:
        assert parse(Reply, payload) == Reply(id=found["id"], ok=True, result=found["result"])
        assert read_result(payload) == found


@pytest.mark.parametrize(
    "answer", [{"ok": False}, {"ok": True, "result": [1]}, {"ack": True}, {"progress": 0.5}]
)
def test_an_answer_that_is_not_usual_is_read_by_the_model(answer):
    payload = json.dumps({"id": "1", **answer}).encode()
    assert read_result(payload) == parse(Reply, payload)


SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "x": {"type": "number", "default": 1}, "s": {"type": "string"}},
    "required": ["n"],
    "additionalProperties": False,
}


@given(st.dictionaries(st.sampled_from(["n", "x", "s", "other"]), VALUES))
def test_the_quick_check_of_arguments_says_what_the_thorough_one_does(args):
    def verdict(check):
        try:
            check(args)
        except BadPayload as error:
            return error.message
        return None

    assert verdict(checker(SCHEMA)) == verdict(lambda given: check_arguments(SCHEMA, given))
