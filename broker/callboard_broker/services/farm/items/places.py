"""Projects (shows), sequences and shots as rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from pydantic import Field

from callboard_broker.services.farm.book import Book
from callboard_broker.services.farm.items.base import Filters, Row, Table, Values
from callboard_broker.services.farm.model import Place
from callboard_broker.services.farm.service import Farm
from callboard_core.errors import BadRequest
from callboard_core.farm.requests import Tags

__all__ = ["NewPlace", "PlaceValues", "Places"]

Name = Annotated[str, Field(min_length=1, max_length=200)]
Note = Annotated[str, Field(max_length=10_000)]
Owner = Annotated[str, Field(max_length=100)]


class NewPlace(Values):
    """A project, sequence or shot to be made."""

    name: Name
    owner: Owner | None = None
    note: Note | None = None
    tags: Tags | None = None


class NewSequence(NewPlace):
    """It lies in a project."""

    project: str | int


class NewShot(NewSequence):
    """It lies in a project, or in a sequence of one."""

    sequence: str | int | None = None


class PlaceValues(Values):
    """What of it can be changed."""

    name: Name | None = None
    owner: Owner | None = None
    note: Note | None = None
    tags: Tags | None = None


class NoValues(Values):
    """Nothing can be given."""


_NEW: Mapping[str, type[NewPlace]] = {"project": NewPlace, "sequence": NewSequence, "shot": NewShot}
_COMMON = {
    "id": "given by the board",
    "name": "unique in what it lies in",
    "owner": "whose it is",
    "note": "free text",
    "tags": "free words",
    "created": "Unix seconds",
    "jobs": "how many belong to it",
}
_ABOVE = {
    "project": {},
    "sequence": {"project": "its name"},
    "shot": {"project": "its name", "sequence": "its name, if it lies in one"},
}


class Places(Table):
    """All of one kind."""

    updates = PlaceValues
    deletes = NoValues
    needs = ()

    def __init__(self, farm: Farm, kind: str, aliases: Sequence[str]) -> None:
        self._farm = farm
        self.name = kind
        self.aliases = aliases
        self.creates = _NEW[kind]
        self.fields: Mapping[str, str] = {**_COMMON, **_ABOVE[kind]}

    def rows(self, filters: Filters) -> Iterable[Row]:
        """See :class:`~callboard_broker.services.farm.items.base.Item`."""
        del filters
        with self._farm.reading() as book:
            jobs = Counter(getattr(job.ticket, self.name) for job in book.jobs.values())
            return [self._row(book, place, jobs[place.id]) for place in self._farm.places.all(self.name)]

    def _row(self, book: Book, place: Place, jobs: int) -> Row:
        above = {one.kind: one.name for one in _above(book, place)}
        return {
            "id": place.id,
            "name": place.name,
            "owner": place.owner,
            "note": place.note,
            "tags": place.tags,
            "created": place.created,
            "jobs": jobs,
            **{kind: above.get(kind) for kind in _ABOVE[self.name]},
        }

    def create(self, values: NewPlace, who: str) -> Row:
        """Make one; it belongs to whoever makes it unless an owner is named."""
        given = values.model_dump(exclude_none=True, exclude={"project", "sequence"})
        given.setdefault("owner", who)
        parent = (getattr(values, "project", None), getattr(values, "sequence", None))

        def work() -> int:
            return self._farm.places.make(self.name, {**given, **self._parent(*parent)}).id

        made = self._farm.do(work)
        with self._farm.reading() as book:
            return self._row(book, book.places[made], 0)

    def _parent(self, project: str | int | None, sequence: str | int | None) -> dict[str, int]:
        if project is None:
            return {}
        places = self._farm.places
        top = places.find("project", project)
        return {"parent": places.find("sequence", sequence, top.id).id if sequence is not None else top.id}

    def update(self, rows: Sequence[Row], values: PlaceValues) -> None:
        """Change some."""
        given = values.model_dump(exclude_unset=True)
        empty = next((name for name, value in given.items() if value is None), None)
        if empty is not None:
            raise BadRequest(f"values.{empty}: expected something else than null")
        if rows:
            self._farm.places.change([self._farm.places.get(row["id"]) for row in rows], given)

    def delete(self, rows: Sequence[Row], values: NoValues) -> None:
        """Remove some; they must hold nothing."""
        del values
        self._farm.places.delete([self._farm.places.get(row["id"]) for row in rows])


def _above(book: Book, place: Place) -> list[Place]:
    found = []
    while place.parent is not None and place.parent in book.places:
        place = book.places[place.parent]
        found.append(place)
    return found
