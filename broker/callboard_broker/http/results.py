"""What jobs have made, to be taken away: files, pictures, videos, logs, and everything as a zip."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from callboard_broker.http import artifacts
from callboard_broker.http.context import Reader, Use
from callboard_broker.http.jobs import JobPath, StepQuery, job_of, step_of
from callboard_broker.services.farm.archive import log_text, outcomes, zip_of
from callboard_broker.services.farm.files import refs_of, result_ref
from callboard_broker.services.farm.model import Job
from callboard_broker.store import farm as store
from callboard_core.calls.artifacts import ArtifactRef
from callboard_core.errors import NotFound

__all__ = ["router"]

router = APIRouter(tags=["jobs"])


class ResultView(BaseModel):
    """One file a job has made."""

    step: str
    frame: int | None = Field(description="null for work without frames")
    name: str | None
    t: float
    seconds: float | None
    width: int | None
    height: int | None
    artifact: ArtifactRef | None
    thumbnail: ArtifactRef | None
    attempt: str


class Results(BaseModel):
    """Files a job has made, by step and frame."""

    items: list[ResultView]


@router.get("/jobs/{job}/results", summary="Files a job has made")
def results(
    job: JobPath,
    _person: Reader,
    use: Use,
    step: Annotated[str | None, Query(description="of all steps if missing")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> Results:
    """Return the files a job has made, a page at a time."""
    found = job_of(use.farm, job)
    number = None if step is None else found.step(step).number
    with use.farm.stored() as connection:
        rows = store.results(connection, found.id, number, limit=limit, offset=offset)
        return Results(items=[_result(found, row) for row in rows])


@router.get(
    "/jobs/{job}/attempts/{attempt}/log",
    summary="An attempt's log",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def log(
    job: JobPath,
    attempt: Annotated[str, Path(max_length=64)],
    _person: Reader,
    use: Use,
    frame: Annotated[int | None, Query(description="only what concerns this frame")] = None,
) -> StreamingResponse:
    """Stream what the engine wrote, as far as it is kept (``farm.log_kb``)."""
    found = job_of(use.farm, job)
    with use.farm.stored() as connection:
        parts = store.logs(connection, found.id, attempt)
        if not parts and store.attempt(connection, attempt) is None:
            raise NotFound(f"job {job} has no attempt {attempt}")
    return StreamingResponse(log_text(parts, frame), media_type="text/plain; charset=utf-8")


@router.get("/jobs/{job}/frames/{frame}/{what}", summary="A frame's picture", response_class=Response)
async def picture(
    job: JobPath,
    frame: int,
    what: Literal["image", "thumbnail"],
    _person: Reader,
    use: Use,
    step: StepQuery = None,
) -> Response:
    """Stream a frame's file, or its small picture."""
    found = step_of(use.farm, job, step)
    with use.farm.stored() as connection:
        row = store.result(connection, found.job.id, found.number, frame)
    return await _file(use, row, what, f"frame {frame} of job {job}")


@router.get("/jobs/{job}/last", summary="What a job rendered last", response_class=Response)
async def last(
    job: JobPath, _person: Reader, use: Use, what: Literal["image", "thumbnail"] = "thumbnail"
) -> Response:
    """Stream the picture a job has made last."""
    found = job_of(use.farm, job)
    with use.farm.stored() as connection:
        row = store.last_result(connection, found.id)
    return await _file(use, row, what, f"job {job}")


@router.get("/jobs/{job}/video", summary="A job's video", response_class=Response)
async def video(job: JobPath, _person: Reader, use: Use) -> Response:
    """Stream the video a job has made, if its type makes one."""
    found = job_of(use.farm, job)
    with use.farm.stored() as connection:
        made = outcomes(found, store.results(connection, found.id))
    refs = [one.artifact for _, one in made if one.artifact is not None]
    sha256 = next((ref.sha256 for ref in refs if ref.type.startswith("video/")), None)
    if sha256 is None:
        raise NotFound(f"job {job} has made no video")
    return await artifacts.content(use.artifacts, sha256)


@router.get(
    "/jobs/{job}/files.zip",
    summary="All files of a job",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}},
)
def files(job: JobPath, _person: Reader, use: Use) -> StreamingResponse:
    """Stream all that a job has made as one zip; one that ends early is not whole."""
    found = job_of(use.farm, job)
    with use.farm.stored() as connection:
        made = outcomes(found, store.results(connection, found.id))
    if not made:
        raise NotFound(f"job {job} has made no files yet")
    name = re.sub(r"[^\w.-]+", "-", f"{job}-{found.ticket.name}", flags=re.ASCII)
    headers = {"Content-Disposition": f'attachment; filename="{name}.zip"'}
    return StreamingResponse(zip_of(made, use.artifacts), media_type="application/zip", headers=headers)


def _result(job: Job, row: Any) -> ResultView:
    step = job.steps[row.step]
    found = result_ref(row)
    return ResultView(
        step=step.spec.name,
        frame=None if step.single else row.frame,
        name=found[0] if found else None,
        t=row.done_at,
        seconds=row.seconds,
        width=row.width,
        height=row.height,
        artifact=found[1] if found else None,
        thumbnail=ArtifactRef.model_validate_json(row.thumbnail) if row.thumbnail else None,
        attempt=row.attempt,
    )


async def _file(use: Use, row: Any, what: str, whose: str) -> Response:
    refs = [] if row is None else list(refs_of(row))
    if not refs or (what == "thumbnail" and row.thumbnail is None):
        raise NotFound(f"there is no {what} of {whose}")
    return await artifacts.content(use.artifacts, refs[0 if what == "image" else -1].sha256)
