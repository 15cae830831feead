"""A follower: what it tells is always the difference to what it told before."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from callboard_core.cards import SensorCard
from callboard_core.directory import Filter
from callboard_core.follower import Available, Changed, Dropped, Follower
from callboard_core.topics import Kind
from callboard_core.view import Change, Entry


def entry(name: str, version: int = 0, *, live: bool = True, tags: tuple[str, ...] = ()) -> Entry:
    card = SensorCard(name=name, epoch=1, label=str(version), tags=list(tags))
    return Entry("a", Kind.SENSOR, name, card, live)


def test_changes_that_cancel_out_are_not_told() -> None:
    follower = Follower(Filter())
    follower.push([Change(None, entry("x"), "announced"), Change(entry("x"), None, "removed")])
    assert follower.get(0) is None
    follower.push([Change(None, entry("x"), "announced")])
    assert follower.get(0) == Available(entry("x"))
    follower.push([Change(entry("x"), entry("x", 1), ""), Change(entry("x", 1), entry("x"), "")])
    assert follower.get(0) is None


def test_what_leaves_the_filter_is_dropped_with_the_reason() -> None:
    follower = Follower(Filter())
    follower.push([Change(None, entry("x"), "announced")])
    follower.get(0)
    follower.push([Change(entry("x"), entry("x", live=False), "lost")])
    assert follower.get(0) == Dropped(entry("x"), "lost")


def test_after_the_end_nothing_is_told() -> None:
    follower = Follower(Filter())
    follower.push([Change(None, entry("x"), "announced")])
    follower.close()
    follower.push([Change(None, entry("y"), "announced")])
    assert follower.get() is None
    assert list(follower) == []


def test_a_filter_compares_every_property() -> None:
    one = entry("temp-in", tags=("roof",))
    assert one in Filter()
    assert one in Filter.make("sensor", "temp-*", "a", ["roof"], True)
    assert one in Filter.make(None, re.compile("temp-.."), None, (), None)
    for different in (
        Filter.make("control", None, None, (), None),
        Filter.make("node", None, None, (), None),
        Filter.make(None, "temp", None, (), None),
        Filter.make(None, re.compile("temp"), None, (), None),
        Filter.make(None, None, "b", (), None),
        Filter.make(None, None, None, ["roof", "new"], None),
        Filter.make(None, None, None, (), False),
    ):
        assert one not in different


STATES = st.one_of(st.none(), st.tuples(st.integers(0, 2), st.booleans()))


@given(st.lists(st.tuples(st.sampled_from("xy"), STATES, st.booleans()), max_size=40))
def test_what_was_told_adds_up_to_what_is_there(history) -> None:
    follower, there, told = Follower(Filter()), {}, {}
    for name, state, read in [*history, ("x", None, True)]:
        after = None if state is None else entry(name, state[0], live=state[1])
        before = there.get(name)
        if after != before:
            follower.push([Change(before, after, "why")])
            there[name] = after
        while read and (event := follower.get(0)) is not None:
            key = event.entry.name
            if isinstance(event, Available):
                assert key not in told
            else:
                assert told.pop(key) == (event.before if isinstance(event, Changed) else event.entry)
            if not isinstance(event, Dropped):
                told[key] = event.entry
        if read:
            assert told == {n: e for n, e in there.items() if e is not None and e.live}
            assert len(follower._waiting) == 0
    assert len(follower._told) <= 2
