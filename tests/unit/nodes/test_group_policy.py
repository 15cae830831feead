import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard_nodes.group.policy import TRANSITIONS, Happening, Policy, State


def test_the_delay_doubles_up_to_the_longest():
    policy = Policy(first=0.1, longest=1.0)
    failures, delays = 0, []
    for _ in range(6):
        restart = policy.after(failures, ran_for=0.5)
        failures = restart.failures
        delays.append(restart.delay)
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])


def test_a_settled_run_makes_earlier_failures_forgotten():
    policy = Policy(first=0.1, settled=10)
    assert policy.after(7, ran_for=9.9).failures == 8
    restart = policy.after(7, ran_for=10)
    assert (restart.failures, restart.delay, restart.looping) == (1, 0.1, False)


def test_a_crash_loop_is_told_from_the_set_number_on():
    policy = Policy(loop=3)
    assert [policy.after(failures, 0).looping for failures in range(5)] == [False, False, True, True, True]


@given(st.integers(0, 10**9), st.floats(0, 1e9))
def test_the_delay_is_always_between_first_and_longest(failures: int, ran_for: float):
    policy = Policy()
    restart = policy.after(failures, ran_for)
    assert policy.first <= restart.delay <= policy.longest
    assert restart.failures >= 1


def test_every_state_can_be_stopped_and_ends_stopped():
    for state in State:
        after = TRANSITIONS[state, Happening.STOP]
        assert after in {State.STOPPED, State.STOPPING}
    assert TRANSITIONS[State.STOPPING, Happening.EXIT] is State.STOPPED


def test_only_an_exit_ends_a_running_process():
    for (state, happening), after in TRANSITIONS.items():
        if state in {State.STARTING, State.READY} and after is State.WAITING:
            assert happening is Happening.EXIT
