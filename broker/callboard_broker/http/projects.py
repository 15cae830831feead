"""Projects (shows), their sequences and shots: where jobs belong."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from callboard_broker.http.context import Commander, Reader, Use
from callboard_broker.services.farm.views import PlaceView, place_view
from callboard_core.farm.requests import Name, Tags

__all__ = ["router"]

router = APIRouter(prefix="/projects", tags=["projects"])

PlacePath = Annotated[int, Path(description="id of a project, sequence or shot", ge=1)]


class New(BaseModel):
    """A project, sequence or shot to be made."""

    model_config = {"extra": "forbid"}

    kind: Literal["project", "sequence", "shot"] = "project"
    name: Name
    parent: int | str | None = Field(default=None, description="id or name of what it lies in")
    owner: str = ""
    note: str = ""
    tags: Tags = Field(default_factory=list)


class Changes(BaseModel):
    """What is to be changed; what is missing stays."""

    model_config = {"extra": "forbid"}

    name: Name | None = None
    parent: int | str | None = None
    owner: str | None = None
    note: str | None = None
    tags: Tags | None = None


class Places(BaseModel):
    """Projects, sequences and shots."""

    items: list[PlaceView]


@router.get("", summary="Projects, sequences and shots")
def places(_person: Reader, use: Use, kind: Literal["project", "sequence", "shot"] | None = None) -> Places:
    """Return them by kind and name; ``parent`` says what each lies in."""
    with use.farm.reading() as book:
        return Places(items=[place_view(book, one) for one in use.farm.places.all(kind)])


@router.post("", status_code=201, summary="Make a project, sequence or shot")
def make(new: New, person: Commander, use: Use) -> PlaceView:
    """Make one. Submitting a job makes what it names by itself."""
    values = {"owner": person.username, **new.model_dump(exclude={"kind"}, exclude_unset=True)}
    return _view(use, use.farm.do(lambda: use.farm.places.make(new.kind, values)).id)


@router.get("/{place}", summary="One project, sequence or shot")
def place_by_id(place: PlacePath, _person: Reader, use: Use) -> PlaceView:
    """Return one."""
    return _view(use, place)


@router.patch("/{place}", summary="Change a project, sequence or shot")
def change(place: PlacePath, changes: Changes, _person: Commander, use: Use) -> PlaceView:
    """Change one."""
    values = changes.model_dump(exclude_unset=True)
    use.farm.do(lambda: use.farm.places.change([use.farm.places.get(place)], values))
    return _view(use, place)


@router.delete("/{place}", status_code=204, summary="Delete a project, sequence or shot")
def delete(place: PlacePath, _person: Commander, use: Use) -> None:
    """Delete one that holds nothing."""
    use.farm.do(lambda: use.farm.places.delete([use.farm.places.get(place)]))


def _view(use: Use, place: int) -> PlaceView:
    with use.farm.reading() as book:
        return place_view(book, use.farm.places.get(place))
