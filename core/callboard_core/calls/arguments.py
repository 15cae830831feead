"""Arguments against a worker's JSON Schema, before they are sent. Pure.

Checked is what schemas of functions' parameters are made of; keywords not known here are left to the worker.
"""

from __future__ import annotations

import logging
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from callboard_core.errors import BadPayload

__all__ = ["check_arguments", "checker"]

_log = logging.getLogger("callboard.calls")

Schema = Mapping[str, Any]
#: Checks one keyword of a schema: (schema, value, path of the value, whole schema).
Check = Callable[[Schema, Any, str, Schema], None]

_WORDS = {
    "object": "an object",
    "array": "a list",
    "string": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "null",
}
_PYTHON: dict[str, Any] = {
    "object": Mapping,
    "array": Sequence,
    "string": str,
    "number": int | float,
    "integer": int,
    "boolean": bool,
    "null": type(None),
}
#: Those whose values are right whatever they are.
_EXACT: dict[str, type] = {"string": str, "number": float, "integer": int, "boolean": bool}
_SIMPLE_KEYS = frozenset({"type", "properties", "required", "additionalProperties", "title", "description"})
#: Keywords that forbid nothing, and the one that is looked at.
_SILENT_KEYS = frozenset({"type", "title", "description", "default", "examples"})
#: Values of these are checked by the worker; here they have no JSON form.
_OPAQUE = (bytes, bytearray, memoryview)


def check_arguments(schema: Schema, args: Mapping[str, Any]) -> None:
    """Check a call's arguments.

    Args:
        schema: JSON Schema of the arguments' object; an empty one takes anything.
        args: the arguments.

    Raises:
        BadPayload: an argument is missing, unknown or wrong; ``key`` and the message name it.
    """
    if not schema:
        return
    try:
        _check(schema, args, "", schema)
    except RecursionError:
        _log.debug("a schema that refers to itself without end is left to the worker")


def checker(schema: Schema) -> Callable[[Mapping[str, Any]], None]:
    """Return what checks arguments as :func:`check_arguments` does, sooner where these are simple and right."""
    kinds = _simple(schema)
    if kinds is None:
        return lambda args: check_arguments(schema, args)
    required = frozenset(schema.get("required", ()))

    def check(args: Mapping[str, Any]) -> None:
        for name, value in args.items():
            kind: type[Any] | None = kinds.get(name)
            if type(value) is not kind or (kind is float and value - value != 0.0):
                break
        else:
            if required <= args.keys():
                return
        check_arguments(schema, args)

    return check


def _simple(schema: Schema) -> dict[str, type] | None:
    """The type of each argument, if the schema says no more about them."""
    if not schema.keys() <= _SIMPLE_KEYS or schema.get("type") != "object":
        return None
    kinds: dict[str, type] = {}
    for name, part in schema.get("properties", {}).items():
        kind = _EXACT.get(part.get("type")) if isinstance(part.get("type"), str) else None
        if kind is None or not part.keys() <= _SILENT_KEYS:
            return None
        kinds[name] = kind
    return kinds


def _check(schema: Any, value: Any, path: str, root: Schema) -> None:
    if schema is False:
        raise _wrong(path, "nothing is expected here")
    if not isinstance(schema, Mapping) or _is_opaque(value):
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise _wrong(path, f"{value} is not a finite number")
    for keyword in schema:
        check = _KEYWORDS.get(keyword)
        if check is not None:
            check(schema, value, path, root)


def _is_opaque(value: Any) -> bool:
    return isinstance(value, _OPAQUE) or hasattr(value, "__array_interface__")


# -- keywords of any value -----------------------------------------------------------------------------------


def _ref(schema: Schema, value: Any, path: str, root: Schema) -> None:
    found: Any = root
    for part in str(schema["$ref"]).removeprefix("#").strip("/").split("/"):
        if part and isinstance(found, Mapping):
            found = found.get(part.replace("~1", "/").replace("~0", "~"), {})
    _check(found, value, path, root)


def _type(schema: Schema, value: Any, path: str, _: Schema) -> None:
    wanted = schema["type"]
    kinds = [wanted] if isinstance(wanted, str) else list(wanted)
    if not any(_is_a(kind, value) for kind in kinds):
        words = " or ".join(_WORDS.get(kind, kind) for kind in kinds)
        raise _wrong(path, f"expected {words}, got {_short(value)}")


def _is_a(kind: str, value: Any) -> bool:
    if isinstance(value, bool):
        return kind not in _PYTHON or kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    if kind == "array" and isinstance(value, str):
        return False
    return isinstance(value, _PYTHON.get(kind, object))


def _choice(schema: Schema, value: Any, path: str, _: Schema) -> None:
    options = schema["enum"] if "enum" in schema else [schema["const"]]
    if not any(_same(value, option) for option in options):
        raise _wrong(path, f"expected {' or '.join(map(repr, options))}, got {_short(value)}")


def _same(value: Any, option: Any) -> bool:
    return bool(value == option) and isinstance(value, bool) == isinstance(option, bool)


def _all(schema: Schema, value: Any, path: str, root: Schema) -> None:
    for part in schema["allOf"]:
        _check(part, value, path, root)


def _any(keyword: str) -> Check:
    def check(schema: Schema, value: Any, path: str, root: Schema) -> None:
        errors = [_error(part, value, path, root) for part in schema[keyword]]
        found = [error for error in errors if error is not None]
        if found and len(found) == len(errors):
            raise max(found, key=lambda error: len(error.key))  # the one that got furthest

    return check


def _error(schema: Any, value: Any, path: str, root: Schema) -> BadPayload | None:
    try:
        _check(schema, value, path, root)
    except BadPayload as error:
        return error
    return None


# -- keywords of objects, lists, texts and numbers -----------------------------------------------------------


def _required(schema: Schema, value: Any, path: str, _: Schema) -> None:
    if isinstance(value, Mapping):
        for name in schema["required"]:
            if name not in value:
                raise _wrong(_join(path, name), "missing; it is required")


def _properties(schema: Schema, value: Any, path: str, root: Schema) -> None:
    if isinstance(value, Mapping):
        for name, part in schema["properties"].items():
            if name in value:
                _check(part, value[name], _join(path, name), root)


def _additional(schema: Schema, value: Any, path: str, root: Schema) -> None:
    if not isinstance(value, Mapping):
        return
    known, others = schema.get("properties", {}), schema["additionalProperties"]
    for name in value:
        if name not in known:
            if others is False:
                raise _wrong(_join(path, name), f"unknown; known are {', '.join(known) or 'none'}")
            _check(others, value[name], _join(path, name), root)


def _items(schema: Schema, value: Any, path: str, root: Schema) -> None:
    if _is_a("array", value):
        first = len(schema.get("prefixItems", ()))
        for position, item in enumerate(value[first:], first):
            _check(schema["items"], item, _join(path, str(position)), root)


def _prefix(schema: Schema, value: Any, path: str, root: Schema) -> None:
    if _is_a("array", value):
        for position, (part, item) in enumerate(zip(schema["prefixItems"], value, strict=False)):
            _check(part, item, _join(path, str(position)), root)


def _unique(schema: Schema, value: Any, path: str, _: Schema) -> None:
    if schema["uniqueItems"] and _is_a("array", value):
        twice = any(_same(item, other) for place, item in enumerate(value) for other in value[:place])
        if twice:
            raise _wrong(path, "expected no item twice")


def _pattern(schema: Schema, value: Any, path: str, _: Schema) -> None:
    if isinstance(value, str) and not re.search(schema["pattern"], value):
        raise _wrong(path, f"expected a text like {schema['pattern']}, got {_short(value)}")


def _bound(keyword: str, holds: Callable[[Any, Any], bool], words: str) -> Check:
    def check(schema: Schema, value: Any, path: str, _: Schema) -> None:
        if _is_a("number", value) and not holds(value, schema[keyword]):
            raise _wrong(path, f"expected {words} {schema[keyword]}, got {_short(value)}")

    return check


def _size(keyword: str, kind: str, holds: Callable[[Any, Any], bool], words: str) -> Check:
    def check(schema: Schema, value: Any, path: str, _: Schema) -> None:
        if _is_a(kind, value) and not holds(len(value), schema[keyword]):
            raise _wrong(path, f"expected {words.format(schema[keyword])}, got {len(value)}")

    return check


_KEYWORDS: dict[str, Check] = {
    "$ref": _ref,
    "type": _type,
    "enum": _choice,
    "const": _choice,
    "allOf": _all,
    "anyOf": _any("anyOf"),
    "oneOf": _any("oneOf"),
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "items": _items,
    "prefixItems": _prefix,
    "uniqueItems": _unique,
    "pattern": _pattern,
    "minimum": _bound("minimum", operator.ge, "at least"),
    "maximum": _bound("maximum", operator.le, "at most"),
    "exclusiveMinimum": _bound("exclusiveMinimum", operator.gt, "more than"),
    "exclusiveMaximum": _bound("exclusiveMaximum", operator.lt, "less than"),
    "minLength": _size("minLength", "string", operator.ge, "at least {} characters"),
    "maxLength": _size("maxLength", "string", operator.le, "at most {} characters"),
    "minItems": _size("minItems", "array", operator.ge, "at least {} items"),
    "maxItems": _size("maxItems", "array", operator.le, "at most {} items"),
}


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"  # noqa: PLR2004 - that fits in a line


def _wrong(path: str, what: str) -> BadPayload:
    return BadPayload(f"{path}: {what}" if path else what, key=path)
