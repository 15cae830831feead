"""JSON Schemas of the payloads, as a reader of the wire sees them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from callboard_core.discovery import wire
from callboard_core.messages import Payload

Schema = dict[str, Any]

__all__ = ["Schema", "all_schemas", "file_name", "key_type", "schema_of", "title"]


def title(model: type[Payload]) -> str:
    """How people are told the model's name."""
    return f"Discovery{model.__name__}" if model.__module__ == wire.__name__ else model.__name__


def file_name(model: type[Payload]) -> str:
    """``SensorCard`` → ``sensor-card.json``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", title(model)).lower() + ".json"


def schema_of(model: type[Payload]) -> Schema:
    """The JSON Schema (2020-12) of one payload."""
    schema = _kind_required(model.model_json_schema())
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema, "title": title(model)}


def all_schemas(models: Iterable[type[Payload]], ref_template: str) -> Schema:
    """The schemas of several payloads and of what they refer to, under their names, without repetition."""
    _, combined = models_json_schema([(model, "validation") for model in models], ref_template=ref_template)
    return {name: _kind_required(schema) for name, schema in combined["$defs"].items()}


def _kind_required(schema: Schema) -> Schema:
    """A card is told apart by ``kind``: in Python it has a default, on the wire it must be there."""
    if "const" in schema.get("properties", {}).get("kind", {}):
        schema["required"] = ["kind", *schema["required"]]
    return schema


def key_type(schema: Schema, parts: Schema) -> str:
    """What a key holds, in words. ``parts`` are the schema's ``$defs``; an object among them is only named."""
    match schema:
        case {"$ref": str(reference)}:
            name = reference.rsplit("/", 1)[-1]
            part = parts.get(name, {})
            return name if part.get("type") == "object" else key_type(part, parts)
        case {"const": value}:
            return f"`{value}`"
        case {"enum": [*values]}:
            return " · ".join(f"`{value}`" for value in values)
        case {"anyOf": [*choices]}:
            return _choice([key_type(choice, parts) for choice in choices])
        case {"type": "array", "items": items}:
            return f"list of {key_type(items, parts)}"
    return _WORDS.get(schema.get("type", ""), "any JSON")


_WORDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true/false",
    "object": "object",
    "null": "null",
}


def _choice(words: list[str]) -> str:
    """An optional key may be null like any other, and a whole number is a number."""
    needless = {"null", "whole number" if "number" in words else "null"}
    return " or ".join(word for word in dict.fromkeys(words) if word not in needless)
