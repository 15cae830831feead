"""What people ask of the farm: jobs to be made, and things to be done with them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from callboard_core.farm.messages import FileName, Input
from callboard_core.messages import JsonObject, Payload

__all__ = ["HIGHEST_PRIORITY", "Do", "JobAction", "JobRequest", "Name", "Tags"]

HIGHEST_PRIORITY = 100

Tags = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=63)]],
    Field(max_length=32, description="a slot must have all of them"),
]
Name = Annotated[str, Field(min_length=1, max_length=200)]


Do = Literal["hold", "release", "pause", "resume", "cancel", "requeue", "delete"]


class JobRequest(Payload):
    """A job to be made. Unknown keys are refused, so that a misspelt one is noticed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    type: str = Field(min_length=1, max_length=63, description="the job type, e.g. render")
    name: Name | None = Field(
        default=None, description="what people read; made from the main file when missing"
    )
    settings: JsonObject = Field(default_factory=dict, description="what the job type takes, e.g. frames")
    inputs: list[Input] = Field(
        default_factory=list, max_length=10_000, description="artifacts, or shared paths"
    )
    main: FileName | None = Field(
        default=None, description="name of the input to open; the first when missing"
    )
    project: Name | None = Field(default=None, description="project or show; made when it is new")
    sequence: Name | None = Field(default=None, description="of the project; made when it is new")
    shot: Name | None = Field(default=None, description="of the project or sequence; made when it is new")
    owner: Annotated[str, Field(max_length=100)] = Field(
        default="", description="whose it is; who submits it when missing"
    )
    tier: int = Field(default=1, ge=0, le=9, description="0 goes before 1, whatever the priorities")
    priority: int = Field(default=50, ge=0, le=HIGHEST_PRIORITY, description="higher goes first")
    tags: Tags = Field(default_factory=list)
    limits: Tags = Field(default_factory=list, description="licences each task needs, by name")
    max_hosts: int = Field(
        default=0, ge=0, description="nodes that may work on it at a time; 0 for any number"
    )
    note: str = Field(default="", max_length=10_000)
    hold: bool = Field(default=False, description="wait until it is released")


class JobAction(Payload):
    """Something to be done with jobs."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    do: Do
    frames: str | None = Field(
        default=None, description="for requeue: e.g. 3,5-10; all that failed when missing"
    )
    what: Literal["failed", "all", "frames"] = Field(
        default="failed", description="for requeue: failed and cancelled frames, all, or those in frames"
    )
    step: str | None = Field(default=None, description="for requeue: of this step only")
    files: Literal["keep", "remove"] = Field(
        default="keep", description="for delete: what becomes of the results"
    )
