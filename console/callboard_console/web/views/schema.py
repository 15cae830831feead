"""Forms from JSON Schemas: the flat, common part becomes fields; anything else is written as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import JsonValue

from callboard_core.errors import BadRequest

__all__ = ["Field", "collect", "fields", "limits", "parse_args"]

Shape = Literal["text", "integer", "number", "boolean", "choice"]

_SHAPES: dict[str, Shape] = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One parameter of an action."""

    name: str
    title: str
    shape: Shape
    required: bool = False
    default: JsonValue = None
    minimum: float | None = None
    maximum: float | None = None
    options: tuple[JsonValue, ...] = ()
    description: str | None = None


def fields(schema: Mapping[str, Any]) -> list[Field] | None:
    """Return the fields of an object schema; None when it holds something a form cannot express."""
    if schema.get("type", "object") != "object":
        return None
    properties = schema.get("properties", {})
    required = schema.get("required", [])
    if not isinstance(properties, Mapping):
        return None
    found = [_field(str(name), wanted, required=name in required) for name, wanted in properties.items()]
    return None if any(each is None for each in found) else [each for each in found if each is not None]


def _field(name: str, wanted: object, *, required: bool) -> Field | None:
    if not isinstance(wanted, Mapping):
        return None
    wanted = _plain(wanted)
    options = tuple(wanted.get("enum", ()))
    shape: Shape | None = "choice" if options else _SHAPES.get(str(wanted.get("type")))
    if shape is None:
        return None
    return Field(
        name=name,
        title=str(wanted.get("title") or name.replace("_", " ").capitalize()),
        shape=shape,
        required=required,
        default=wanted.get("default"),
        minimum=wanted.get("minimum"),
        maximum=wanted.get("maximum"),
        options=options,
        description=wanted.get("description"),
    )


def _plain(wanted: Mapping[str, Any]) -> Mapping[str, Any]:
    """See through ``X or null``, as optional parameters are described."""
    variants = [each for each in wanted.get("anyOf", ()) if each.get("type") != "null"]
    return {**wanted, **variants[0]} if len(variants) == 1 else wanted


def limits(field: Field) -> dict[str, Any]:
    """Return what a number's widget is set up with; all of one type, as the widget wants it."""
    kind = int if field.shape == "integer" else float
    default = field.default if isinstance(field.default, int | float) else None
    given = {"min_value": field.minimum, "max_value": field.maximum, "value": default}
    typed: dict[str, Any] = {name: None if each is None else kind(each) for name, each in given.items()}
    return typed | {"step": 1 if field.shape == "integer" else None}


def collect(form: list[Field], given: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Return the arguments a filled-in form stands for; optional fields left empty are left out.

    Raises:
        BadRequest: a required field is empty; the message names it.
    """
    args: dict[str, JsonValue] = {}
    for field in form:
        value = given.get(field.name)
        blank = value is None or (value == "" and field.default != "")
        if blank and field.required:
            raise BadRequest(f"{field.title}: this is needed")
        if not blank:
            args[field.name] = int(value or 0) if field.shape == "integer" else value
    return args


def parse_args(text: str) -> dict[str, JsonValue]:
    """Return arguments written as a JSON object; nothing at all means none.

    Raises:
        BadRequest: it is not a JSON object; the message says where it breaks.
    """
    try:
        found = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise BadRequest(f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadRequest('arguments are a JSON object, such as {"value": 40}')
    return found
