"""Simulate once, then render frames.

Blender bakes the physics of the file on one node; the frames are rendered from the baked file.
"""

from pathlib import PurePosixPath

from pydantic import Field

from callboard_broker.services.farm.jobtypes.common import RenderSettings, main_file, render_step
from callboard_broker.services.farm.jobtypes.spec import TaskSpec
from callboard_core.errors import BadRequest
from callboard_core.farm.messages import Output
from callboard_core.farm.requests import JobRequest

__all__ = ["Settings", "tasks"]


class Settings(RenderSettings):
    """Frames, engine and files, and how long the simulation may take."""

    simulate_timeout: float | None = Field(default=None, gt=0, description="seconds the simulation may take")


def tasks(job: JobRequest, settings: Settings) -> list[TaskSpec]:
    """The simulation, and the frames that wait for it."""
    main = PurePosixPath(main_file(job))
    if main.suffix.lower() != ".blend":
        raise BadRequest(f"main: {str(main)!r} is no .blend file; only Blender simulates")
    baked = str(main.with_name(f"{main.stem}-simulated.blend"))
    args = {"op": "bake", "autoexec": settings.autoexec}
    if settings.scene is not None:
        args["scene"] = settings.scene
    simulate = TaskSpec(
        name="simulate",
        type="simulate",
        engine="blender",
        work="single",
        args=args,
        output=Output(format="blend", pattern=baked),
        frame_timeout=settings.simulate_timeout,
    )
    render = render_step(job, settings, inputs_from=["simulate"], main=baked)
    return [simulate, render]
