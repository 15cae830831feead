"""Settings and steps that several job types share: which engine renders what into which files."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue

from callboard_broker.services.farm.jobtypes.spec import JobSettings, TaskSpec
from callboard_core.errors import BadRequest
from callboard_core.farm.frames import parse_frames
from callboard_core.farm.messages import Output
from callboard_core.farm.requests import JobRequest
from callboard_core.messages import JsonObject

__all__ = [
    "EngineSettings",
    "Frames",
    "RenderSettings",
    "engine_args",
    "main_file",
    "render_step",
    "single_output",
]

#: Suffix of the main file → the engine that opens it.
_ENGINES = {".blend": "blender", ".pov": "povray", ".ini": "povray"}
#: Output format → suffix, where they differ.
_SUFFIXES = {"jpeg": "jpg", "exr-multilayer": "exr", "tiff": "tif"}
#: What POV-Ray writes of what can be asked for.
_POVRAY_FORMATS = ("png", "jpeg", "exr")


def check_frames(text: str) -> str:
    """Return a range of frames that can be read.

    Raises:
        ValueError: it cannot; the message says what is expected.
    """
    try:
        parse_frames(text)
    except BadRequest as error:
        raise ValueError(error.message.removeprefix("frames: ")) from None
    return text


Frames = Annotated[
    str,
    Field(description="e.g. 1-240, 3,5-10 or 1-100x2", min_length=1, max_length=10_000),
    AfterValidator(check_frames),
]


class EngineSettings(JobSettings):
    """Which engine renders, and how. What is not set stays as the file has it."""

    engine: Literal["auto", "blender", "povray", "simulated"] = Field(
        default="auto", description="auto goes by the main file's suffix"
    )
    width: int | None = Field(
        default=None, ge=1, le=65_536, description="pixels; the file's own when missing"
    )
    height: int | None = Field(
        default=None, ge=1, le=65_536, description="pixels; the file's own when missing"
    )
    scene: str | None = Field(default=None, description="Blender: name of the scene")
    camera: str | None = Field(default=None, description="Blender: name of the camera")
    renderer: str | None = Field(
        default=None, description="Blender: CYCLES, BLENDER_EEVEE or BLENDER_WORKBENCH"
    )
    samples: int | None = Field(default=None, ge=1, description="Blender: samples of a pixel")
    device: Literal["CPU", "CUDA", "OPTIX", "HIP", "ONEAPI", "METAL"] | None = Field(
        default=None, description="Blender: what Cycles renders on"
    )
    autoexec: bool = Field(
        default=False, description="Blender: run Python that lies in the file; only if you trust it"
    )
    args: JsonObject = Field(default_factory=dict, description="anything else the engine takes")
    frame_timeout: float | None = Field(default=None, gt=0, description="seconds one frame may take")
    start_timeout: float | None = Field(
        default=None, gt=0, description="seconds until the first frame must have begun"
    )


class RenderSettings(EngineSettings):
    """Frames, and the files they become."""

    frames: Frames = "1"
    chunk: int = Field(
        default=0, ge=0, description="frames rendered by one process; 0 to fit their measured time"
    )
    format: Literal["png", "jpeg", "tiff", "exr", "exr-multilayer", "bmp", "tga", "webp"] = Field(
        default="png", description="of the images"
    )
    encoder: JsonObject = Field(default_factory=dict, description="e.g. quality, compression, color_depth")
    folder: str | None = Field(
        default=None, description="shared folder for the images as well; may begin with a {variable}"
    )


def main_file(job: JobRequest) -> str:
    """Return the name of the file a job is about; empty when it has none."""
    return job.main or (job.inputs[0].name if job.inputs else "")


def engine_of(job: JobRequest, settings: EngineSettings) -> str:
    """Return the engine that opens a job's main file.

    Raises:
        BadRequest: the job has no file, or one of a kind that none opens.
    """
    main = main_file(job)
    if settings.engine != "auto":
        if not main and settings.engine != "simulated":
            raise BadRequest("inputs: empty; give the file to render")
        return settings.engine
    found = _ENGINES.get(PurePosixPath(main).suffix.lower())
    if found is None:
        known = ", ".join(_ENGINES)
        raise BadRequest(
            f"main: {main!r} has none of the suffixes {known}; say which engine renders it" if main
            else "inputs: empty; give the file to render"
        )  # fmt: skip
    return found


def engine_args(engine: str, settings: EngineSettings) -> dict[str, JsonValue]:
    """Return what the engine is told; Blender's settings go to Blender only.

    Raises:
        BadRequest: a setting of Blender's is given for another engine.
    """
    names = ("scene", "camera", "renderer", "samples", "device")
    told: dict[str, JsonValue] = {
        name: getattr(settings, name) for name in names if getattr(settings, name) is not None
    }
    if settings.autoexec:
        told["autoexec"] = True
    if told and engine != "blender":
        raise BadRequest(f"settings.{next(iter(told))}: only Blender takes it, and {engine} renders this job")
    return {**told, **settings.args}


def _check_povray(settings: RenderSettings) -> None:
    """Refuse at once what every slot would."""
    if settings.width is None or settings.height is None:
        raise BadRequest("settings.width: missing; POV-Ray needs width and height")
    if settings.format not in _POVRAY_FORMATS:
        raise BadRequest(f"settings.format: POV-Ray writes {', '.join(_POVRAY_FORMATS)}")


def render_step(job: JobRequest, settings: RenderSettings, **changes: Any) -> TaskSpec:
    """Return the step ``render``: all frames, into ``frame-####`` files."""
    engine = engine_of(job, settings)
    suffix = _SUFFIXES.get(settings.format, settings.format)
    args = engine_args(engine, settings)
    if engine == "povray":
        _check_povray(settings)
        # A task renders some of the frames; the clock runs over all of them.
        frames = parse_frames(settings.frames)
        args.setdefault("frames_total", [frames[0], frames[-1]])
    fields: dict[str, Any] = {
        "name": "render",
        "engine": engine,
        "frames": settings.frames,
        "chunk": settings.chunk,
        "args": args,
        "output": Output(
            format=settings.format,
            pattern=f"frame-####.{suffix}",
            width=settings.width,
            height=settings.height,
            encoder=settings.encoder,
            folder=settings.folder,
        ),
        "frame_timeout": settings.frame_timeout,
        "start_timeout": settings.start_timeout,
    }
    return TaskSpec(**fields | changes)


def single_output(job: JobRequest, suffix: str, **fields: Any) -> Output:
    """Return an output of one file that is called like the job's main file."""
    stem = PurePosixPath(main_file(job)).stem or "result"
    return Output(**{"format": suffix, "pattern": f"{stem}.{suffix}"} | fields)
