import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard_broker.services.farm.strip import SEGMENT, Strip, code
from callboard_core.errors import BadRequest, NotFound
from callboard_core.farm.states import FRAMES, FrameEvent, FrameState

EVENTS = st.lists(
    st.tuples(st.sampled_from(FrameEvent), st.lists(st.integers(0, 19), max_size=5)), max_size=40
)


@pytest.mark.parametrize("state", FrameState)
@pytest.mark.parametrize("event", FrameEvent)
def test_frames_follow_the_table(state: FrameState, event: FrameEvent):
    strip = Strip(range(3))
    strip.states[1] = code(state)
    strip.recount()
    assert strip.may(event, 1) == ((state, event) in FRAMES)
    touched = strip.apply(event, [1])
    wanted = FRAMES.get((state, event), state)
    assert strip.state(1) is wanted
    assert touched == ([1] if wanted is not state else [])


@given(EVENTS)
def test_counts_and_what_is_next_agree_with_the_states_whatever_happens(events):
    strip = Strip(range(100, 120))
    for event, indexes in events:
        strip.apply(event, indexes)
        assert strip.next(3) == strip.within(FrameState.WAITING)[:3]
    for state in FrameState:
        assert strip.count(state) == len(strip.within(state))
    assert sum(strip.counts) == len(strip)


@given(EVENTS)
def test_what_is_stored_comes_back(events):
    strip = Strip(range(20))
    for event, indexes in events:
        strip.apply(event, indexes)
        for index in indexes:
            strip.try_again(index)
    again = Strip(range(20))
    again.restore(0, strip.segment(0))
    again.recount()
    assert (again.states, again.tries, again.counts) == (strip.states, strip.tries, strip.counts)
    assert again.next(20) == strip.next(20)


def test_only_segments_that_changed_are_written():
    strip = Strip(range(3 * SEGMENT))
    assert strip.changed == {0, 1, 2}
    strip.changed.clear()
    strip.apply(FrameEvent.ASSIGN, [SEGMENT + 5])
    assert strip.changed == {1}
    strip.apply(FrameEvent.STARTED, [5])  # it cannot happen to a frame that waits
    assert strip.changed == {1}


def test_a_segment_of_another_size_is_refused():
    with pytest.raises(BadRequest, match="holds 2 frames, expected 3"):
        Strip(range(3)).restore(0, bytes(4))


@pytest.mark.parametrize("numbers", [range(1, 11), range(2, 200, 7), (1, 2, 3, 10, 11), (5,), (-3, -2, 8)])
def test_frames_are_found_by_their_numbers(numbers):
    strip = Strip(tuple(numbers))
    assert [strip.index(number) for number in numbers] == list(range(len(numbers)))
    with pytest.raises(NotFound, match="no frame 999"):
        strip.index(999)


def test_tries_are_counted_up_to_what_a_byte_holds_and_forgiven():
    strip = Strip(range(2))
    for _ in range(300):
        count = strip.try_again(1)
    assert count == 255
    strip.forgive([0, 1])
    assert list(strip.tries) == [0, 0]
