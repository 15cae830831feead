"""What a job type is made of: the settings it takes, the steps it makes, and the checks both go through."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from callboard_core.errors import BadRequest, CallboardError, Failed
from callboard_core.farm.frames import parse_frames
from callboard_core.farm.messages import FileName, Input, Output
from callboard_core.farm.requests import JobRequest
from callboard_core.messages import JsonObject, Payload, describe

__all__ = ["MOST_STEPS", "JobSettings", "JobType", "TaskSpec", "culprit"]

#: Steps of one job; frames are no steps.
MOST_STEPS = 4096


class JobSettings(BaseModel):
    """Base of a job type's ``Settings``: every field needs a default or is required, and a description for its form."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TaskSpec(Payload):
    """One step of a job: frames that are rendered alike, or one piece of work.

    The board cuts the frames of a step into tasks when slots become free.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=63, description="unique in the job")
    type: str = Field(default="render", min_length=1, max_length=63, description="for blocklists and limits")
    engine: str = Field(min_length=1, max_length=63)
    work: Literal["frames", "single"] = "frames"
    frames: str = Field(default="", description="of work in frames, e.g. 1-240")
    chunk: int = Field(default=0, ge=0, description="frames of a task; 0 to fit the measured time")
    depends: list[str] = Field(default_factory=list, description="steps that must be done first")
    inputs_from: list[str] = Field(
        default_factory=list,
        description="steps whose files become inputs, in this order; they are waited for",
    )
    inputs: list[Input] | None = Field(
        default=None, description="instead of the job's own; [] for none of those"
    )
    main: FileName | None = Field(
        default=None, description="name of the input to open; the job's when missing"
    )
    args: JsonObject = Field(default_factory=dict, description="what the engine takes")
    output: Output | None = None
    tags: list[str] = Field(default_factory=list, description="that a slot must have, beside the job's")
    limits: list[str] = Field(
        default_factory=list, description="that a task counts towards, beside the job's"
    )
    frame_timeout: float | None = Field(default=None, gt=0, description="seconds")
    start_timeout: float | None = Field(default=None, gt=0, description="seconds")


Tasks = Callable[[JobRequest, Any], Sequence[TaskSpec]]


@dataclass(frozen=True, slots=True)
class JobType:
    """One job type.

    Attributes:
        name: what jobs ask for.
        label: one line for people.
        description: the rest of what its file says about it.
        settings: what it takes.
        file: where it comes from; None for ours.
        make: its ``tasks``.
    """

    name: str
    label: str
    description: str
    settings: type[JobSettings]
    make: Tasks
    file: Path | None = None

    def schema(self) -> dict[str, JsonValue]:
        """Return the JSON Schema of the settings, for forms."""
        return self.settings.model_json_schema()

    def parse(self, settings: Mapping[str, JsonValue]) -> JobSettings:
        """Return settings as this job type takes them.

        Raises:
            BadRequest: one is unknown or wrong; the message names it.
        """
        unknown = [key for key in settings if key not in self.settings.model_fields]
        if unknown:
            known = ", ".join(self.settings.model_fields)
            raise BadRequest(
                f"settings.{unknown[0]}: unknown; a job of type {self.name!r} takes {known or 'no settings'}"
            )
        try:
            return self.settings.model_validate(dict(settings))
        except ValidationError as error:
            raise BadRequest(f"settings.{describe(error).message}") from None

    def tasks(self, request: JobRequest) -> list[TaskSpec]:
        """Return the steps of a job, in an order in which each comes after those it depends on.

        Raises:
            BadRequest: the settings are wrong, or the job type made steps that cannot be done.
            Failed: the job type's own code raised; the message names file and line.
        """
        settings = self.parse(request.settings)
        try:
            made = list(self.make(request, settings))
        except CallboardError:
            raise
        except Exception as error:
            raise Failed(culprit(error, self.file)) from error
        return _checked(self.name, made)


def culprit(error: BaseException, file: Path | None) -> str:
    """Return ``FILE line N: Error: text``, with the last line of the job type's file that was involved."""
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f"{file} line {error.lineno}: {type(error).__name__}: {error.msg}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)
    ]
    if lines:
        return f"{file} line {lines[-1]}: {what}"
    return f"{file}: {what}" if file else what


def _checked(job_type: str, made: list[TaskSpec]) -> list[TaskSpec]:
    """Refuse what the board could not carry out, and bring it into an order that can be worked through."""
    wrong = [spec for spec in made if not isinstance(spec, TaskSpec)]
    if wrong or not made:
        raise BadRequest(
            f"job type {job_type!r} made {'no steps' if not made else 'something else than TaskSpecs'}"
        )
    if len(made) > MOST_STEPS:
        raise BadRequest(f"job type {job_type!r} made {len(made)} steps; {MOST_STEPS} are the most")
    names = [spec.name for spec in made]
    for spec in made:
        _check_step(job_type, spec, names)
    return _in_order(job_type, made)


def _check_step(job_type: str, spec: TaskSpec, names: list[str]) -> None:
    where = f"job type {job_type!r}, step {spec.name!r}"
    if names.count(spec.name) > 1:
        raise BadRequest(f"{where}: two steps have this name")
    for other in (*spec.depends, *spec.inputs_from):
        if other not in names:
            raise BadRequest(f"{where}: depends on {other!r}, which is no step; there are {', '.join(names)}")
    if spec.work == "frames":
        parse_frames(spec.frames)
    elif spec.frames:
        raise BadRequest(f"{where}: single work has no frames")


def _in_order(job_type: str, made: list[TaskSpec]) -> list[TaskSpec]:
    left, done, ordered = list(made), set[str](), list[TaskSpec]()
    while left:
        ready = [spec for spec in left if done.issuperset((*spec.depends, *spec.inputs_from))]
        if not ready:
            names = ", ".join(spec.name for spec in left)
            raise BadRequest(f"job type {job_type!r}: the steps {names} wait for each other")
        ordered += ready
        done.update(spec.name for spec in ready)
        left = [spec for spec in left if spec.name not in done]
    return ordered
