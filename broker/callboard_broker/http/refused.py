"""Refused messages: what did not parse or was not allowed, and why."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from callboard_broker.http.context import Reader, Use

__all__ = ["router"]

router = APIRouter(tags=["refused"])


class Refused(BaseModel):
    """One refused message."""

    t: float = Field(description="Unix seconds by the board's clock")
    topic: str
    node: str | None = Field(description="the sender, as far as it is known")
    reason: str
    size: int = Field(description="bytes")


class AllRefused(BaseModel):
    """How many there ever were, and the last hundred, newest first."""

    count: int
    items: list[Refused]


@router.get("/refused", summary="Refused messages")
def refused(_person: Reader, use: Use) -> AllRefused:
    """Return what was refused and why."""
    items = [
        Refused(t=one.t, topic=one.topic, node=one.node, reason=one.reason, size=one.size)
        for one in use.refusals.items()
    ]
    return AllRefused(count=use.refusals.count, items=items)
