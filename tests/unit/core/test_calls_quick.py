import json

from hypothesis import given
from hypothesis import strategies as st

from callboard_core.calls import quick
from callboard_core.calls.arguments import check_arguments, checker
from callboard_core.calls.envelopes import encode_call, encode_result, read_call, read_reply
from callboard_core.errors import BadPayload
from callboard_core.messages import Call, Reply, parse

VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2)
)
PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)


@given(st.dictionaries(st.text(max_size=5), PLAIN, max_size=4))
def test_a_plain_call_reads_as_its_model_says(args):
    payload = encode_call("id", "site/me/reply", args, now=1e9, timeout=2.5)
    assert read_call(payload) == parse(Call, payload)
    assert read_call(payload).args == args
    assert json.loads(payload)["expires"] == 1e9 + 2.5


@given(PLAIN)
def test_a_plain_answer_reads_as_its_model_says(result):
    payload = encode_result("id", result)
    assert read_reply(payload) == parse(Reply, payload)


@given(
    st.dictionaries(
        st.sampled_from(["id", "reply_to", "args", "expires", "t", "accept", "cancel", "again"]),
        VALUES | st.dictionaries(st.text(max_size=3), VALUES, max_size=2),
    )
)
def test_what_is_read_quickly_is_what_the_model_would_take(fields):
    payload = json.dumps(fields).encode()
    found = quick.call_of(payload)
    if found is not None:
        assert found == parse(Call, payload)


@given(st.dictionaries(st.sampled_from(["id", "ok", "result", "error", "ack", "progress"]), VALUES))
def test_what_is_read_quickly_is_the_answer_the_model_would_take(fields):
    payload = json.dumps(fields).encode()
    found = quick.reply_of(payload)
    if found is not None:
        assert found == parse(Reply, payload)


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
