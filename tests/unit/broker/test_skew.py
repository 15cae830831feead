"""A node's clock, judged from its messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard_broker.services.skew import TOLERANCE, Skew

NOW = 1_795_000_000.0
offsets = st.floats(-1e6, 1e6)
delays = st.floats(0, 3600)


def test_nothing_is_known_of_a_new_clock_and_its_times_are_believed():
    assert not Skew().wrong
    assert Skew().correct(NOW - 5, NOW) == NOW - 5


@given(offsets)
def test_a_stamped_message_tells_the_skew_at_once(offset):
    skew = Skew().stamped(NOW + offset, NOW)
    assert skew.seconds == pytest.approx(offset, abs=1e-5)
    assert skew.wrong == (abs(skew.seconds) > TOLERANCE)


@given(offsets.filter(lambda offset: abs(offset) > 40), st.floats(0, 3600))
def test_readings_of_a_wrong_clock_are_put_where_they_belong(offset, age):
    skew = Skew().stamped(NOW + offset, NOW)
    assert skew.correct(NOW - age + offset, NOW) == pytest.approx(NOW - age, abs=1e-3)


@given(st.lists(delays, min_size=1, max_size=20))
def test_delay_alone_never_makes_a_right_clock_wrong_while_messages_come_in_a_burst(late):
    skew = Skew().stamped(NOW, NOW)
    for index, delay in enumerate(late):
        skew = skew.live(NOW - delay, NOW + index * 0.05)
    assert not skew.wrong


@given(st.lists(delays, max_size=20))
def test_batches_that_waited_never_make_a_right_clock_wrong(late):
    skew = Skew()
    for index, delay in enumerate(late):
        skew = skew.batch(NOW - delay, NOW + index)
    assert not skew.wrong


def test_a_clock_a_day_ahead_is_noticed_at_the_first_message():
    assert Skew().live(NOW + 86_400, NOW).wrong
    assert Skew().batch(NOW + 86_400, NOW).wrong


def test_a_clock_a_day_behind_is_noticed_when_a_second_message_agrees():
    first = Skew().live(NOW - 86_400, NOW)
    assert not first.wrong
    burst = first.live(NOW - 86_400, NOW + 0.5)
    assert not burst.wrong
    assert burst.live(NOW - 86_400 + 5, NOW + 5).seconds == pytest.approx(-86_400)


def test_a_buffered_sequence_played_fast_is_no_wrong_clock():
    skew = Skew().stamped(NOW, NOW)
    for step in range(100):
        skew = skew.live(NOW - 3600 + step * 36, NOW + step * 0.1)
    assert not skew.wrong


def test_a_clock_that_is_set_right_is_believed_again():
    behind = Skew().stamped(NOW - 86_400, NOW)
    assert not behind.live(NOW + 60, NOW + 60).wrong
    ahead = Skew().stamped(NOW + 86_400, NOW)
    doubted = ahead.live(NOW + 60, NOW + 60)
    assert doubted.wrong
    assert not doubted.live(NOW + 65, NOW + 65).wrong


@given(st.floats(40, 1e6), st.floats(-2, 2))
def test_the_same_reading_is_corrected_to_the_same_time_although_messages_jitter(offset, jitter):
    skew = Skew().stamped(NOW + offset, NOW)
    after = skew.live(NOW + 10 + offset + jitter, NOW + 10)
    assert after.correct(NOW + offset, NOW + 10) == skew.correct(NOW + offset, NOW)


@pytest.mark.parametrize("t", [NOW + 31, NOW + 86_400, 9e9])
def test_a_time_in_the_future_is_not_believed(t):
    assert Skew().correct(t, NOW) is None


def test_a_time_before_1970_is_not_believed():
    assert Skew(86_400.0).correct(5.0, NOW) is None
