"""Nodes: who is there, who was, and forgetting the ones that will not come back."""

from __future__ import annotations

import time

from fastapi import APIRouter
from pydantic import BaseModel, Field

from callboard_broker.http.context import Commander, Reader, Use
from callboard_broker.http.fields import End, NodePath, Start
from callboard_broker.services.registry import NodeView
from callboard_core.cards import NodeCard
from callboard_core.messages import StatusName

__all__ = ["router"]

router = APIRouter(prefix="/nodes", tags=["nodes"])


class Node(BaseModel):
    """One node as the board sees it. Times are Unix seconds by the board's clock."""

    id: str
    status: StatusName | None = Field(description="null while it has announced itself but said no status")
    epoch: int | None
    since: float | None = Field(description="when the status became what it is")
    last_seen: float | None = Field(description="when the last message came that was not a retained one")
    skew: float | None = Field(description="seconds its clock is ahead of the board's; null while unknown")
    skewed: bool = Field(description="its clock is wrong; its readings are kept at corrected times")
    label: str | None
    tags: list[str]
    things: int = Field(description="how many cards it has pinned")
    forgettable: bool = Field(description="it has been offline for so long that forgetting it is offered")
    card: NodeCard | None

    @classmethod
    def of(cls, view: NodeView) -> Node:
        """Describe a node."""
        card = view.card
        return cls(
            id=view.id,
            status=view.status,
            epoch=view.epoch,
            since=view.since,
            last_seen=view.last_seen,
            skew=view.skew.seconds,
            skewed=view.skew.wrong,
            label=card.label if card else None,
            tags=card.tags if card else [],
            things=view.things,
            forgettable=view.forgettable,
            card=card,
        )


class Nodes(BaseModel):
    """All nodes."""

    items: list[Node]


class Change(BaseModel):
    """A node came or went."""

    t: float
    status: StatusName
    epoch: int


class Changes(BaseModel):
    """A node's liveness over time, oldest first."""

    items: list[Change]


class Forgotten(BaseModel):
    """What was cleared."""

    node: str
    cleared: int = Field(description="retained messages")


@router.get("", summary="All nodes")
def nodes(_person: Reader, use: Use) -> Nodes:
    """Return every node with its liveness and its card."""
    return Nodes(items=[Node.of(view) for view in use.registry.nodes()])


@router.get("/{node}", summary="One node")
def node_by_id(node: NodePath, _person: Reader, use: Use) -> Node:
    """Return one node."""
    return Node.of(use.registry.node(node))


@router.delete("/{node}", summary="Forget a node")
def forget(node: NodePath, _person: Commander, use: Use) -> Forgotten:
    """Clear everything that is retained for an offline node. Its history stays."""
    return Forgotten(node=node, cleared=use.forgetting.forget(node))


@router.get("/{node}/statuses", summary="When a node came and went")
def statuses(node: NodePath, _person: Reader, use: Use, start: Start = None, end: End = None) -> Changes:
    """Return the changes of liveness between start (the beginning if missing) and end; the last 10,000 at most."""
    until = time.time() if end is None else end
    found = use.registry.statuses(node, start or 0.0, until)
    return Changes(items=[Change(t=one.t, status=StatusName(one.status), epoch=one.epoch) for one in found])
