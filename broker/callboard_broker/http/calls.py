"""Calls: command any thing and wait for its answer."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Body, Response
from pydantic import BaseModel, Field, JsonValue

from callboard_broker.http.artifacts import content
from callboard_broker.http.context import Commander, Use
from callboard_broker.http.fields import KindPath, NamePath, NodePath
from callboard_core.calls.artifacts import reference
from callboard_core.messages import Json, JsonObject
from callboard_core.topics import Address, Leaf

__all__ = ["router"]

router = APIRouter(prefix="/nodes", tags=["calls"])


class Command(BaseModel):
    """What to call a thing with."""

    args: JsonObject = Field(default_factory=dict)
    timeout: float = Field(
        default=10.0, gt=0, le=3600, allow_inf_nan=False, description="seconds to wait for the answer"
    )


class Outcome(BaseModel):
    """What the thing answered."""

    result: Json


@router.post("/{node}/{kind}/{name}/call", summary="Call a thing", response_model=Outcome)
async def call(
    node: NodePath,
    kind: KindPath,
    name: NamePath,
    _person: Commander,
    use: Use,
    command: Annotated[Command | None, Body()] = None,
) -> Outcome | Response:
    """Send a command and return the final reply; an error of the thing keeps its code.

    A result that is larger than a message is streamed as it was stored: ``{"result": …}`` as JSON or MessagePack, or
    the bytes themselves.
    """
    wanted = command or Command()
    use.registry.check_callable(node, kind, name)
    target = Address(use.site, node, Leaf.COMMAND, kind, name)
    sent = use.link.call(target, wanted.args, timeout=wanted.timeout, fetch=False)
    answer: JsonValue = await asyncio.wrap_future(sent)
    if (ref := reference(answer)) is not None:
        return await content(use.artifacts, ref.sha256)
    return Outcome(result=answer)
