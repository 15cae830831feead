"""Readings between network and database."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from callboard_broker.services.buffer import Buffer, Series

SERIES = Series(("n", "sensor", "x"))


def filled(count: int, limit: int = 1000) -> Buffer:
    buffer = Buffer(limit)
    for t in range(count):
        buffer.add(SERIES, t, 0.0)
    return buffer


def test_readings_leave_in_the_order_they_came():
    assert [item.t for item in filled(10).take(4)] == [0, 1, 2, 3]


def test_what_is_taken_counts_until_it_is_settled():
    buffer = filled(10)
    items = buffer.take(4)
    assert len(buffer) == 10
    buffer.settle(items)
    assert len(buffer) == 6


def test_what_could_not_be_written_is_the_next_to_be_taken():
    buffer = filled(10)
    buffer.put_back(buffer.take(4))
    assert [item.t for item in buffer.take(100)] == list(range(10))


def test_above_the_limit_new_readings_are_dropped_and_counted():
    buffer = filled(15, limit=10)
    assert (len(buffer), buffer.dropped, buffer.received) == (10, 5, 15)
    assert [item.t for item in buffer.take(100)] == list(range(10))


def test_what_can_never_be_written_is_counted_as_dropped():
    buffer = filled(3)
    buffer.drop(buffer.take(3))
    assert (len(buffer), buffer.dropped) == (0, 3)


@given(st.lists(st.sampled_from(["add", "settle", "put_back", "drop"]), max_size=200))
def test_every_reading_is_somewhere(steps):
    buffer, settled = Buffer(20), 0
    for t, step in enumerate(steps):
        if step == "add":
            buffer.add(SERIES, t, 0.0)
            continue
        items = buffer.take(3)
        getattr(buffer, step)(items)
        settled += len(items) if step == "settle" else 0
    assert buffer.received == settled + buffer.dropped + len(buffer)
