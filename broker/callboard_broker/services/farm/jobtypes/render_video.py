"""Render frames, then make a video of them.

The video is encoded by ffmpeg, on any node that has it, when all frames are done.
"""

from typing import Literal

from pydantic import Field

from callboard_broker.services.farm.jobtypes.common import RenderSettings, render_step, single_output
from callboard_broker.services.farm.jobtypes.spec import TaskSpec
from callboard_core.errors import BadRequest
from callboard_core.farm.requests import JobRequest

__all__ = ["Settings", "tasks"]

_SUFFIXES = {"h264": "mp4", "h265": "mp4", "vp9": "webm", "av1": "mp4", "ffv1": "mkv", "prores": "mov"}


class Settings(RenderSettings):
    """Frames, engine, files, and the video."""

    fps: float = Field(default=24, gt=0, le=1000, description="frames a second of the video")
    codec: Literal["h264", "h265", "vp9", "av1", "ffv1", "prores"] = Field(
        default="h264", description="of the video"
    )
    crf: int | None = Field(
        default=None, ge=0, le=63, description="smaller is better and larger in bytes; h264: 23"
    )


def tasks(job: JobRequest, settings: Settings) -> list[TaskSpec]:
    """All frames, and the video that waits for them."""
    if settings.format == "exr-multilayer":
        raise BadRequest("settings.format: ffmpeg reads no exr-multilayer; use png or exr")
    args = {"op": "encode", "fps": settings.fps, "codec": settings.codec}
    if settings.crf is not None:
        args["crf"] = settings.crf
    video = TaskSpec(
        name="video",
        type="encode",
        engine="ffmpeg",
        work="single",
        inputs=[],
        inputs_from=["render"],
        args=args,
        output=single_output(job, _SUFFIXES[settings.codec], folder=settings.folder),
    )
    return [render_step(job, settings), video]
