"""Cards: what a node announces, one retained JSON object per thing, told apart by ``kind``."""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter, ValidationError, field_validator, model_validator

from callboard_core.calls.names import LONGEST as SERVICE_LENGTH
from callboard_core.calls.names import SERVICE_PATTERN, check_service
from callboard_core.errors import BadPayload, BadRequest, TooLarge
from callboard_core.messages import CARD_LIMIT, Epoch, JsonObject, Level, Payload, Time, Value, describe
from callboard_core.topics import ID_PATTERN, Address, check_id

__all__ = [
    "ActionCard",
    "AnyCard",
    "CameraCard",
    "Card",
    "ControlCard",
    "Host",
    "Lane",
    "LoopCard",
    "NodeCard",
    "Range",
    "SensorCard",
    "SlotCard",
    "SlotLimits",
    "WorkerCard",
    "parse_card",
]

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


class Range(Payload):
    """A closed interval; a missing bound is open."""

    low: float | None = None
    high: float | None = None

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float):
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


class Card(Payload):
    """What every card carries."""

    name: str = Field(json_schema_extra={"pattern": f"^{ID_PATTERN}$"})
    epoch: Epoch
    label: str | None = Field(default=None, description="what people read; the name when missing")
    description: str | None = None
    tags: list[str] = Field(default_factory=list, description="free words to find the thing by")

    @field_validator("name")
    @classmethod
    def _name_is_an_id(cls, value: str) -> str:
        try:
            return check_id(value, "name")
        except BadRequest as error:
            raise BadPayload(error.message, key="name") from None

    @property
    def title(self) -> str:
        """What people read: the label, or the name."""
        return self.label or self.name


class Host(Payload):
    """The machine a node runs on."""

    hostname: str
    system: str = Field(description="e.g. Linux")
    machine: str = Field(description="e.g. aarch64")
    model: str | None = Field(default=None, description="e.g. Raspberry Pi 5 Model B")
    python: str | None = None
    addresses: list[str] = Field(default_factory=list)


class NodeCard(Card):
    """A node's own card, on ``{site}/{node}/announce``; ``name`` is the node id."""

    kind: Literal["node"] = "node"
    version: str
    keepalive: int = Field(
        default=10, ge=1, description="seconds; a silent node is lost after 1.5 times this"
    )
    host: Host | None = None
    http: str | None = Field(
        default=None,
        description="the board's HTTP API; on 0.0.0.0, :: or loopback it is on the broker's host",
    )


class SensorCard(Card):
    """Something that is read.

    A number inside ``normal`` (or with no range declared) is normal, else inside ``warning`` a warning, else
    an error.
    """

    kind: Literal["sensor"] = "sensor"
    type: Literal["number", "text", "boolean", "enum"] = "number"
    unit: str | None = None
    every: float | None = Field(default=None, gt=0, description="seconds between readings")
    minimum: float | None = None
    maximum: float | None = None
    normal: Range | None = None
    warning: Range | None = None
    deadband: float | None = Field(
        default=None, ge=0, description="smaller changes are not published as a state"
    )
    min_interval: float | None = Field(default=None, ge=0, description="least seconds between two states")
    options: list[str] | None = Field(default=None, description="the values of an enum")

    @model_validator(mode="after")
    def _enum_has_options(self) -> SensorCard:
        if self.type == "enum" and not self.options:
            raise BadPayload("options: an enum needs at least one", key="options")
        return self

    def level(self, value: Value | None) -> Level:
        """Return how ``value`` stands against the declared ranges."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return Level.NORMAL
        if self.normal is None and self.warning is None:
            return Level.NORMAL
        if self.normal is not None and value in self.normal:
            return Level.NORMAL
        if self.warning is not None and value in self.warning:
            return Level.NORMAL if self.normal is None else Level.WARNING
        return Level.ERROR if self.warning is not None else Level.WARNING


class ControlCard(Card):
    """Something that is set. Its state topic echoes the value in force."""

    kind: Literal["control"] = "control"
    type: Literal["number", "boolean", "enum", "text", "colour"] = "number"
    unit: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = Field(default=None, gt=0)
    options: list[str] | None = None
    max_length: int | None = Field(default=None, ge=1, description="characters of a text")

    @model_validator(mode="after")
    def _enum_has_options(self) -> ControlCard:
        if self.type == "enum" and not self.options:
            raise BadPayload("options: an enum needs at least one", key="options")
        return self

    def check(self, value: JsonValue) -> Value:
        """Return ``value`` as this control takes it.

        Raises:
            ValueError: wrong type or out of range; the message says what is expected.
        """
        match self.type:
            case "boolean":
                if isinstance(value, bool):
                    return value
                raise ValueError(f"value: expected true or false, got {value!r}")
            case "number":
                return self._check_number(value)
            case _:
                return self._check_text(value)

    def _check_number(self, value: JsonValue) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"value: expected a number, got {value!r}")  # noqa: TRY004 - one error to catch
        if not math.isfinite(value):
            raise ValueError(f"value: {value} is not a finite number")
        if value not in Range(low=self.minimum, high=self.maximum):
            raise ValueError(f"value: {value} is outside {self.minimum} … {self.maximum}")
        return value

    def _check_text(self, value: JsonValue) -> str:
        if not isinstance(value, str):
            raise ValueError(f"value: expected a text, got {value!r}")  # noqa: TRY004 - one error to catch
        if self.type == "enum" and value not in (self.options or []):
            raise ValueError(f"value: {value!r} is not one of {', '.join(self.options or [])}")
        if self.type == "colour" and not _COLOUR.fullmatch(value):
            raise ValueError(f"value: {value!r} is not a colour like #ff8800")
        if self.max_length is not None and len(value) > self.max_length:
            raise ValueError(f"value: {len(value)} characters are more than {self.max_length}")
        return value


def _no_parameters() -> dict[str, JsonValue]:
    return {"type": "object", "properties": {}}


class ActionCard(Card):
    """Something that is done once when called."""

    kind: Literal["action"] = "action"
    parameters: JsonObject = Field(default_factory=_no_parameters, description="JSON Schema of args")
    confirm: str | None = Field(default=None, description="a question to ask a person before calling")
    timeout: float = Field(default=30.0, gt=0, description="seconds after which the call fails")
    interruptible: bool = False


class Lane(Payload):
    """Where a process takes calls directly, past the broker; who may call gets a ticket from the node's action ``lane``."""

    id: str = Field(min_length=1, max_length=64, description="new at every start of the process")
    unix: str | None = Field(
        default=None,
        max_length=100,
        description="name of an abstract Unix socket, for callers on the same host",
    )
    hosts: list[str] = Field(
        default_factory=list, max_length=16, description="addresses, the likeliest first"
    )
    port: int | None = Field(default=None, ge=1, le=65535, description="TCP port under TLS 1.3")
    fingerprint: str | None = Field(
        default=None,
        json_schema_extra={"pattern": "^[0-9a-f]{64}$"},
        description="SHA-256, in hex, of the certificate that is shown there",
    )


class WorkerCard(Card):
    """A callable function; several workers whose services match one pattern form a pool."""

    kind: Literal["worker"] = "worker"
    service: str = Field(
        max_length=SERVICE_LENGTH,
        json_schema_extra={"pattern": f"^{SERVICE_PATTERN}$"},
        description="what callers ask for, e.g. render:frames",
    )
    scope: Literal["process", "host", "site"] = Field(
        default="site", description="from how far away it may be used"
    )
    exclusive: bool = Field(default=False, description="only one worker may have the service at a time")
    since: Time | None = Field(default=None, description="when an exclusive service was taken")
    parameters: JsonObject = Field(default_factory=dict, description="JSON Schema of args")
    result: JsonObject = Field(default_factory=dict, description="JSON Schema of the result")
    concurrency: int = Field(default=1, ge=1, description="calls it works on at a time")
    timeout: float = Field(default=30.0, gt=0, description="seconds after which a call fails")
    idempotent: bool = Field(default=False, description="a call may be repeated elsewhere when one is lost")
    attribute: bool = Field(
        default=False, description="reads a value, or sets it when args holds 'value', instead of working"
    )
    together: int = Field(
        default=1, ge=1, description="workers that are announced with it: all of an agent's"
    )
    draining: bool = Field(default=False, description="finishes what it has and wants no more")
    traceback: bool = Field(default=False, description="errors carry the traceback")
    host: str | None = Field(default=None, description="the machine; equal for all processes on it")
    process: str | None = Field(default=None, description="the process; equal for all workers in it")
    lane: Lane | None = Field(default=None, description="where calls may go directly")
    heartbeat: float | None = Field(
        default=None,
        gt=0,
        description="seconds between the node's heartbeat events; after three missed ones it hangs",
    )

    @field_validator("service")
    @classmethod
    def _service_is_a_name(cls, value: str) -> str:
        try:
            return check_service(value)
        except BadRequest as error:
            raise BadPayload(error.message, key="service") from None


class SlotLimits(Payload):
    """What a slot keeps its engine to."""

    memory: int | None = Field(default=None, ge=0, description="bytes")
    threads: int | None = Field(default=None, ge=1, description="processor threads")
    nice: int | None = Field(default=None, ge=0, le=19, description="19 is the politest")
    task_seconds: float | None = Field(default=None, gt=0, description="seconds one task may take")


class SlotCard(Card):
    """A place where one render task can run."""

    kind: Literal["slot"] = "slot"
    engine: str
    version: str | None = None
    devices: list[str] = Field(default_factory=list, description="what it renders on, e.g. NVIDIA L4")
    cores: int | None = Field(default=None, ge=1, description="of the machine")
    memory: int | None = Field(default=None, ge=0, description="of the machine, in bytes")
    platform: str | None = Field(
        default=None, description="e.g. linux, windows, darwin; picks path variables"
    )
    limits: SlotLimits | None = None
    schedule: str | None = Field(default=None, description="when it works, in words people read")


class LoopCard(Card):
    """A MAPE-K loop and its elements."""

    kind: Literal["loop"] = "loop"
    elements: list[str] = Field(default_factory=list)


class CameraCard(Card):
    """A source of JPEG frames on the thing's ``stream`` topic."""

    kind: Literal["camera"] = "camera"
    width: int | None = Field(default=None, ge=1, description="pixels")
    height: int | None = Field(default=None, ge=1, description="pixels")
    fps: float | None = Field(default=None, gt=0)


AnyCard = Annotated[
    NodeCard | SensorCard | ControlCard | ActionCard | WorkerCard | SlotCard | LoopCard | CameraCard,
    Field(discriminator="kind"),
]

_ADAPTER: TypeAdapter[AnyCard] = TypeAdapter(AnyCard)
#: pydantic puts the chosen member of the union in front of the key; people want the key.
_TAGS = frozenset({"node", "sensor", "control", "action", "worker", "slot", "loop", "camera"})


def parse_card(payload: bytes | str, *, address: Address | None = None, limit: int = CARD_LIMIT) -> AnyCard:
    """Parse a card and, if an address is given, check that it hangs where it says.

    Raises:
        TooLarge: over ``limit`` bytes.
        BadPayload: not JSON, a key missing or wrong, or ``kind``/``name`` differ from the topic's.
    """
    if len(payload) > limit:
        raise TooLarge(f"card of {len(payload)} bytes is over the limit of {limit}")
    try:
        card = _ADAPTER.validate_json(payload)
    except ValidationError as error:
        raise describe(error, skip=_TAGS) from None
    if address is not None:
        _check_place(card, address)
    return card


def _check_place(card: AnyCard, address: Address) -> None:
    kind = address.kind.value if address.kind is not None else "node"
    name = address.name or address.node
    if card.kind != kind:
        raise BadPayload(f"kind: the card says {card.kind!r}, its topic {kind!r}", key="kind")
    if card.name != name:
        raise BadPayload(f"name: the card says {card.name!r}, its topic {name!r}", key="name")
