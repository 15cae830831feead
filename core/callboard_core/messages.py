"""Payloads: what travels on ``status``, ``state``, ``series``, ``command``, ``reply`` and ``event``.

Every payload is a UTF-8 JSON object. Unknown keys are ignored, missing ones are an error that names the key.
Times are Unix seconds (float) by the sender's clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticSerializationError

from callboard_core.errors import BadPayload, CallboardError, TooLarge, error_from_code

__all__ = [
    "CARD_LIMIT",
    "MESSAGE_LIMIT",
    "Batch",
    "Call",
    "Epoch",
    "ErrorBody",
    "Event",
    "Json",
    "JsonObject",
    "Level",
    "Payload",
    "Reading",
    "Reply",
    "Severity",
    "State",
    "Status",
    "StatusName",
    "Time",
    "Value",
    "describe",
    "parse",
    "read_args",
]

#: Largest card in bytes (settable on the board; larger ones are refused).
CARD_LIMIT = 64 * 1024
#: Largest message in bytes; bigger things go over HTTP as artifacts.
MESSAGE_LIMIT = 1024 * 1024

_SixtyFourBits = Annotated[int, Field(ge=-(2**63), lt=2**63)]

#: What a sensor or control can hold. A whole number of more than 64 bits becomes a float.
Value = bool | _SixtyFourBits | float | str

#: The end is the last second of the year 9999: every such time is also a date.
Time = Annotated[float, Field(description="Unix seconds by the sender's clock", ge=0, lt=253_402_300_800)]

#: A whole number that JSON readers of any language keep exactly (RFC 8259, section 6).
Epoch = Annotated[
    int, Field(ge=0, lt=2**53, description="raised at every start of the node and kept on its disk")
]


_J = TypeVar("_J")
#: What may hold others, and what may be or hold what JSON has not.
_DEEP = (dict, list)
_SUSPECT = (float, *_DEEP)


def _finite(value: _J) -> _J:
    """Refuse NaN and infinity, which pydantic reads although JSON has neither."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("NaN and infinity are no JSON numbers; send null or a text")
    elif isinstance(value, _DEEP):
        for item in value.values() if isinstance(value, dict) else value:
            if isinstance(item, _SUSPECT):
                _finite(item)
    return value


#: Any JSON value, and any JSON object, without NaN and infinity.
Json = Annotated[JsonValue, AfterValidator(_finite)]
JsonObject = Annotated[dict[str, JsonValue], AfterValidator(_finite)]


class Payload(BaseModel):
    """Base of every payload: frozen, unknown keys ignored, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    def encode(self) -> bytes:
        """Return the payload as UTF-8 JSON without the keys that hold nothing.

        Raises:
            BadPayload: a text holds half a surrogate pair, which UTF-8 cannot carry.
        """
        try:
            return self.model_dump_json(exclude_none=True).encode()
        except (PydanticSerializationError, UnicodeEncodeError) as error:
            raise BadPayload(f"not valid Unicode text: {error}; decode it with errors='replace'") from None


class StatusName(StrEnum):
    """Liveness of a node. ``lost`` is only ever published by the broker, as the node's last will."""

    INIT = "init"
    READY = "ready"
    SLEEPING = "sleeping"
    DISCONNECTED = "disconnected"
    LOST = "lost"


class Status(Payload):
    """Liveness of a node, retained on ``{site}/{node}/status``."""

    status: StatusName
    epoch: Epoch
    t: Time
    instance: str | None = Field(
        default=None, description="random id of the running process; tells two nodes of one name apart"
    )
    predecessor: str | None = Field(
        default=None, description="instance in whose place this one came; empty if there was none"
    )


class Level(StrEnum):
    """How a value stands against the ranges its card declares."""

    NORMAL = "normal"
    WARNING = "warning"
    ERROR = "error"


class ErrorBody(Payload):
    """An error as it crosses the wire."""

    code: str = Field(description="one of the error codes")
    message: str = Field(description="what is wrong and what to do")
    type: str | None = Field(default=None, description="the exception's class, when the callee raised")
    traceback: str | None = None

    @classmethod
    def of(cls, error: BaseException) -> ErrorBody:
        """Describe any exception; one of ours keeps its code, any other is ``failed``."""
        if isinstance(error, CallboardError):
            return cls(code=error.code, message=error.message)
        kind = type(error).__name__
        return cls(code="failed", message=f"{kind}: {error}", type=kind)

    def to_exception(self) -> CallboardError:
        """Return the exception this body stands for."""
        error = error_from_code(self.code, self.message)
        error.type, error.traceback = self.type, self.traceback
        return error


class Reading(Payload):
    """One value at one time."""

    v: Value
    t: Time


class State(Payload):
    """Last value or state of a thing, retained on ``{site}/{node}/state/{kind}/{name}``.

    ``v`` is null while there is no value; ``error`` is set while the thing's handler fails.
    A control's state is the value in force (the echo that acknowledges a set); an action's is one of
    ``idle``, ``running``, ``done``, ``failed``.
    """

    v: Value | None = Field(default=None, description="missing while there is no value")
    t: Time
    level: Level = Level.NORMAL
    error: ErrorBody | None = None
    call: str | None = Field(default=None, description="id of the call that caused this state, if any")
    data: JsonObject | None = Field(
        default=None, description="more than one value can say; a slot's SlotReport"
    )


class Batch(Payload):
    """Readings of one thing in time order, on ``{site}/{node}/series/{kind}/{name}``."""

    t: list[Time] = Field(min_length=1)
    v: list[Value] = Field(min_length=1)

    @model_validator(mode="after")
    def _same_length(self) -> Batch:
        if len(self.t) != len(self.v):
            raise BadPayload(f"v: has {len(self.v)} items and t has {len(self.t)}; send as many", key="v")
        return self


class Call(Payload):
    """A command, on ``{site}/{node}/command/{kind}/{name}``; QoS 1, never retained.

    ``expires - t`` is how long the call is valid, counted by the receiver from the arrival, so that a node
    whose clock is wrong still obeys. Without ``t``, ``expires`` is read on the receiver's own clock.
    """

    id: str = Field(min_length=1, max_length=256, description="unique per call; a repeated one runs once")
    reply_to: str | None = Field(
        default=None, description="topic for the answers; none are sent when missing"
    )
    args: JsonObject = Field(default_factory=dict, description="what the thing's card asks for")
    expires: Time | None = Field(default=None, description="Unix seconds after which the call must not begin")
    t: Time | None = Field(default=None, description="Unix seconds of the caller's clock when it was sent")
    accept: str | None = Field(
        default=None, description="'msgpack': the answer may be MessagePack if it holds bytes or arrays"
    )
    cancel: str | None = Field(
        default=None, description="id of a running call to interrupt; args are ignored"
    )
    brief: bool = Field(
        default=False, description="the caller wants one answer: no acknowledgement and no progress"
    )
    again: str | None = Field(
        default=None,
        description="instance of the process that was sent this call before: if it has it, it only repeats the "
        "answer, and no other process may begin it",
    )


class Reply(Payload):
    """Anything sent to a caller: an acknowledgement, progress, or the one final answer."""

    id: str = Field(description="the call's")
    ack: bool | None = Field(default=None, description="true when the work may take longer than 1 s")
    progress: float | None = Field(default=None, ge=0, le=1, description="how much is done, 0 to 1")
    ok: bool | None = Field(
        default=None, description="set by the final answer: whether the call has succeeded"
    )
    result: Json = Field(default=None, description="of a call that has succeeded")
    error: ErrorBody | None = Field(default=None, description="of a call that has failed")

    @property
    def final(self) -> bool:
        """True for the answer that ends the call."""
        return self.ok is not None


class Severity(StrEnum):
    """How much an event matters."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Event(Payload):
    """Something that happened, on ``{site}/{node}/event/{name}``: a log line, an alarm, a job's progress."""

    t: Time
    severity: Severity = Severity.INFO
    message: str = ""
    data: JsonObject = Field(default_factory=dict)


_P = TypeVar("_P", bound=Payload)
_M = TypeVar("_M", bound=BaseModel)


def parse(model: type[_P], payload: bytes | str, *, limit: int = MESSAGE_LIMIT) -> _P:
    """Parse a payload.

    Args:
        model: what the topic carries.
        payload: the message's bytes.
        limit: largest acceptable size in bytes.

    Raises:
        TooLarge: the payload is over ``limit``.
        BadPayload: it is not JSON, or a key is missing or wrong; ``key`` names the first one.
    """
    if len(payload) > limit:
        raise TooLarge(
            f"payload of {len(payload)} bytes is over the limit of {limit}; send it as an artifact"
        )
    try:
        found: _P = model.__pydantic_validator__.validate_json(
            payload
        )  # as model_validate_json, in half the time
    except ValidationError as error:
        raise describe(error) from None
    return found


#: How pydantic calls the members of :data:`Value` when none of them fits.
_VALUE_MEMBERS = frozenset({"bool", "constrained-int", "float", "str"})


def read_args(model: type[_M], args: Mapping[str, Any]) -> _M:
    """Return the arguments of a call as a model.

    Raises:
        BadPayload: one is missing, wrong or unknown to the model; the message names it.
    """
    try:
        return model.model_validate(dict(args))
    except ValidationError as error:
        raise describe(error) from None


def describe(error: ValidationError, *, skip: frozenset[str] = frozenset()) -> BadPayload:
    """Turn pydantic's report into one sentence that names the first offending key and what it takes.

    Args:
        error: what pydantic found.
        skip: leading parts of the location that are not keys (the tags of a union).
    """
    first = error.errors(include_url=False, include_input=False)[0]
    location, what = _sentence(first)
    key = ".".join(str(part) for part in (location[1:] if skip.intersection(location[:1]) else location))
    return BadPayload(f"{key}: {what}" if key else what, key=key)


def _sentence(found: ErrorDetails) -> tuple[tuple[int | str, ...], str]:
    """The key's location and what to tell about it."""
    location, context = found["loc"], found.get("ctx", {})
    if location[-1:] and location[-1] in _VALUE_MEMBERS:
        return location[:-1], "expected true/false, a finite number or a text"
    match found["type"]:
        case "missing":
            return location, "missing; it is required"
        case "union_tag_not_found":
            return (*location, _unquoted(context["discriminator"])), "missing; it is required"
        case "union_tag_invalid":
            expected = context["expected_tags"].replace("'", "")
            return (*location, _unquoted(context["discriminator"])), f"expected one of {expected}"
    return location, found["msg"].removeprefix("Value error, ").replace("Input should be", "expected", 1)


def _unquoted(discriminator: str) -> str:
    return discriminator.strip("'")
