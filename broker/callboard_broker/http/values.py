"""Values: what every thing shows now."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from callboard_broker.http.context import Reader, Use
from callboard_core.messages import ErrorBody, Level, Value
from callboard_core.topics import Kind

__all__ = ["router"]

router = APIRouter(tags=["values"])


class Shown(BaseModel):
    """The last state of one thing."""

    node: str
    kind: Kind
    name: str
    v: Value | None
    t: float = Field(description="Unix seconds by the node's clock")
    level: Level
    error: ErrorBody | None
    received: float = Field(description="Unix seconds by the board's clock")


class Shows(BaseModel):
    """The last states that were asked for."""

    items: list[Shown]


@router.get("/values", summary="Latest values")
def values(
    _person: Reader,
    use: Use,
    node: Annotated[str | None, Query(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] = None,
    kind: Kind | None = None,
) -> Shows:
    """Return the last state of every thing, of one node's things, or of one kind."""
    return Shows(
        items=[
            Shown(
                node=thing[0],
                kind=Kind(thing[1]),
                name=thing[2],
                v=value.state.v,
                t=value.state.t,
                level=value.state.level,
                error=value.state.error,
                received=value.received,
            )
            for thing, value in use.values.find(node, kind)
        ]
    )
