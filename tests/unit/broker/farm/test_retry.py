"""Failed work is tried again where it can do better, waited with where only time helps, and given up in the end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard_broker.services.farm.retry import WHOLE_JOB, Decision, Failure, decide, gives_up, growing
from callboard_core.settings import FarmRetry

POLICY = FarmRetry()


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (Failure(fault=None), Decision(again=True, counts=False, reason="given back")),
        (
            Failure(fault="licence", in_a_row=1),
            Decision(again=True, counts=False, wait=15, reason="no licence; next try in 15 s"),
        ),
        (
            Failure(fault="licence", in_a_row=3),
            Decision(again=True, counts=False, wait=60, reason="no licence; next try in 60 s"),
        ),
        (Failure(fault="node"), Decision(again=True, reason="try 1 of 5")),
        (Failure(fault="node", tries=2, on_node=2), Decision(again=True, block=True, reason="try 2 of 5")),
        (
            Failure(fault="node", tries=2, on_node=2, in_a_row=2, elsewhere=False),
            Decision(again=True, wait=4, reason="try 2 of 5"),
        ),
        (Failure(fault="node", tries=5), Decision(again=False, reason="failed 5 times")),
        (Failure(fault="job", code="python"), Decision(again=True, reason="try 1 of 2")),
        (Failure(fault="job", code="python", tries=2), Decision(again=False, reason="the job's fault")),
        (
            Failure(fault="job", code="no_camera", tries=2),
            Decision(again=False, fail_job=True, reason="concerns the whole job"),
        ),
    ],
)
def test_each_failure_has_its_consequence(failure, expected):
    assert decide(failure, POLICY) == expected


@given(st.sampled_from(["node", "job"]), st.sampled_from([*WHOLE_JOB, "crashed"]), st.booleans())
def test_what_keeps_failing_is_given_up(fault, code, elsewhere):
    tries = 1
    while decide(
        Failure(fault=fault, code=code, tries=tries, on_node=tries, elsewhere=elsewhere), POLICY
    ).again:
        tries += 1
        assert tries <= max(POLICY.node_tries, POLICY.job_tries)


@given(st.sampled_from([None, "licence"]), st.integers(1, 10_000))
def test_work_that_was_no_try_is_never_given_up(fault, times):
    decision = decide(Failure(fault=fault, tries=times, on_node=times, in_a_row=times), POLICY)
    assert decision.again
    assert not decision.block
    assert decision.wait <= POLICY.longest_wait


@given(st.sampled_from(["node", "job"]), st.integers(1, 9), st.integers(1, 9))
def test_the_only_node_that_can_do_it_is_not_blocked(fault, tries, on_node):
    assert not decide(Failure(fault=fault, tries=tries, on_node=on_node, elsewhere=False), POLICY).block


@given(st.integers(0, 10**6))
def test_waits_grow_and_stay_bounded(times):
    assert growing(15, times, POLICY) <= growing(15, times + 1, POLICY) <= POLICY.longest_wait


def test_a_job_with_too_many_failed_frames_is_given_up():
    assert not gives_up(19, POLICY)
    assert gives_up(20, POLICY)
    assert not gives_up(10**6, FarmRetry(failed_frames=0))
    assert not gives_up(0, POLICY)
