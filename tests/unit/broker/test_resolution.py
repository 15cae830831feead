"""Which level answers, and in how many points."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from callboard_broker.services.resolution import RAW_LIMIT, plan
from callboard_broker.store.rollups import HOUR, MINUTE, Level

DAY = 24 * HOUR
START = 20_000 * DAY

ranges = {
    "start": st.integers(0, 100_000 * DAY),
    "length": st.integers(1, 4000 * DAY),
    "points": st.integers(1, 20_000),
    "readings": st.integers(0, RAW_LIMIT + 1),
    "raw_age": st.integers(0, 100 * DAY),
    "minute_age": st.integers(0, 100 * DAY),
}


@given(**ranges)
def test_every_plan_has_at_most_as_many_points_as_asked_for(
    start, length, points, readings, raw_age, minute_age
):
    chosen = plan(
        start=start,
        end=start + length,
        points=points,
        readings=readings,
        raw_since=start + 50 * DAY - raw_age,
        minutes_since=start + 50 * DAY - minute_age,
    )
    if chosen.width == 0:
        assert readings <= points
    else:
        assert -(-(chosen.end - chosen.start) // chosen.width) <= points
    assert chosen.start <= start
    assert chosen.end == start + length


@given(**ranges)
def test_buckets_begin_where_the_level_has_rows(start, length, points, readings, raw_age, minute_age):
    chosen = plan(
        start=start, end=start + length, points=points, readings=readings, raw_since=start + raw_age
    )
    unit = {Level.RAW: 1, Level.MINUTE: MINUTE, Level.HOUR: HOUR}[chosen.level]
    assert chosen.width % unit == 0
    assert chosen.level is Level.RAW or chosen.start % unit == 0


@given(**ranges)
def test_data_that_is_gone_is_never_asked(start, length, points, readings, raw_age, minute_age):
    raw_since, minutes_since = start - 50 * DAY + raw_age, start - 50 * DAY + minute_age
    chosen = plan(
        start=start,
        end=start + length,
        points=points,
        readings=readings,
        raw_since=raw_since,
        minutes_since=minutes_since,
    )
    assert chosen.level is not Level.RAW or start >= raw_since
    assert chosen.level is not Level.MINUTE or start >= minutes_since


def test_an_hour_in_500_points_comes_from_readings_a_day_from_minutes_a_year_from_hours():
    def level(length: int) -> Level:
        return plan(start=START, end=START + length, points=500, readings=50_000).level

    assert [level(HOUR), level(DAY), level(365 * DAY)] == [Level.RAW, Level.MINUTE, Level.HOUR]


def test_too_many_readings_are_not_added_up_while_somebody_waits():
    assert plan(start=START, end=START + HOUR, points=500, readings=RAW_LIMIT + 1).level is Level.MINUTE
