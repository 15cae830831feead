"""Exclusive names: whatever two nodes see, exactly one of them keeps the name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard_nodes.claims import Verdict, contend

titles = st.tuples(st.floats(0, 1e10), st.sampled_from(["a", "b", "c"]))


@pytest.mark.parametrize(
    ("mine", "rivals", "verdict"),
    [
        (None, [], Verdict.TAKE),
        (None, [(5.0, "b")], Verdict.WAIT),
        ((1.0, "a"), [], Verdict.KEEP),
        ((1.0, "a"), [(2.0, "b")], Verdict.KEEP),
        ((2.0, "a"), [(1.0, "b")], Verdict.YIELD),
        ((1.0, "b"), [(1.0, "a"), (3.0, "c")], Verdict.YIELD),
    ],
)
def test_who_came_first_keeps_the_name(mine, rivals, verdict):
    assert contend(mine, rivals) is verdict


@given(titles, titles)
def test_of_two_that_both_hold_a_name_exactly_one_yields(one, other):
    if one[1] == other[1]:
        return  # a node is no rival of itself
    verdicts = {contend(one, [other]), contend(other, [one])}
    assert verdicts == {Verdict.KEEP, Verdict.YIELD}
