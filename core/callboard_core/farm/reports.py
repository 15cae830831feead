"""What the board tells about jobs: ``data`` of the retained state ``{site}/board/state/job/{id}``."""

from __future__ import annotations

from pydantic import Field

from callboard_core.farm.states import JobState
from callboard_core.messages import Payload, Time

__all__ = ["FrameCounts", "JobReport"]


class FrameCounts(Payload):
    """How many frames are in each state; a piece of work without frames counts as one."""

    waiting: int = Field(default=0, ge=0)
    assigned: int = Field(default=0, ge=0)
    rendering: int = Field(default=0, ge=0)
    done: int = Field(default=0, ge=0)
    failed: int = Field(default=0, ge=0)
    cancelled: int = Field(default=0, ge=0)

    @property
    def total(self) -> int:
        """All of them."""
        return self.waiting + self.assigned + self.rendering + self.done + self.failed + self.cancelled


class JobReport(Payload):
    """How a job is; sent at most twice a second while something changes, and cleared some time after its end."""

    job: str = Field(description="the job's id")
    name: str
    state: JobState
    type: str = Field(description="the job type")
    owner: str = ""
    project: str | None = None
    shot: str | None = None
    tier: int = 1
    priority: int = 50
    tags: list[str] = Field(default_factory=list)
    frames: FrameCounts
    progress: float = Field(ge=0, le=1, description="frames that are done, 0 to 1")
    eta: float | None = Field(default=None, ge=0, description="seconds it will still take, as it goes now")
    running: int = Field(default=0, ge=0, description="tasks that are assigned to slots")
    created: Time
    started: Time | None = None
    ended: Time | None = None
    reason: str | None = Field(default=None, description="why it is as it is")
