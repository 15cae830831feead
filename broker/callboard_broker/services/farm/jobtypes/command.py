"""Run a program that the nodes allow.

The node's own settings say which programs there are; a job names one and gives the values for its gaps.
"""

from pydantic import Field, JsonValue

from callboard_broker.services.farm.jobtypes.common import check_frames
from callboard_broker.services.farm.jobtypes.spec import JobSettings, TaskSpec
from callboard_core.farm.messages import Output
from callboard_core.farm.requests import JobRequest

__all__ = ["Settings", "tasks"]


class Settings(JobSettings):
    """The program, what it is given and what it makes."""

    command: str = Field(min_length=1, description="its name on the nodes")
    values: dict[str, str | int | float | bool] = Field(default_factory=dict, description="for its gaps")
    frames: str = Field(default="", description="e.g. 1-240: once for each; empty to run it once")
    output: str = Field(description="the file it makes, e.g. result.zip, or frame-####.png")
    timeout: float | None = Field(default=None, gt=0, description="seconds one run may take")


def tasks(job: JobRequest, settings: Settings) -> list[TaskSpec]:
    """One step: one run, or one for each frame."""
    del job
    args: dict[str, JsonValue] = {"name": settings.command, "values": dict(settings.values)}
    suffix = settings.output.rpartition(".")[2].lower()
    return [
        TaskSpec(
            name="run",
            type="command",
            engine="command",
            work="frames" if settings.frames else "single",
            frames=check_frames(settings.frames) if settings.frames else "",
            args=args,
            output=Output(format=suffix, pattern=settings.output),
            frame_timeout=settings.timeout,
        )
    ]
