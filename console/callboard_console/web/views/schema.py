"""Forms from JSON Schemas: the flat, common part becomes fields of its own kind; anything else is written as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import JsonValue

from callboard_core.calls.texts import read_arguments, resolved
from callboard_core.errors import BadRequest

__all__ = ["Field", "collect", "fields", "limits", "parse_args"]

#: ``free`` is JSON, or a text where the schema has room for one.
Shape = Literal["text", "integer", "number", "boolean", "choice", "free"]

_SHAPES: dict[str, Shape] = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One parameter of an action or worker; ``schema`` is that of arguments which hold nothing else."""

    name: str
    title: str
    shape: Shape
    required: bool = False
    default: JsonValue = None
    minimum: float | None = None
    maximum: float | None = None
    options: tuple[JsonValue, ...] = ()
    description: str | None = None
    schema: Mapping[str, Any] | None = None

    @property
    def written(self) -> str:
        """The default as a text to begin with."""
        if self.default is None or isinstance(self.default, str):
            return self.default or ""
        return json.dumps(self.default, ensure_ascii=False)


def fields(schema: Mapping[str, Any]) -> list[Field] | None:
    """Return the fields of an object schema; None when it is none."""
    if schema.get("type", "object") != "object":
        return None
    properties = schema.get("properties", {})
    required = schema.get("required", [])
    if not isinstance(properties, Mapping):
        return None
    return [_field(str(name), schema, required=name in required) for name in properties]


def _field(name: str, root: Mapping[str, Any], *, required: bool) -> Field:
    alone = {**root, "properties": {name: root["properties"][name]}}
    wanted = _plain(root["properties"][name], root)
    options = tuple(_listed(wanted.get("enum")))
    shape: Shape = "choice" if options else _SHAPES.get(str(wanted.get("type")), "free")
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
        schema=alone,
    )


def _plain(wanted: object, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """See through references, and through ``X or null``, as optional parameters are described."""
    if not isinstance(wanted, Mapping):
        return {}
    variants = [each for each in _listed(wanted.get("anyOf")) if each != {"type": "null"}]
    inner = variants[0] if len(variants) == 1 else wanted
    if not isinstance(inner, Mapping):
        return {}
    if "$ref" in inner:  # whose title is that of the type, not of the parameter
        inner = {key: value for key, value in resolved(inner, root).items() if key != "title"}
    return {**wanted, **inner}


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


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
            args[field.name] = _value(field, value)
    return args


def _value(field: Field, value: Any) -> JsonValue:
    if field.shape == "free":
        found: JsonValue = read_arguments(field.schema or {}, {field.name: [value]})[field.name]
        return found
    return int(value or 0) if field.shape == "integer" else value


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
