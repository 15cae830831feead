"""Duplicates run once, for as long as a call is valid; validity counts from the arrival."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from callboard_core.calllog import DEFAULT_VALIDITY, LONGEST_VALIDITY, CallLog, Verdict, remaining
from callboard_core.messages import Call

DAY = 86_400.0


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("12"), st.floats(0, 5), st.floats(-1, 10)),
        max_size=60,
    )
)
def test_the_log_agrees_with_a_list_of_everything_ever_seen(calls) -> None:
    log, seen, now = CallLog(limit=4), [], 0.0
    for caller, call_id, pause, valid in calls:
        now += pause
        key = (caller, call_id)
        alive = {k for k, until in seen if math.ceil(until) >= now}  # rounded up to a second
        verdict = log.admit(key, now, valid)
        if key in alive:
            assert verdict is Verdict.DUPLICATE
        elif len(alive) >= 4:
            assert verdict is Verdict.FULL
        else:
            assert verdict is Verdict.NEW
            seen.append((key, now + max(valid, 0.0)))
        assert len(log) <= 4


def test_nothing_is_remembered_for_ever() -> None:
    log = CallLog()
    log.admit((None, "x"), 0.0, 1e12)
    assert log.admit((None, "x"), LONGEST_VALIDITY - 1, 1.0) is Verdict.DUPLICATE
    assert log.admit((None, "x"), LONGEST_VALIDITY + 1, 1.0) is Verdict.NEW


def test_the_latest_answers_are_kept_within_bounds_and_while_the_call_is_valid() -> None:
    log = CallLog(answers=3 * 1000)
    for number in range(5):
        log.admit((None, str(number)), 0.0, 5.0)
        log.keep((None, str(number)), bytes(700))
    assert [log.answer((None, str(number))) is not None for number in range(5)] == [False] * 2 + [True] * 3
    log.keep((None, "unknown"), b"x")
    assert log.answer((None, "unknown")) is None
    log.admit((None, "later"), 7.0, 5.0)
    assert log.answer((None, "4")) is None
    log.keep((None, "later"), bytes(4000))
    assert log.answer((None, "later")) is None, "one that is too long for the whole"


def test_equal_ids_of_two_callers_are_two_calls() -> None:
    log = CallLog()
    assert log.admit(("a/reply", "x"), 0.0, 5.0) is Verdict.NEW
    assert log.admit(("b/reply", "x"), 0.0, 5.0) is Verdict.NEW


@given(st.floats(0, 4e9), st.floats(-2 * DAY, 2 * DAY), st.floats(0, DAY), st.floats(0, DAY))
def test_with_t_the_callees_clock_does_not_matter(
    sent: float, skew: float, span: float, waited: float
) -> None:
    call = Call(id="x", t=sent, expires=sent + span)
    left = remaining(call, waited=waited, wall=max(0.0, sent + skew))
    assert math.isclose(left, span - waited, abs_tol=1e-5)


def test_without_t_the_callees_clock_decides() -> None:
    call = Call(id="x", expires=1000.0)
    assert remaining(call, waited=0.0, wall=990.0) == 10.0
    assert remaining(call, waited=0.0, wall=1001.0) < 0


def test_without_expires_there_is_a_default() -> None:
    assert remaining(Call(id="x"), waited=1.0, wall=0.0) == DEFAULT_VALIDITY - 1.0
