"""In which order nodes get an update, and when it stops by itself. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from math import ceil

from pydantic import BaseModel, ConfigDict, Field

from callboard_core.updates import ENDED, Stage

__all__ = ["BAD", "BEGUN", "Phase", "Terms", "canaries", "due", "phase_after"]

#: Ends that count as failures, and stages of nodes that are at it.
BAD = frozenset({Stage.FAILED, Stage.ROLLED_BACK})
BEGUN = frozenset({Stage.SENT, Stage.FETCHING, Stage.INSTALLING, Stage.TRIAL})


class Phase(StrEnum):
    """How a rollout stands."""

    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"


class Terms(BaseModel):
    """How an update goes out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    canary: float = Field(
        default=0.1, ge=0, le=1, description="share of the nodes that get it first; at least one, unless 0"
    )
    pause_on_failures: int = Field(default=1, ge=0, description="failures at which it pauses; 0 for never")
    at_once: int = Field(default=50, ge=1, le=10_000, description="nodes that are at it at the same time")
    forgiven: int = Field(default=0, ge=0, description="failures that somebody has gone on after")


def canaries(count: int, share: float) -> int:
    """Return how many of so many nodes are first; all of them when there are no others to protect."""
    return count if share == 0 or count <= 1 else min(count, max(1, ceil(count * share)))


def due(
    stages: Mapping[str, Stage], order: Sequence[str], terms: Terms, online: Collection[str]
) -> list[str]:
    """Return the nodes that are to get it now.

    Args:
        stages: how each node stands.
        order: all nodes; the first ones are the canaries.
        terms: see :class:`Terms`.
        online: who can be reached.
    """
    first = order[: canaries(len(order), terms.canary)]
    at_it = sum(stage in BEGUN for stage in stages.values())
    open_to = order if all(stages[node] in ENDED for node in first) else first
    ready = [node for node in open_to if stages[node] is Stage.WAITING and node in online]
    return ready[: max(0, terms.at_once - at_it)]


def phase_after(phase: Phase, stages: Mapping[str, Stage], terms: Terms) -> tuple[Phase, str]:
    """Return how the rollout stands, and why if it has stopped."""
    if phase in {Phase.CANCELLED, Phase.DONE}:
        return phase, ""
    if all(stage in ENDED for stage in stages.values()):
        return Phase.DONE, ""
    bad = sum(stage in BAD for stage in stages.values()) - terms.forgiven
    if phase is Phase.RUNNING and terms.pause_on_failures and bad >= terms.pause_on_failures:
        return Phase.PAUSED, f"{bad} node{'' if bad == 1 else 's'} failed; look why, then resume or cancel it"
    return phase, ""
