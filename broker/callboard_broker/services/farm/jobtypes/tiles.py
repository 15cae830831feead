"""Render one big still in tiles.

Many slots render a part of the image each; ffmpeg puts the parts together.
"""

from itertools import pairwise
from typing import Any, Literal

from pydantic import Field

from callboard_broker.services.farm.jobtypes.common import (
    EngineSettings,
    engine_args,
    engine_of,
    single_output,
)
from callboard_broker.services.farm.jobtypes.spec import TaskSpec
from callboard_core.errors import BadRequest
from callboard_core.farm.messages import Output
from callboard_core.farm.requests import JobRequest

__all__ = ["Settings", "tasks"]

#: Tiles that one ffmpeg can open at once with the usual limit of 1,024 files.
_MOST = 900


class Settings(EngineSettings):
    """The frame and how it is divided."""

    frame: int = Field(default=1, ge=-1_048_574, le=1_048_574, description="the one to render")
    columns: int = Field(default=4, ge=1, le=64, description="tiles side by side")
    rows: int = Field(default=4, ge=1, le=64, description="tiles above each other")
    format: Literal["png", "tiff"] = Field(default="png", description="of the image")


def tasks(job: JobRequest, settings: Settings) -> list[TaskSpec]:
    """The tiles, row by row from the top left, and what puts them together."""
    if engine_of(job, settings) not in {"blender", "simulated"}:
        raise BadRequest("main: only Blender renders tiles")
    if settings.columns * settings.rows > _MOST:
        raise BadRequest(f"settings.columns: {settings.columns * settings.rows} tiles; {_MOST} are the most")
    if (settings.width is None) != (settings.height is None):
        raise BadRequest("settings.height: give width and height, or neither")
    size = None if settings.width is None or settings.height is None else (settings.width, settings.height)
    if size is not None and (size[0] < settings.columns or size[1] < settings.rows):
        raise BadRequest(f"settings.columns: {size[0]} by {size[1]} pixels are too few for so many tiles")
    tiles = [
        _tile(job, settings, size, row, column)
        for row in range(settings.rows)
        for column in range(settings.columns)
    ]
    merge = TaskSpec(
        name="merge",
        type="merge",
        engine="ffmpeg",
        work="single",
        inputs=[],
        inputs_from=[tile.name for tile in tiles],
        args={"op": "stack", "columns": settings.columns, "rows": settings.rows},
        output=single_output(job, settings.format, width=settings.width, height=settings.height),
    )
    return [*tiles, merge]


def _tile(
    job: JobRequest, settings: Settings, size: tuple[int, int] | None, row: int, column: int
) -> TaskSpec:
    left, right = _span(column, settings.columns, size[0] if size else None)
    # Rows count from the top, Blender's border from the bottom.
    low, high = _span(settings.rows - 1 - row, settings.rows, size[1] if size else None)
    engine = engine_of(job, settings)
    args: dict[str, Any] = engine_args(engine, settings)
    whole = size or (1, 1)
    if engine == "blender":
        args |= {"border": [left / whole[0], low / whole[1], right / whole[0], high / whole[1]], "crop": True}
    if engine == "blender" and size:
        args["size"] = list(size)
    name = f"tile-{row:02d}-{column:02d}"
    return TaskSpec(
        name=name,
        engine=engine,
        frames=str(settings.frame),
        args=args,
        output=Output(
            format=settings.format,
            pattern=f"{name}-####.{settings.format}",
            width=int(right - left) if size else None,
            height=int(high - low) if size else None,
        ),
        frame_timeout=settings.frame_timeout,
        start_timeout=settings.start_timeout,
    )


def _span(number: int, of: int, pixels: int | None) -> tuple[float, float]:
    """Where a tile begins and ends: at whole pixels when their number is known, else as a share of 1."""
    if pixels is None:
        return number / of, (number + 1) / of
    edges = [pixels * edge // of for edge in range(of + 1)]
    return list(pairwise(edges))[number]
