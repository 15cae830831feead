"""What an item of the JSON API is, and how filters pick rows. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from callboard_core.errors import BadRequest
from callboard_core.messages import describe

__all__ = [
    "Filters",
    "Item",
    "Row",
    "Table",
    "Values",
    "check_filters",
    "check_values",
    "only",
    "pick",
    "wanted",
]

Row = dict[str, Any]
Filters = Mapping[str, JsonValue]

#: What a filter may ask of a value besides being equal: keys of an object.
_ASKED = ("like", "from", "to", "not")


class Values(BaseModel):
    """Base of what can be set; unknown fields are an error, and what is not given is left alone."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Item(Protocol):
    """One kind of thing.

    ``rows`` may be called from any thread, and also by work on the farm's own; the others are called on the farm's
    thread with rows that ``rows`` has just given, and check everything before they change anything.
    Where ``creates``, ``updates`` or ``deletes`` is a text, that cannot be done and the text says why.
    """

    @property
    def name(self) -> str:
        """What requests call it."""

    @property
    def aliases(self) -> Sequence[str]:
        """What they may call it too."""

    @property
    def fields(self) -> Mapping[str, str]:
        """What its rows hold, and what that means."""

    @property
    def needs(self) -> Sequence[str]:
        """Fields that must be filtered by."""

    @property
    def creates(self) -> type[BaseModel] | str:
        """What one is made of."""

    @property
    def updates(self) -> type[BaseModel] | str:
        """What can be changed."""

    @property
    def deletes(self) -> type[BaseModel] | str:
        """What can be said when one is removed."""

    def rows(self, filters: Filters) -> Iterable[Row]:
        """Return rows, all that match and maybe more."""

    def complete(self, rows: list[Row]) -> list[Row]:
        """Add to rows that are told what is too dear to look up for all."""

    def create(self, values: Any, who: str) -> Row:
        """Make one; may wait for the farm's thread itself."""

    def update(self, rows: Sequence[Row], values: Any) -> None:
        """Change these, all or none."""

    def delete(self, rows: Sequence[Row], values: Any) -> None:
        """Remove these, all or none."""


class Table:
    """What most items have in common: rows are complete, and none is made or removed by request."""

    def complete(self, rows: list[Row]) -> list[Row]:
        """Return them as they are."""
        return rows

    def create(self, values: Any, who: str) -> Row:
        """Never called where ``creates`` is a text."""
        raise NotImplementedError

    def delete(self, rows: Sequence[Row], values: Any) -> None:
        """Never called where ``deletes`` is a text."""
        raise NotImplementedError


def check_filters(item: Item, filters: Filters) -> None:
    """Refuse filters that name no field, or ask for what no filter can ask.

    Raises:
        BadRequest: the message tells the known ones.
    """
    for name, asked in filters.items():
        if name not in item.fields:
            raise BadRequest(f"filters.{name}: unknown; a {item.name} has {', '.join(item.fields)}")
        if isinstance(asked, dict) and (not asked or not asked.keys() <= set(_ASKED)):
            raise BadRequest(
                f"filters.{name}: expected a value, a list, or an object with {', '.join(_ASKED)}"
            )
    for name in item.needs:
        if name not in filters:
            raise BadRequest(f"filters.{name}: missing; {item.name}s are looked up by it")


def check_values(
    item: Item, action: str, model: type[BaseModel] | str, values: Mapping[str, JsonValue]
) -> Any:
    """Return values as ``model`` has them.

    Raises:
        BadRequest: this cannot be done to such an item, or a value is unknown or wrong.
    """
    if isinstance(model, str):
        raise BadRequest(f"action: a {item.name} cannot be {action}d: {model}")
    for name in values:
        if name not in model.model_fields:
            known = ", ".join(model.model_fields) or "nothing"
            raise BadRequest(f"values.{name}: unknown; to {action} a {item.name} takes {known}")
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise BadRequest(f"values.{describe(error).message}") from None


def pick(rows: Iterable[Row], filters: Filters) -> Iterator[Row]:
    """Yield the rows that match all filters."""
    return (row for row in rows if all(wanted(row.get(name), asked) for name, asked in filters.items()))


def wanted(value: Any, asked: JsonValue) -> bool:
    """Tell whether a value is what a filter asks for.

    A list asks for any of its members; ``{"like": "010*"}`` for a text of that shape, ``{"from": 1, "to": 9}`` for
    something in between, ``{"not": …}`` for anything else. Of a field that holds a list, one member is enough.
    """
    if isinstance(asked, list):
        return any(wanted(value, one) for one in asked)
    if isinstance(asked, dict):
        return all(_test(value, test, operand) for test, operand in asked.items())
    if isinstance(value, list):
        return asked in value
    return _same(value, asked)


def _same(value: Any, asked: JsonValue) -> bool:
    """Ids are texts here and numbers there, so 7 and "7" are the same; true and 1 are not."""
    if isinstance(value, bool) or isinstance(asked, bool) or value is None or asked is None:
        return value is asked
    return value == asked or (isinstance(value, str) != isinstance(asked, str) and str(value) == str(asked))


def _test(value: Any, test: str, operand: JsonValue) -> bool:
    if test == "not":
        return not wanted(value, operand)
    if isinstance(value, list):
        return any(_test(one, test, operand) for one in value)
    if test == "like":
        return isinstance(value, str) and fnmatch.fnmatchcase(value.casefold(), str(operand).casefold())
    try:
        return bool(value >= operand if test == "from" else value <= operand)
    except TypeError:
        return False


def only(filters: Filters, name: str) -> list[str] | None:
    """Return the values a filter allows when it is by equality, as texts; None when it asks for more than that."""
    asked = filters.get(name)
    if isinstance(asked, list) and all(isinstance(one, str | int) for one in asked):
        return [str(one) for one in asked]
    return [str(asked)] if isinstance(asked, str | int) and not isinstance(asked, bool) else None
