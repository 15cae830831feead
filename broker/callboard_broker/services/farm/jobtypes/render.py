"""Render frames.

Every frame becomes an image file. Blender renders .blend files, POV-Ray .pov files.
"""

from callboard_broker.services.farm.jobtypes.common import RenderSettings, render_step
from callboard_broker.services.farm.jobtypes.spec import TaskSpec
from callboard_core.farm.requests import JobRequest

__all__ = ["Settings", "tasks"]


class Settings(RenderSettings):
    """Frames, engine and files."""


def tasks(job: JobRequest, settings: Settings) -> list[TaskSpec]:
    """One step with all frames."""
    return [render_step(job, settings)]
