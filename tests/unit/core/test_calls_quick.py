from hypothesis import given
from hypothesis import strategies as st

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
def test_a_plain_call_is_written_as_its_model_would(args):
    payload = encode_call("id", "site/me/reply", args, now=1e9, timeout=2.5)
    written = Call(id="id", reply_to="site/me/reply", args=args, t=1e9, expires=1e9 + 2.5, accept="msgpack")
    assert read_call(payload) == parse(Call, payload) == written


@given(PLAIN)
def test_a_plain_answer_is_written_as_its_model_would(result):
    payload = encode_result("id", result)
    assert read_reply(payload) == parse(Reply, payload) == Reply(id="id", ok=True, result=result)


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
