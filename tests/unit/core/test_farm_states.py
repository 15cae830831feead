"""The tables of states: complete where they must be, closed where they must be, and told in words where not."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard_core.errors import Conflict
from callboard_core.farm.states import (
    FRAMES,
    JOBS,
    SLOTS,
    TASKS,
    FrameEvent,
    FrameState,
    JobEvent,
    JobState,
    SlotEvent,
    SlotState,
    TaskEvent,
    TaskState,
    may,
    step,
)

MACHINES = [
    pytest.param(SlotState, SlotEvent, SLOTS, SlotState.IDLE, id="slot"),
    pytest.param(JobState, JobEvent, JOBS, JobState.HELD, id="job"),
    pytest.param(TaskState, TaskEvent, TASKS, TaskState.WAITING, id="task"),
    pytest.param(FrameState, FrameEvent, FRAMES, FrameState.WAITING, id="frame"),
]


@pytest.mark.parametrize(("states", "events", "table", "first"), MACHINES)
def test_every_step_is_the_tables_and_every_other_is_refused(states, events, table, first):
    for state, event in itertools.product(states, events):
        expected = table.get((state, event))
        assert may(state, event) is (expected is not None)
        if expected is None:
            with pytest.raises(
                Conflict, match=f"that is {state.value} does not take '{event.value}'; it takes"
            ):
                step(state, event)
        else:
            assert step(state, event) is expected


@pytest.mark.parametrize(("states", "events", "table", "first"), MACHINES)
def test_every_state_is_reached_and_left_and_every_event_is_used(states, events, table, first):
    reached, fresh = {first}, {first}
    while fresh:
        fresh = {to for (at, _), to in table.items() if at in fresh} - reached
        reached |= fresh
    assert reached == set(states)
    assert {at for (at, _), to in table.items() if to is not at} == set(states)
    assert {event for _, event in table} == set(events)


def test_an_event_of_another_kind_of_thing_is_a_mistake_of_the_program():
    with pytest.raises(TypeError, match="does not happen to a job"):
        step(JobState.QUEUED, FrameEvent.CANCEL)


@pytest.mark.parametrize("state", SlotState)
@pytest.mark.parametrize("event", [SlotEvent.ENABLE, SlotEvent.DISABLE, SlotEvent.DRAIN, SlotEvent.SLEEP])
def test_a_slot_takes_a_persons_wish_in_any_state_and_twice(state, event):
    once = step(state, event)
    assert may(once, event)


@pytest.mark.parametrize("state", SlotState)
def test_a_disabled_slot_gets_work_only_after_it_was_enabled(state):
    assert step(state, SlotEvent.DISABLE) is SlotState.DISABLED
    leaving = {event for (at, event), to in SLOTS.items() if at is SlotState.DISABLED and to is not at}
    assert leaving == {SlotEvent.ENABLE}


@given(st.lists(st.sampled_from(SlotEvent), max_size=30))
def test_only_an_idle_slot_takes_work_and_a_draining_one_ends_disabled(events):
    state = SlotState.IDLE
    for event in events:
        if not may(state, event):
            assert event is not SlotEvent.ENABLE
            continue
        before, state = state, step(state, event)
        if state is SlotState.STARTING and before is not SlotState.STARTING:
            assert before is SlotState.IDLE
        if before is SlotState.DRAINING and event is SlotEvent.ENDED:
            assert state is SlotState.DISABLED


@given(st.lists(st.sampled_from(FrameEvent), max_size=30))
def test_a_frame_that_is_done_stays_so_until_it_is_requeued(events):
    state = FrameState.WAITING
    for event in events:
        if may(state, event):
            before, state = state, step(state, event)
            if before is FrameState.DONE:
                assert event is FrameEvent.REQUEUE


@pytest.mark.parametrize("end", [JobState.DONE, JobState.FAILED, JobState.CANCELLED])
def test_an_ended_job_starts_again_only_by_requeueing(end):
    assert {event for (at, event), to in JOBS.items() if at is end and to is JobState.QUEUED} == {
        JobEvent.REQUEUE
    }
    assert not may(end, JobEvent.PAUSE)
