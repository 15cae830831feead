"""callboard_nodes.ticker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard_nodes.ticker import Ticker


def test_ticks_do_not_drift():
    ticker = Ticker(0.1, start=5.0)
    for _ in range(1000):
        ticker.advance(ticker.next + 0.003)
    assert ticker.next == pytest.approx(105.0)
    assert ticker.skipped == 0


def test_ticks_that_pass_while_a_handler_runs_are_skipped_and_counted():
    ticker = Ticker(1.0, start=0.0)
    ticker.advance(3.5)
    assert ticker.next == 4.0
    assert ticker.skipped == 3


def test_a_handler_that_takes_exactly_one_period_misses_nothing():
    ticker = Ticker(1.0, start=0.0)
    ticker.advance(1.0)
    assert (ticker.next, ticker.skipped) == (1.0, 0)


@given(st.floats(0.001, 100), st.lists(st.floats(0, 50)))
def test_the_next_tick_is_always_on_the_grid_and_never_far_away(every, durations):
    ticker = Ticker(every, start=0.0)
    for lasts in durations:
        finished = ticker.next + lasts
        ticker.advance(finished)
        assert ticker.next >= finished - every * 2e-3 - 1e-9
        assert ticker.next - finished <= every * 1.001
