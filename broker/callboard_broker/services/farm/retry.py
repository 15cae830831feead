"""What becomes of work that failed: tried again, where and when, or given up. Pure; every threshold is a setting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from callboard_core.settings import FarmRetry

__all__ = ["WHOLE_JOB", "Decision", "Failure", "decide", "gives_up", "growing"]

#: Failures that concern the job's files or settings, so that no other frame can do better.
WHOLE_JOB = frozenset({"bad_args", "bad_file", "input_missing", "no_camera", "refused"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failed try at a frame, or at a piece of work.

    Attributes:
        fault: whose; None when the slot gave the work back or somebody took it away.
        code: its stable name.
        tries: of the frame so far that counted, with this one.
        on_node: failures of this job's work of this type on this node so far, with this one.
        in_a_row: failures with this fault and nothing done in between, with this one.
        elsewhere: another node that is alive could do it.
    """

    fault: Literal["node", "job", "licence"] | None
    code: str = ""
    tries: int = 1
    on_node: int = 1
    in_a_row: int = 1
    elsewhere: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do.

    Attributes:
        again: the frame goes back to the queue; otherwise it has failed.
        counts: it was a try; work that was given back was none.
        block: the node gets no more of this job's work of this type.
        fail_job: nothing of the job can be done.
        wait: seconds before the job's next try.
        reason: for people.
    """

    again: bool
    counts: bool = True
    block: bool = False
    fail_job: bool = False
    wait: float = 0.0
    reason: str = ""


def decide(failure: Failure, policy: FarmRetry) -> Decision:
    """Return what becomes of a failed try."""
    match failure.fault:
        case None:
            return Decision(again=True, counts=False, reason="given back")
        case "licence":
            wait = growing(policy.licence_wait, failure.in_a_row, policy)
            return Decision(again=True, counts=False, wait=wait, reason=f"no licence; next try in {wait:g} s")
        case "node":
            return _node_failed(failure, policy)
        case "job":
            return _job_failed(failure, policy)


def _node_failed(failure: Failure, policy: FarmRetry) -> Decision:
    """A node that keeps failing is left out, unless no other is there: then waiting is all that can help."""
    block = failure.elsewhere and failure.on_node >= policy.block_after
    if failure.tries >= policy.node_tries:
        return Decision(again=False, block=block, reason=f"failed {failure.tries} times")
    wait = 0.0 if failure.elsewhere else growing(policy.node_wait, failure.in_a_row, policy)
    return Decision(again=True, block=block, wait=wait, reason=f"try {failure.tries} of {policy.node_tries}")


def _job_failed(failure: Failure, policy: FarmRetry) -> Decision:
    """A fault of the job is believed after a second try, on another node if there is one."""
    if failure.tries < policy.job_tries:
        block = failure.elsewhere and failure.on_node >= policy.block_after
        return Decision(again=True, block=block, reason=f"try {failure.tries} of {policy.job_tries}")
    whole = failure.code in WHOLE_JOB
    return Decision(
        again=False, fail_job=whole, reason="concerns the whole job" if whole else "the job's fault"
    )


def growing(first: float, times: int, policy: FarmRetry) -> float:
    """Return the seconds to wait: ``first``, then twice as long each time, up to the longest wait."""
    # 2 ** 64 times anything is beyond the longest wait.
    return min(first * 2.0 ** min(max(times, 1) - 1, 64), policy.longest_wait)


def gives_up(failed_frames: int, policy: FarmRetry) -> bool:
    """Tell whether a job has so many failed frames that the rest is not worth rendering."""
    return 0 < policy.failed_frames <= failed_frames
