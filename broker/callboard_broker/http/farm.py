"""The farm as a whole: its slots, how it goes, and what its settings are."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from callboard_broker.http.context import Commander, Reader, Use
from callboard_broker.http.fields import NamePath, NodePath
from callboard_broker.services.farm.api import ApiRequest
from callboard_broker.services.farm.book import Book
from callboard_broker.services.farm.model import SlotKey
from callboard_broker.services.farm.views import FarmView, SlotView, farm_view, slot_view
from callboard_core.errors import BadRequest
from callboard_core.farm.requests import Tags
from callboard_core.messages import JsonObject
from callboard_core.settings import Farm as FarmSettings

__all__ = ["router"]

router = APIRouter(prefix="/farm", tags=["farm"])

_WISHES: dict[str, Literal["on", "draining", "off"]] = {"enable": "on", "drain": "draining", "disable": "off"}


class SlotFilter(BaseModel):
    """Which slots are meant; what is missing does not matter."""

    model_config = {"extra": "forbid"}

    node: str | None = None
    slot: str | None = None
    engine: str | None = None
    tag: str | None = None
    slots: list[tuple[str, str]] | None = Field(default=None, description="[node, slot] of each")


class SlotAction(BaseModel):
    """Something to be done with all slots that match."""

    model_config = {"extra": "forbid"}

    filter: SlotFilter
    do: Literal["enable", "drain", "disable", "pause", "resume", "sleep", "wake"]
    note: str = Field(default="", max_length=500, description="why; people read it")


class SlotChanges(BaseModel):
    """What of a slot is to be changed."""

    model_config = {"extra": "forbid"}

    tags: Tags = Field(description="besides those of its card and its node")


class Count(BaseModel):
    """How many slots it was done to."""

    count: int


@router.get("", summary="The farm")
def farm(_person: Reader, use: Use) -> FarmView:
    """Return every slot with what it does, jobs by state, throughput and when all will be done."""
    found = use.farm
    with found.reading():
        return farm_view(found.core, found.roster.closed, found.publishing.last, found.desk.problem)


@router.get("/settings", summary="Thresholds in force")
def settings(_person: Reader, use: Use) -> FarmSettings:
    """Return the farm's settings."""
    return use.farm.core.settings


@router.get("/slots/{node}/{slot}", summary="One slot")
def slot_by_name(node: NodePath, slot: NamePath, _person: Reader, use: Use) -> SlotView:
    """Return a slot."""
    with use.farm.reading() as book:
        found = book.slot((node, slot))
        return slot_view(found, use.farm.roster.closed(found))


@router.patch("/slots/{node}/{slot}", summary="Give a slot tags")
def change(node: NodePath, slot: NamePath, changes: SlotChanges, _person: Commander, use: Use) -> SlotView:
    """Set the tags a slot is given besides its own."""
    use.farm.do(lambda: use.farm.roster.tag(use.farm.core.book.slot((node, slot)), changes.tags))
    return slot_by_name(node, slot, _person, use)


@router.post("/slots/act", summary="Do something with all slots that match")
def act(wanted: SlotAction, _person: Commander, use: Use) -> Count:
    """Enable, drain (finish what it has) or disable slots, or have them pause, go on, sleep or wake."""
    if not wanted.filter.model_dump(exclude_none=True):
        raise BadRequest("filter: empty; name the node, the slots, or what they have in common")
    with use.farm.reading() as book:
        keys = _choose(book, wanted.filter)
    match wanted.do:
        case "pause" | "resume" | "sleep" | "wake":
            return Count(count=use.farm.command(keys, wanted.do))
        case _:
            return Count(count=use.farm.wish(keys, _WISHES[wanted.do], wanted.note))


@router.get("/api", summary="Items of the JSON API")
def items(_person: Reader, use: Use) -> JsonObject:
    """Return every item with its fields and what can be done to it."""
    return use.farm_api.describe()


@router.post("/api", summary="The JSON API")
def api(request: ApiRequest, person: Reader, use: Use) -> JsonObject:
    """Create, read, update or delete items; all that match, in one transaction, or none."""
    asked = request.model_dump(exclude_unset=True)
    return use.farm_api.handle(asked, who=person.username, may_write=person.may_command)


@router.delete("/slots/{node}/{slot}", status_code=204, summary="Forget a slot")
def forget(node: NodePath, slot: NamePath, _person: Commander, use: Use) -> None:
    """Forget a slot whose node is gone; one that is there comes back at once."""
    use.farm.forget((node, slot))


def _choose(book: Book, wanted: SlotFilter) -> list[SlotKey]:
    if wanted.slots is not None:
        for key in wanted.slots:
            book.slot(key)
    return [
        slot.key
        for slot in book.slots.values()
        if wanted.node in {None, slot.node}
        and wanted.slot in {None, slot.name}
        and wanted.engine in {None, slot.card.engine}
        and (wanted.tag is None or wanted.tag in slot.offer.tags)
        and (wanted.slots is None or slot.key in wanted.slots)
    ]
