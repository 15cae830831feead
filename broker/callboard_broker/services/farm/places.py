"""Projects, their sequences, and shots: where jobs belong. On the farm's thread only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from callboard_broker.services.farm.core import Core
from callboard_broker.services.farm.model import Place
from callboard_core.errors import BadRequest, Conflict, NotFound

__all__ = ["KINDS", "Places"]

#: What each kind may lie in.
KINDS: Mapping[str, tuple[str, ...]] = {
    "project": (),
    "sequence": ("project",),
    "shot": ("project", "sequence"),
}
_TEXTS = {"name": 200, "owner": 100, "note": 10_000}
_CHANGEABLE = ("name", "owner", "note", "tags", "parent")


class Places:
    """A name is unique among its siblings of one kind."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._next = 1

    def load(self, rows: Iterable[Any]) -> None:
        """Take over what was stored."""
        for row in rows:
            place = Place(row.id, row.kind, row.name, row.parent, **json.loads(row.document))
            self._core.book.places[place.id] = place
            self._next = max(self._next, place.id + 1)

    def all(self, kind: str | None = None) -> list[Place]:
        """Return all of a kind, by name."""
        found = (one for one in self._core.book.places.values() if kind in {None, one.kind})
        return sorted(found, key=lambda one: (one.kind, one.name.casefold(), one.id))

    def get(self, place_id: int, kind: str | None = None) -> Place:
        """Return one.

        Raises:
            NotFound: there is none of this kind.
        """
        found = self._core.book.places.get(place_id)
        if found is None or kind not in {None, found.kind}:
            raise NotFound(f"there is no {kind or 'project, sequence or shot'} {place_id}")
        return found

    def find(self, kind: str, wanted: int | str, parent: int | None = None) -> Place:
        """Return one by id or name.

        Raises:
            NotFound: there is none.
            Conflict: the name is not unique.
        """
        if isinstance(wanted, int) and not isinstance(wanted, bool):
            return self.get(wanted, kind)
        found = [
            one
            for one in self._core.book.places.values()
            if one.kind == kind and one.name == wanted and parent in {None, one.parent}
        ]
        if not found:
            raise NotFound(f"there is no {kind} {wanted!r}")
        if len(found) > 1:
            raise Conflict(f"{len(found)} {kind}s are called {wanted!r}; say which by its id")
        return found[0]

    def path(
        self, project: str | None, sequence: str | None, shot: str | None, *, owner: str
    ) -> tuple[int | None, int | None, int | None]:
        """Return the ids of a project, a sequence in it and a shot in that; what is new is made.

        Raises:
            BadRequest: a sequence or shot without a project.
        """
        if project is None and (sequence or shot):
            raise BadRequest("project: missing; a sequence or shot belongs to one")
        if project is None:
            return None, None, None
        top = self._get_or_make("project", project, None, owner)
        middle = self._get_or_make("sequence", sequence, top.id, owner) if sequence else None
        bottom = self._get_or_make("shot", shot, (middle or top).id, owner) if shot else None
        return top.id, middle.id if middle else None, bottom.id if bottom else None

    def _get_or_make(self, kind: str, name: str, parent: int | None, owner: str) -> Place:
        found = self._sibling(kind, name, parent)
        return found or self.make(kind, {"name": name, "parent": parent, "owner": owner})

    def make(self, kind: str, values: Mapping[str, Any]) -> Place:
        """Make one.

        Raises:
            BadRequest: a value is missing or wrong.
            Conflict: it is there already.
            NotFound: there is no such parent.
        """
        checked = {name: self._check(kind, name, value) for name, value in values.items()}
        if "name" not in checked:
            raise BadRequest("name: missing; it is required")
        if KINDS[kind] and checked.get("parent") is None:
            raise BadRequest(f"parent: missing; a {kind} lies in a {' or '.join(KINDS[kind])}")
        self._check_free(kind, checked["name"], checked.get("parent"))
        place = Place(id=self._next, kind=kind, created=self._core.clock(), **checked)
        self._next += 1
        self._core.book.places[place.id] = place
        self._core.ledger.place(place)
        return place

    def change(self, places: Iterable[Place], values: Mapping[str, Any]) -> None:
        """Change some; all or none.

        Raises:
            BadRequest: a value is wrong.
            Conflict: another one has the name.
        """
        chosen = list(places)
        checked = [{k: self._check(one.kind, k, v) for k, v in values.items()} for one in chosen]
        for place, new in zip(chosen, checked, strict=True):
            name, parent = new.get("name", place.name), new.get("parent", place.parent)
            if (name, parent) != (place.name, place.parent):
                self._check_free(place.kind, name, parent)
        if "name" in values and len(chosen) > 1:
            raise Conflict(f"{len(chosen)} {chosen[0].kind}s cannot have one name; choose one of them")
        for place, new in zip(chosen, checked, strict=True):
            for name, value in new.items():
                setattr(place, name, value)
            self._core.ledger.place(place)

    def delete(self, places: Iterable[Place]) -> None:
        """Remove some; all or none.

        Raises:
            Conflict: something still lies in one of them.
        """
        chosen = {one.id: one for one in places}
        for place in chosen.values():
            self._check_empty(place, chosen)
        for place in chosen.values():
            del self._core.book.places[place.id]
            self._core.ledger.no_place(place)

    def _check_empty(self, place: Place, leaving: Mapping[int, Place]) -> None:
        book = self._core.book
        for one in book.places.values():
            if one.parent == place.id and one.id not in leaving:
                raise Conflict(f"{place.kind} {place.name!r} still holds {one.kind} {one.name!r}")
        for job in book.jobs.values():
            if place.id in {job.ticket.project, job.ticket.sequence, job.ticket.shot}:
                raise Conflict(
                    f"{place.kind} {place.name!r} still holds job {job.id}; delete or move that first"
                )

    def _sibling(self, kind: str, name: str, parent: int | None) -> Place | None:
        places = self._core.book.places.values()
        return next((one for one in places if (one.kind, one.name, one.parent) == (kind, name, parent)), None)

    def _check_free(self, kind: str, name: str, parent: int | None) -> None:
        if self._sibling(kind, name, parent) is not None:
            raise Conflict(f"there is a {kind} {name!r} already")

    def _check(self, kind: str, name: str, value: Any) -> Any:
        if name in _TEXTS:
            named = name != "name" or (value and str(value).isprintable())
            if isinstance(value, str) and len(value) <= _TEXTS[name] and named:
                return value
            raise BadRequest(f"{name}: expected a text of at most {_TEXTS[name]} characters")
        if name == "tags":
            if isinstance(value, list) and all(isinstance(tag, str) and tag for tag in value):
                return sorted(set(value))
            raise BadRequest("tags: expected a list of texts")
        if name == "parent":
            return None if value is None else self._parent(kind, value)
        raise BadRequest(f"{name} of a {kind} cannot be set; {', '.join(_CHANGEABLE)} can")

    def _parent(self, kind: str, value: Any) -> int:
        for above in KINDS[kind]:
            try:
                return self.find(above, value).id
            except NotFound:
                continue
        raise NotFound(f"parent: there is no {' or '.join(KINDS[kind]) or 'place above a project'} {value!r}")
