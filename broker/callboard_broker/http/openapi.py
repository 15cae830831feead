"""The OpenAPI document's entries for services, which come and go with who offers them. Pure.

Cards come from nodes, and what is wrong in their schemas must not spoil the document: only what JSON Schema
knows, in the form it knows it, is taken over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from callboard_broker.services.pools import Service
from callboard_core.calls.texts import resolved

__all__ = ["sound", "with_services"]

#: Deepest nesting of a schema, and most services, that are taken over.
_DEEPEST = 20
_MOST = 1_000
_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_LOCAL = re.compile(r"#/(?:\$defs|definitions)/([A-Za-z0-9._-]+)")
_TAG = "services"
_ERROR = {"$ref": "#/components/schemas/ErrorAnswer"}

#: With ``all``: what everybody answered.
_OF_ALL = {
    "type": "object",
    "properties": {"results": {"type": "array", "items": {"type": "object"}}},
    "required": ["results"],
}

Schema = dict[str, Any]


def with_services(document: Mapping[str, Any], services: Iterable[Service]) -> dict[str, Any]:
    """Return an OpenAPI 3.1 document with two operations for each service."""
    paths, schemas = dict(document["paths"]), dict(document.get("components", {}).get("schemas", {}))
    for service in list(services)[:_MOST]:
        described = _Described(service)
        paths[f"/api/v1/services/{service.name}"] = described.operations()
        schemas |= described.schemas
    components = {**document.get("components", {}), "schemas": schemas}
    return {**document, "paths": paths, "components": components}


class _Described:
    """One service; its schemas' own definitions go under names that nothing else has."""

    def __init__(self, service: Service) -> None:
        self._name, self._card = service.name, service.card
        # A service's name has no underscore, so that no two give one prefix.
        self._prefix = f"service_{service.name.replace(':', '_')}"
        self.schemas: dict[str, Schema] = {}
        self._parameters = self._take("parameters", self._card.parameters)
        self._result = self._take("result", self._card.result)

    def operations(self) -> dict[str, Any]:
        """What can be done with it."""
        body = {"content": {"application/json": {"schema": self._parameters}}}
        return {
            "get": self._operation("get", self._query() + _options(self._taken())),
            "post": self._operation("post", _options(frozenset())) | {"requestBody": body},
        }

    def _operation(self, method: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
        one = {"type": "object", "properties": {"result": self._result}, "required": ["result"]}
        answer = {"anyOf": [one, _OF_ALL]}
        operation: dict[str, Any] = {
            "tags": [_TAG],
            "summary": self._card.label or self._name,
            "operationId": f"{self._prefix}_{method}",
            "parameters": parameters,
            "security": [{"Authorization": []}],
            "responses": {
                "200": {
                    "description": "what the worker answered",
                    "content": {
                        "application/json": {"schema": answer},
                        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
                    },
                },
                "default": {
                    "description": "what went wrong",
                    "content": {"application/json": {"schema": _ERROR}},
                },
            },
        }
        if self._card.description:
            operation["description"] = self._card.description
        return operation

    def _query(self) -> list[dict[str, Any]]:
        whole = self.schemas[f"{self._prefix}_parameters"]
        required = whole.get("required", [])
        return [
            {"name": name, "in": "query", "required": name in required, "schema": schema}
            for name, schema in whole.get("properties", {}).items()
        ]

    def _taken(self) -> frozenset[str]:
        properties = resolved(self._card.parameters, self._card.parameters).get("properties", {})
        return frozenset(properties if isinstance(properties, Mapping) else ())

    def _take(self, part: str, schema: Any) -> Schema:
        """Take over a schema and its definitions; returns a reference to it."""
        prefix, key = f"{self._prefix}_{part}", "#/components/schemas/"
        root = schema if isinstance(schema, Mapping) else {}
        known = {
            name: definition
            for table in ("$defs", "definitions")
            if isinstance(root.get(table), Mapping)
            for name, definition in root[table].items()
            if re.fullmatch(r"[A-Za-z0-9._-]+", str(name))
        }

        def refer(reference: str) -> str | None:
            found = _LOCAL.fullmatch(reference)
            return f"{key}{prefix}.{found[1]}" if found and found[1] in known else None

        for name, definition in known.items():
            self.schemas[f"{prefix}.{name}"] = sound(definition, refer)
        self.schemas[prefix] = sound(resolved(root, root), refer)
        return {"$ref": f"{key}{prefix}"}


def _options(taken: frozenset[str]) -> list[dict[str, Any]]:
    """How to call, rather than what with; under another name where the service has a parameter of this one."""
    known: dict[str, tuple[Schema, str]] = {
        "timeout": (
            {"type": "number", "exclusiveMinimum": 0, "default": 30},
            "seconds to wait for the answer",
        ),
        "all": ({"type": "boolean", "default": False}, "call every worker that offers it"),
    }
    return [
        {
            "name": f"_{name}" if name in taken else name,
            "in": "query",
            "required": False,
            "schema": schema,
            "description": text,
        }
        for name, (schema, text) in known.items()
    ]


def sound(schema: Any, refer: Callable[[str], str | None] = lambda _: None, depth: int = 0) -> Any:
    """Return what is well-formed of a JSON Schema.

    Args:
        schema: anything.
        refer: turns a reference into the one to put in its place, or None to leave it out.
        depth: of the schema in the whole; very deep ones are cut off.
    """
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return {}
    found: Schema = {}
    for keyword, value in schema.items():
        take = _KEYWORDS.get(keyword)
        kept = take(value, refer, depth) if take is not None else None
        if kept is not None:
            found[keyword] = kept
    return found


_Take = Callable[[Any, Callable[[str], str | None], int], Any]


def _one(value: Any, refer: Callable[[str], str | None], depth: int) -> Any:
    return sound(value, refer, depth + 1) if isinstance(value, Mapping | bool) else None


def _several(value: Any, refer: Callable[[str], str | None], depth: int) -> Any:
    return [sound(one, refer, depth + 1) for one in value] if isinstance(value, list) and value else None


def _named(value: Any, refer: Callable[[str], str | None], depth: int) -> Any:
    if not isinstance(value, Mapping):
        return None
    return {str(name): sound(one, refer, depth + 1) for name, one in value.items()}


def _if(holds: Callable[[Any], bool]) -> _Take:
    return lambda value, _, __: value if holds(value) else None


def _reference(value: Any, refer: Callable[[str], str | None], _: int) -> Any:
    return refer(value) if isinstance(value, str) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value)) and len(set(value)) == len(value)


def _is_type(value: Any) -> bool:
    return (
        value in _TYPES
        if isinstance(value, str)
        else bool(value) and _are_texts(value) and set(value) <= _TYPES
    )


def _is_pattern(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(re.compile(value))
    except (re.error, RecursionError, OverflowError):
        return False


_KEYWORDS: dict[str, _Take] = {
    "$ref": _reference,
    "type": _if(_is_type),
    "title": _if(_is_text),
    "description": _if(_is_text),
    "format": _if(_is_text),
    "pattern": _if(_is_pattern),
    "default": _if(lambda value: value is not None),
    "const": _if(lambda value: value is not None),
    "enum": _if(lambda value: isinstance(value, list) and bool(value)),
    "required": _if(_are_texts),
    "uniqueItems": _if(lambda value: isinstance(value, bool)),
    "minimum": _if(_is_number),
    "maximum": _if(_is_number),
    "exclusiveMinimum": _if(_is_number),
    "exclusiveMaximum": _if(_is_number),
    "multipleOf": _if(lambda value: _is_number(value) and value > 0),
    "minLength": _if(_is_size),
    "maxLength": _if(_is_size),
    "minItems": _if(_is_size),
    "maxItems": _if(_is_size),
    "properties": _named,
    "additionalProperties": _one,
    "items": _one,
    "not": _one,
    "prefixItems": _several,
    "allOf": _several,
    "anyOf": _several,
    "oneOf": _several,
}
