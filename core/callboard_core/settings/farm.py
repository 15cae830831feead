"""Settings of the farm: how work is cut and handed out, and what happens when it fails."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Farm", "FarmRetry", "FarmSchedule"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FarmSchedule(_Section):
    """How a job's frames are cut into tasks, and when the next task is sent ahead."""

    process_seconds: float = Field(
        default=15,
        gt=0,
        description="work of one process while starting it takes a tenth of a frame's time or more",
    )
    light_seconds: float = Field(
        default=1, gt=0, description="work of one task while starting it takes less than that"
    )
    first_frames: int = Field(
        default=4, ge=1, description="frames of a task at most while nothing is known of their time"
    )
    most_frames: int = Field(default=500, ge=1, description="frames of a task at most when cut automatically")
    prefetch_seconds: float = Field(
        default=30,
        ge=0,
        description="a busy slot gets its next task when this is left of what it does; 0 for never",
    )


class FarmRetry(_Section):
    """How often a frame is tried, when a node gets no more of a job's work, and when a job is given up."""

    node_tries: int = Field(default=5, ge=1, description="tries of a frame when the node is at fault")
    job_tries: int = Field(default=2, ge=1, description="tries of a frame when the job is at fault")
    block_after: int = Field(
        default=2,
        ge=1,
        description="failures of a job's work of one type on one node that keep it from the node",
    )
    node_wait: float = Field(
        default=2, ge=0, description="seconds before the next try when no other node can; doubled each time"
    )
    licence_wait: float = Field(
        default=15,
        gt=0,
        description="seconds before the next try when a licence is missing; doubled each time",
    )
    longest_wait: float = Field(default=600, gt=0, description="seconds that waiting grows to")
    failed_frames: int = Field(
        default=20, ge=0, description="failed frames after which the job is given up; 0 for never"
    )


class Farm(_Section):
    """Rendering."""

    schedule: FarmSchedule = Field(default_factory=FarmSchedule)
    retry: FarmRetry = Field(default_factory=FarmRetry)
