"""Cards: what all nodes offer."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from callboard_broker.http.context import Reader, Use
from callboard_core.cards import AnyCard
from callboard_core.topics import Kind

__all__ = ["router"]

router = APIRouter(tags=["cards"])

_Id = Annotated[str | None, Query(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
_Glob = Annotated[str | None, Query(description="with * and ? as in a shell", max_length=100)]


class Pinned(BaseModel):
    """One card and where it hangs."""

    node: str
    kind: Kind
    name: str
    live: bool = Field(description="its node is there")
    card: AnyCard


class Cards(BaseModel):
    """The cards that were asked for."""

    items: list[Pinned]


@router.get("/cards", summary="Find cards")
def cards(
    _person: Reader,
    use: Use,
    kind: Kind | None = None,
    name: _Glob = None,
    node: _Id = None,
    tag: Annotated[list[str], Query(description="all of them must be on the card")] = [],  # noqa: B006 - FastAPI copies it
) -> Cards:
    """Return the cards of things that match everything given."""
    found = use.registry.cards(kind=kind, name=name, node=node, tags=tag)
    return Cards(
        items=[
            Pinned(node=e.node, kind=e.kind, name=e.name, live=e.live, card=e.card)
            for e in found
            if e.kind is not None
        ]
    )
