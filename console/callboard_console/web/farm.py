"""The board's render farm as the console asks for it over HTTP, and the answers as they are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, Field, JsonValue, TypeAdapter

from callboard_console.web.client import Api
from callboard_core.cards import SlotCard
from callboard_core.farm.messages import SlotReport
from callboard_core.farm.reports import FrameCounts, JobReport
from callboard_core.farm.states import FrameState, TaskState

__all__ = [
    "FILES",
    "Attempt",
    "Farm",
    "FarmApi",
    "Frames",
    "Job",
    "JobType",
    "Page",
    "Slot",
    "Step",
    "file_path",
]

_part = partial(quote, safe="")

#: Below this path the console hands on the board's pictures and files to browsers that are logged in.
FILES = "board-files"


class Attempt(BaseModel):
    """One assignment of a task to a slot; times in Unix seconds."""

    id: str
    step: str
    node: str
    slot: str
    frames: str
    state: TaskState
    made: float
    started: float | None = None
    ended: float | None = None
    fault: str | None = None
    message: str | None = None
    frame: int | None = None
    progress: float | None = None
    eta: float | None = None


class Slot(BaseModel):
    """One slot, and what it does."""

    node: str
    slot: str
    live: bool
    wanted: str = Field(description="on, draining or off")
    note: str = ""
    closed: str = Field(default="", description="why it takes no work")
    state: str
    card: SlotCard
    tags: list[str] = Field(default_factory=list)
    report: SlotReport | None = None
    frames_done: int = 0
    failures: int = 0


class Farm(BaseModel):
    """All slots, and how it goes."""

    slots: list[Slot]
    jobs: dict[str, int]
    frames: FrameCounts
    frames_per_minute: float
    eta: float | None = None
    last: dict[str, Any] | None = None
    problem: str = ""


class Step(BaseModel):
    """Part of a job."""

    name: str
    type: str
    engine: str
    work: str
    state: TaskState
    depends: list[str]
    counts: FrameCounts
    frame_seconds: float | None = None
    held: str = ""
    blocked: list[str] = Field(default_factory=list)
    failure: str = ""


class Job(JobReport):
    """One job with its steps and what is assigned of it."""

    note: str = ""
    steps: list[Step]
    attempts: list[Attempt]


class Frames(BaseModel):
    """The frames of one step, in columns of one order."""

    step: str
    frames: list[int]
    states: list[FrameState]
    tries: list[int]
    seconds: list[float | None]
    nodes: list[str | None]


class JobType(BaseModel):
    """What a job can be, and the JSON Schema of its settings."""

    name: str
    label: str
    description: str
    settings: dict[str, Any]


class Page(BaseModel):
    """Some of the jobs that match."""

    total: int
    items: list[JobReport]


class Reason(BaseModel):
    """One thing that keeps a step from running."""

    code: str
    text: str
    count: int = 0


class Why(BaseModel):
    """What keeps a step from running."""

    step: str
    reasons: list[Reason]


_WHYS: TypeAdapter[list[Why]] = TypeAdapter(list[Why])
_ATTEMPTS: TypeAdapter[list[Attempt]] = TypeAdapter(list[Attempt])
_TYPES: TypeAdapter[list[JobType]] = TypeAdapter(list[JobType])


class FarmApi:
    """The farm on behalf of one user. Every method waits for the board and raises what :class:`Api` raises."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def farm(self) -> Farm:
        """Return the slots and how it goes."""
        return Farm.model_validate(self._api.get("/api/v1/farm"))

    def jobs(
        self, *, states: Sequence[str] = (), text: str = "", sort: str = "newest", limit: int = 100
    ) -> Page:
        """Return the jobs that are in one of ``states`` (any when empty) and have ``text`` in their name."""
        found = self._api.get("/api/v1/jobs", state=states or None, text=text or None, sort=sort, limit=limit)
        return Page.model_validate(found)

    def job(self, job: str) -> Job:
        """Return one job."""
        return Job.model_validate(self._api.get(f"/api/v1/jobs/{_part(job)}"))

    def frames(self, job: str, step: str | None = None) -> Frames:
        """Return the frames of a step; of the first when none is named."""
        return Frames.model_validate(self._api.get(f"/api/v1/jobs/{_part(job)}/frames", step=step))

    def attempts(self, job: str, *, limit: int = 50) -> list[Attempt]:
        """Return a job's attempts, the newest first."""
        found = self._api.get(f"/api/v1/jobs/{_part(job)}/attempts", limit=limit)
        return _ATTEMPTS.validate_python(found["items"])

    def why(self, job: str) -> list[Why]:
        """Return what keeps a job's steps from running."""
        return _WHYS.validate_python(self._api.get(f"/api/v1/jobs/{_part(job)}/why")["items"])

    def log(self, job: str, attempt: str, frame: int | None = None, *, limit: int) -> str:
        """Return at most ``limit`` bytes of what an attempt printed, or of what concerns one frame."""
        path = f"/api/v1/jobs/{_part(job)}/attempts/{_part(attempt)}/log"
        if frame is not None:
            path += f"?frame={frame}"
        with self._api.open(path) as answer:
            return answer.read(limit).decode("utf-8", "replace")

    def types(self) -> list[JobType]:
        """Return what jobs can be."""
        return _TYPES.validate_python(self._api.get("/api/v1/jobtypes")["items"])

    def act(self, jobs: Sequence[str], do: str, **more: JsonValue) -> int:
        """Hold, release, pause, resume, cancel, requeue or delete jobs; returns how many."""
        body = {"filter": {"ids": list(jobs)}, "action": {"do": do, **more}}
        return int(self._api.post("/api/v1/jobs/act", body)["count"])

    def change(self, job: str, **values: JsonValue) -> None:
        """Change what is written about a job: priority, tags, note and the like."""
        self._api.post(f"/api/v1/jobs/{_part(job)}", values, method="PATCH")

    def steer(self, node: str, slot: str, do: str) -> None:
        """Enable, drain, disable, pause, resume, send to sleep or wake a slot."""
        self._api.post("/api/v1/farm/slots/act", {"filter": {"slots": [[node, slot]]}, "do": do})

    def submit(self, request: Mapping[str, JsonValue]) -> str:
        """Make a job; returns its id."""
        return str(self._api.post("/api/v1/jobs", request)["job"])


def file_path(job: str, *rest: str | int) -> str:
    """Return where a browser finds one of a job's files, relative to the console's pages."""
    return "/".join((FILES, "jobs", _part(job), *(_part(str(each)) for each in rest)))
