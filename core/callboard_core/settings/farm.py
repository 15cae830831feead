"""Settings of the farm: how work is cut and handed out, and what happens when it fails."""

from __future__ import annotations

from typing import Annotated

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
    shares: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict, description="weight of an owner's share; 1 when missing, e.g. { ann = 2 }"
    )
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

    lease: float = Field(
        default=60, ge=1, description="seconds without a word of a slot after which its task goes elsewhere"
    )
    node_grace: float = Field(
        default=15, ge=0, description="seconds a lost node has to come back before its tasks go elsewhere"
    )
    frame_timeout: float = Field(
        default=3600, ge=0, description="seconds a frame may take unless its job says otherwise; 0 for any"
    )
    start_timeout: float = Field(
        default=300, ge=0, description="seconds until a task's first frame must have begun; 0 for any"
    )
    log_kb: int = Field(default=256, ge=0, description="KiB of log kept of each task, before compression")
    state_seconds: float = Field(
        default=0.5, ge=0.1, description="least seconds between two published states of one job"
    )
    state_keep: float = Field(
        default=600, ge=0, description="seconds the published state of a job outlives its end"
    )
    limits: dict[str, int] = Field(
        default_factory=dict, description="most tasks at once by licence name, e.g. { nuke = 2 }"
    )
    variables: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        description='of shared folders, by platform: { shows = { linux = "/mnt/shows", windows = "S:" } }',
    )
    schedule: FarmSchedule = Field(default_factory=FarmSchedule)
    retry: FarmRetry = Field(default_factory=FarmRetry)
