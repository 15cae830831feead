"""callboard_nodes.reporter."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from callboard_core.cards import Range, SensorCard
from callboard_core.messages import Level, Reading
from callboard_nodes.reporter import PROOF_OF_LIFE, Reporter


def reporter(**card):
    return Reporter(SensorCard(name="level", epoch=0, **card))


def reading(value, t):
    return Reading(v=value, t=t)


def test_the_first_reading_is_due_at_once():
    found = reporter()
    assert found.when() is None
    assert found.keeps(reading(1, 100), 0.0)
    due = found.due(0.0)
    assert (due.state, due.batch, due.level) == (reading(1, 100), [], Level.NORMAL)
    assert found.due(5.0) is None


def test_fast_readings_become_one_state_a_second_and_a_batch_of_the_rest():
    found = reporter(every=0.1)
    found.keeps(reading(0, 0), 0.0)
    found.due(0.0)
    for tick in range(1, 11):
        found.keeps(reading(tick, tick / 10), tick / 10)
    assert found.when() == 1.0
    assert found.due(0.9) is None
    due = found.due(1.0)
    assert due.state == reading(10, 1.0)
    assert [one.v for one in due.batch] == list(range(1, 10))


def test_a_rate_limit_stretches_the_interval():
    found = reporter(every=1, min_interval=10)
    found.keeps(reading(0, 0), 0.0)
    found.due(0.0)
    found.keeps(reading(1, 1), 1.0)
    assert found.when() == 10.0


def test_a_change_of_level_does_not_wait_for_the_rate_limit():
    found = reporter(min_interval=60, normal=Range(high=30))
    found.keeps(reading(20, 0), 0.0)
    found.due(0.0)
    found.keeps(reading(40, 0.2), 0.2)
    assert found.when() == 1.0
    assert found.due(1.0).level is Level.WARNING


def test_small_changes_are_left_out_until_the_proof_of_life():
    found = reporter(deadband=0.5)
    assert found.keeps(reading(20.0, 0), 0.0)
    assert not found.keeps(reading(20.4, 1), 1.0)
    assert not found.keeps(reading(19.6, 2), 2.0)
    assert found.keeps(reading(20.5, 3), 3.0)
    assert not found.keeps(reading(20.5, 4), 4.0)
    assert found.keeps(reading(20.5, 3 + PROOF_OF_LIFE), 3 + PROOF_OF_LIFE)


def test_a_small_change_that_leaves_the_normal_range_counts():
    found = reporter(deadband=5, normal=Range(high=30))
    found.keeps(reading(29, 0), 0.0)
    assert found.keeps(reading(31, 1), 1.0)


def test_a_deadband_of_zero_keeps_changes_only():
    found = reporter(type="boolean", deadband=0)
    assert found.keeps(reading(False, 0), 0.0)
    assert not found.keeps(reading(False, 1), 1.0)
    assert found.keeps(reading(True, 2), 2.0)


def test_without_a_deadband_every_reading_counts():
    found = reporter()
    assert all(found.keeps(reading(7, t), float(t)) for t in range(5))


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(0.01, 3)), min_size=1), st.floats(0, 20))
def test_nothing_that_counts_is_lost_or_reordered(steps, min_interval):
    found = reporter(min_interval=min_interval)
    now, kept, sent, states = 0.0, [], [], []
    for value, wait in steps:
        now += wait
        if found.keeps(reading(value, now), now):
            kept.append(now)
        due = found.due(now)
        if due:
            sent += [*(one.t for one in due.batch), due.state.t]
            states.append(now)
    due = found.due(found.when() or now)
    if due:
        sent += [*(one.t for one in due.batch), due.state.t]
    assert sent == kept
    # Floats: two instants a second apart can differ by a little less.
    assert all(b - a >= max(1.0, min_interval) - 1e-6 for a, b in pairwise(states))
