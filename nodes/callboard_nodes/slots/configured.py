"""Which slots a node offers: from ``[[slot]]`` tables, from ``blender=2,povray=1``, or one for each engine found. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import Field, JsonValue, ValidationError, field_validator

from callboard_core.cards import SlotLimits
from callboard_core.errors import BadRequest
from callboard_core.messages import describe
from callboard_core.topics import ID_PATTERN, slug
from callboard_nodes.slots.detect import PROGRAMS, USUAL
from callboard_nodes.slots.engines.base import Args
from callboard_nodes.slots.engines.command import Template
from callboard_nodes.slots.schedule import Hours, Schedule

__all__ = ["ENGINES", "SlotPlan", "SlotTable", "plans", "templates"]

#: All engines.
ENGINES = (*PROGRAMS, "command", "simulated")
#: Slots of one node; each takes a thread's worth of attention and some memory.
_MOST = 1000

_COUNT = re.compile(r"([a-z-]+)\s*=\s*(\d{1,4})")


class SlotTable(Args):
    """A ``[[slot]]`` table of the settings."""

    engine: str
    name: str | None = Field(default=None, pattern=f"^{ID_PATTERN}$")
    count: int = Field(default=1, ge=1, le=_MOST)
    label: str | None = None
    tags: list[str] = Field(default_factory=list)
    program: str | None = Field(default=None, description="path of the engine's program")
    threads: int | None = Field(default=None, ge=1, le=1024)
    memory_mb: int | None = Field(default=None, ge=16, description="MiB of private memory of a renderer")
    nice: int | None = Field(default=None, ge=0, le=19)
    task_seconds: float | None = Field(default=None, gt=0, description="seconds one task may take")
    hours: list[str] = Field(default_factory=list, description="e.g. 22:00-06:00 or sat,sun 00:00-24:00")
    most_load: float | None = Field(default=None, gt=0, le=1, description="0 to 1")
    idle_minutes: float | None = Field(default=None, gt=0)

    @field_validator("engine")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in ENGINES:
            raise ValueError(f"{value!r} is not one of {', '.join(ENGINES)}")
        return value

    @field_validator("hours")
    @classmethod
    def _can_be_read(cls, value: list[str]) -> list[str]:
        for text in value:
            Hours.parse(text)
        return value


@dataclass(frozen=True, slots=True)
class SlotPlan:
    """One slot to be."""

    name: str
    engine: str
    label: str | None = None
    tags: tuple[str, ...] = ()
    program: str | None = None
    limits: SlotLimits | None = None
    schedule: Schedule = field(default_factory=Schedule)


def plans(
    wanted: str, tables: Sequence[Mapping[str, JsonValue]], is_there: Callable[[str], bool]
) -> list[SlotPlan]:
    """Return the slots to offer.

    Args:
        wanted: ``auto``, ``none``, or counts such as ``blender=2,povray=1``.
        tables: the ``[[slot]]`` tables; used when ``wanted`` is ``auto``.
        is_there: whether an engine's program is on this machine.

    Raises:
        BadRequest: an engine is unknown, a name is taken twice, or a table is wrong; the message names it.
    """
    if wanted == "none":
        return []
    if wanted != "auto":
        return _named(SlotTable(engine=engine, count=count) for engine, count in counts(wanted) if count)
    if tables:
        return _named(_read(number, table) for number, table in enumerate(tables, 1))
    usual = (SlotTable(name=name, engine=engine) for name, engine in USUAL.items())
    return _named(table for table in usual if is_there(PROGRAMS[table.engine]))


def counts(text: str) -> list[tuple[str, int]]:
    """Read ``blender=2,povray=1``.

    Raises:
        BadRequest: it cannot be read, or names no engine of ours.
    """
    found = []
    for part in text.split(","):
        match = _COUNT.fullmatch(part.strip())
        if match is None:
            raise BadRequest(
                f"slots: {part.strip()!r} cannot be read; write auto, none or blender=2,povray=1"
            )
        if match[1] not in ENGINES:
            raise BadRequest(f"slots: {match[1]!r} is not one of {', '.join(ENGINES)}")
        if int(match[2]) > _MOST:
            raise BadRequest(f"slots: {match[2]} of {match[1]} are more than {_MOST}")
        found.append((match[1], int(match[2])))
    return found


def templates(tables: Iterable[Mapping[str, JsonValue]]) -> dict[str, Template]:
    """Return the ``[[command]]`` tables by name.

    Raises:
        BadRequest: one is wrong, or two have one name.
    """
    found: dict[str, Template] = {}
    for number, table in enumerate(tables, 1):
        try:
            template = Template.model_validate(table)
        except ValidationError as error:
            raise BadRequest(f"[[command]] number {number}: {describe(error).message}") from None
        if template.name in found:
            raise BadRequest(f"[[command]] number {number}: there are two called {template.name!r}")
        found[template.name] = template
    return found


def _read(number: int, table: Mapping[str, JsonValue]) -> SlotTable:
    try:
        return SlotTable.model_validate(table)
    except ValidationError as error:
        raise BadRequest(f"[[slot]] number {number}: {describe(error).message}") from None


def _named(tables: Iterable[SlotTable]) -> list[SlotPlan]:
    found: dict[str, SlotPlan] = {}
    for table in tables:
        name = table.name or slug(table.engine)
        for number in range(1, table.count + 1):
            numbered = name if table.count == 1 else f"{name}-{number}"
            if numbered in found:
                raise BadRequest(f"[[slot]]: there are two called {numbered!r}; give one another name")
            found[numbered] = _plan(table, numbered)
    return list(found.values())


def _plan(table: SlotTable, name: str) -> SlotPlan:
    limits = SlotLimits(
        memory=None if table.memory_mb is None else table.memory_mb * 2**20,
        threads=table.threads,
        nice=table.nice,
        task_seconds=table.task_seconds,
    )
    return SlotPlan(
        name=name,
        engine=table.engine,
        label=table.label,
        tags=tuple(table.tags),
        program=table.program,
        limits=limits if limits != SlotLimits() else None,
        schedule=Schedule(tuple(map(Hours.parse, table.hours)), table.most_load, table.idle_minutes),
    )
