"""What board and slots send each other: assignments, commands, reports, and what becomes of an attempt.

An *attempt* is one assignment of a task to a slot. The board sends :class:`SlotCommand` as the args of a call to the slot;
the slot sends :class:`AttemptCall` as the args of a call to the board and keeps its events until that is answered.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, model_validator

from callboard_core.calls.artifacts import ArtifactRef
from callboard_core.errors import BadPayload
from callboard_core.farm.frames import HIGHEST, LOWEST
from callboard_core.farm.states import SlotState
from callboard_core.messages import JsonObject, Payload, Time

__all__ = [
    "ATTEMPT_WORKER",
    "PERSISTENT",
    "Assignment",
    "AttemptCall",
    "AttemptEvent",
    "AttemptReply",
    "AttemptStatus",
    "Input",
    "Output",
    "SlotCommand",
    "SlotReply",
    "SlotReport",
    "as_args",
    "serves",
]

#: The worker of the board that slots send their attempts' events to.
ATTEMPT_WORKER = "attempt"
#: What is added to an engine's name by one that keeps its process warm.
PERSISTENT = "-persistent"

Id = Annotated[str, Field(min_length=1, max_length=64)]
Frame = Annotated[int, Field(ge=LOWEST, le=HIGHEST)]
Fraction = Annotated[float, Field(ge=0, le=1, description="0 to 1")]
Seconds = Annotated[float, Field(ge=0, description="seconds")]


def _inside(value: str) -> str:
    parts = value.split("/")
    if {"", ".", ".."} & set(parts) or "\\" in value or any(ord(letter) < ord(" ") for letter in value):
        raise ValueError(f"{value!r} is no path inside the task's folder; use names joined by /")
    return value


#: A file's path inside the task's own folder.
FileName = Annotated[
    str,
    Field(min_length=1, max_length=1024, description="path in the task's folder, with /"),
    AfterValidator(_inside),
]


def serves(slot_engine: str, wanted: str) -> bool:
    """Tell whether a slot of ``slot_engine`` takes tasks for ``wanted``: its own, or its persistent form."""
    return slot_engine in {wanted, wanted + PERSISTENT}


def as_args(payload: Payload) -> dict[str, JsonValue]:
    """Return a payload as the args, the result or the data of a message, without the keys that hold nothing."""
    return payload.model_dump(mode="json", exclude_none=True)


class SlotReport(Payload):
    """How a slot is and what it works on: ``data`` of its retained state, whose ``v`` repeats ``state``."""

    state: SlotState
    attempt: Id | None = Field(default=None, description="what it works on; missing when it works on nothing")
    job: Id | None = None
    task: Id | None = None
    frame: Frame | None = Field(default=None, description="the frame it renders at the moment")
    frames_done: int = Field(default=0, ge=0, description="of this attempt")
    frames_total: int = Field(default=0, ge=0, description="of this attempt")
    progress: Fraction = 0.0
    eta: Seconds | None = Field(default=None, description="seconds this attempt will still take")
    reason: str | None = Field(default=None, description="why it is paused, asleep, disabled or in error")
    next: Id | None = Field(default=None, description="the attempt it works on next, already assigned")
    since: Time = Field(description="when this state began")


class Input(Payload):
    """A file a task needs, from the board's artifacts or from a shared folder."""

    name: FileName
    artifact: ArtifactRef | None = None
    path: str | None = Field(default=None, description="in a shared folder; may begin with a {variable}")

    @model_validator(mode="after")
    def _one_source(self) -> Input:
        if (self.artifact is None) == (self.path is None):
            raise BadPayload(f"{self.name}: give either artifact or path", key="artifact")
        return self


class Output(Payload):
    """What a task makes. Images are checked to have the expected size."""

    format: str = Field(min_length=1, max_length=32, description="e.g. png, jpeg, exr, mp4")
    pattern: FileName = Field(description="frame-####.png; without # a single file's name")
    width: int | None = Field(
        default=None, ge=1, description="pixels of the written image; not checked when missing"
    )
    height: int | None = Field(
        default=None, ge=1, description="pixels of the written image; not checked when missing"
    )
    encoder: JsonObject = Field(default_factory=dict, description="what the format takes, e.g. quality")
    folder: str | None = Field(
        default=None,
        description="a shared folder where the checked files go as well; may begin with a {variable}",
    )


class Assignment(Payload):
    """One attempt at a task, as a slot is asked to make it."""

    attempt: Id
    job: Id
    task: Id
    engine: str = Field(min_length=1, description="the slot's own, or the one it is the persistent form of")
    work: Literal["frames", "single"] = Field(
        default="frames", description="'single': one piece of work such as a simulation or an encoding"
    )
    frames: list[Frame] = Field(default_factory=list, description="in the order to render them")
    inputs: list[Input] = Field(default_factory=list)
    manifest: ArtifactRef | None = Field(
        default=None, description="more inputs than fit a message: a JSON list of Input"
    )
    main: FileName | None = Field(default=None, description="name of the input to open")
    output: Output | None = None
    args: JsonObject = Field(default_factory=dict, description="what the engine takes")
    variables: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        description="of paths in shared folders: name → platform (linux, windows, darwin) → path",
    )
    priority: int = 0
    lease: float = Field(
        gt=0, description="seconds without a call of the slot after which the attempt is void"
    )
    frame_timeout: float | None = Field(
        default=None, gt=0, description="seconds one frame, or single work, may take"
    )
    start_timeout: float | None = Field(
        default=None, gt=0, description="seconds until the first frame must have begun"
    )
    log_limit: int = Field(default=1024 * 1024, ge=0, description="bytes of log to send")

    @model_validator(mode="after")
    def _has_work(self) -> Assignment:
        if self.work == "frames" and not self.frames:
            raise BadPayload("frames: empty; give at least one, or work 'single'", key="frames")
        return self


class AttemptEvent(Payload):
    """One thing that happened to an attempt. A slot numbers them without a gap, and repeats what was not answered.

    ``started``: the engine begins its first frame; ``seconds`` is how long it took to get there.
    ``frame``: a file was checked and is kept by the board (``artifact``), or lies in the shared folder the assignment
    names; single work sends one per file, without ``frame``.
    ``failed`` carries ``code``, ``message`` and whose ``fault`` it is; given back by the slot, it has no fault.
    """

    seq: int = Field(ge=1, description="1, 2, 3 …")
    t: Time
    what: Literal["started", "progress", "frame", "log", "done", "failed", "cancelled"]
    frame: Frame | None = None
    name: FileName | None = Field(default=None, description="of the file that was made")
    progress: Fraction | None = Field(default=None, description="of the attempt, 0 to 1")
    eta: Seconds | None = Field(default=None, description="seconds the attempt will still take")
    artifact: ArtifactRef | None = None
    thumbnail: ArtifactRef | None = None
    seconds: Seconds | None = Field(default=None, description="a frame's time, or that of the start")
    size: list[int] | None = Field(
        default=None, min_length=2, max_length=2, description="width and height in pixels"
    )
    fault: Literal["node", "job", "licence"] | None = None
    code: str | None = Field(default=None, description="stable name of a failure, e.g. no_camera")
    message: str | None = None
    lines: list[str] | None = Field(default=None, description="of a log")

    @model_validator(mode="after")
    def _complete(self) -> AttemptEvent:
        if self.what == "frame" and self.frame is None and self.name is None:
            raise BadPayload("frame: missing; say which frame, or the name of the file", key="frame")
        if self.what == "failed" and not (self.code and self.message):
            raise BadPayload("code: a failure needs a code and a message", key="code")
        return self


class AttemptCall(Payload):
    """Args of a slot's call to the board's worker ``attempt``; without events it only keeps the lease alive."""

    attempt: Id
    slot: str = Field(description="the slot's name; the node is the caller")
    events: list[AttemptEvent] = Field(default_factory=list, description="in order of seq")


class AttemptReply(Payload):
    """The board's answer, sent when everything up to ``seq`` is on its disk."""

    seq: int = Field(ge=0, description="the last event the board has")
    lease: float = Field(gt=0, description="seconds until the next call is due")
    cancel: bool = Field(default=False, description="nobody wants the attempt any more; stop it")


class SlotCommand(Payload):
    """Args of a call to a slot.

    ``assign`` is answered with ``{"accepted": true}`` at once; a slot takes one attempt to work on and one for later.
    ``drain`` lets it finish what it has; ``disable`` and ``sleep`` stop what it does and give it back.
    """

    do: Literal[
        "assign", "cancel", "pause", "resume", "drain", "enable", "disable", "sleep", "wake", "report", "log"
    ]
    assignment: Assignment | None = Field(default=None, description="for assign")
    attempt: Id | None = Field(
        default=None, description="for cancel, pause, resume and log; all when missing"
    )
    offset: int = Field(default=0, ge=0, description="for log: bytes to skip")
    reason: str | None = Field(default=None, description="what to tell people in the slot's state")

    @model_validator(mode="after")
    def _complete(self) -> SlotCommand:
        if (self.do == "assign") != (self.assignment is not None):
            raise BadPayload("assignment: needed for assign and for nothing else", key="assignment")
        return self


class AttemptStatus(Payload):
    """How far an attempt is on its slot."""

    attempt: Id
    task: Id
    seq: int = Field(ge=0, description="its last event, answered by the board or not")
    state: Literal["running", "next", "ended"] = Field(
        description="'ended': only events are still to be sent"
    )


class SlotReply(Payload):
    """A slot's answer to a :class:`SlotCommand`; ``report`` fills ``report`` and ``attempts``, ``log`` the last three."""

    accepted: bool = True
    report: SlotReport | None = None
    attempts: list[AttemptStatus] | None = None
    log: str | None = Field(default=None, description="at most 256 KiB of it")
    offset: int | None = Field(default=None, ge=0, description="where the log goes on")
    size: int | None = Field(default=None, ge=0, description="bytes of the whole log")
