"""Arguments against a worker's JSON Schema, before they are sent. Pure.

Checked is what schemas of functions' parameters are made of; keywords not known here are left to the worker.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from callboard_core.errors import BadPayload

__all__ = ["check_arguments"]

_log = logging.getLogger("callboard.calls")

Schema = Mapping[str, Any]

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
#: keyword → (does the value satisfy it?, what is expected)
_BOUNDS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "minimum": (lambda value, bound: value >= bound, "at least {}"),
    "maximum": (lambda value, bound: value <= bound, "at most {}"),
    "exclusiveMinimum": (lambda value, bound: value > bound, "more than {}"),
    "exclusiveMaximum": (lambda value, bound: value < bound, "less than {}"),
}
_SIZES: dict[str, tuple[Callable[[int, int], bool], str]] = {
    "minLength": (lambda size, bound: size >= bound, "at least {} characters"),
    "maxLength": (lambda size, bound: size <= bound, "at most {} characters"),
    "minItems": (lambda size, bound: size >= bound, "at least {} items"),
    "maxItems": (lambda size, bound: size <= bound, "at most {} items"),
}
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


def _check(schema: Any, value: Any, path: str, root: Schema) -> None:
    if schema is False:
        raise _wrong(path, "nothing is expected here")
    if not isinstance(schema, Mapping) or _is_opaque(value):
        return
    if "$ref" in schema:
        _check(_resolve(str(schema["$ref"]), root), value, path, root)
    _check_type(schema, value, path)
    _check_choice(schema, value, path)
    _check_combined(schema, value, path, root)
    if isinstance(value, Mapping):
        _check_object(schema, value, path, root)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        _check_sizes(schema, len(value), path, "Items")
        _check_items(schema, value, path, root)
    elif isinstance(value, str):
        _check_text(schema, value, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(schema, value, path)


def _is_opaque(value: Any) -> bool:
    return isinstance(value, _OPAQUE) or hasattr(value, "__array_interface__")


def _resolve(reference: str, root: Schema) -> Any:
    found: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        found = (
            found.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, Mapping) else {}
        )
    return found


def _check_type(schema: Schema, value: Any, path: str) -> None:
    wanted = schema.get("type")
    if wanted is None:
        return
    kinds = [wanted] if isinstance(wanted, str) else list(wanted)
    if not any(_is_a(kind, value) for kind in kinds):
        raise _wrong(
            path, f"expected {' or '.join(_WORDS.get(kind, kind) for kind in kinds)}, got {_short(value)}"
        )


def _is_a(kind: str, value: Any) -> bool:
    if isinstance(value, bool):
        return kind not in _PYTHON or kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    if kind == "array" and isinstance(value, str):
        return False
    return isinstance(value, _PYTHON.get(kind, object))


def _check_choice(schema: Schema, value: Any, path: str) -> None:
    options = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if options is not None and not any(_same(value, option) for option in options):
        raise _wrong(path, f"expected {' or '.join(map(repr, options))}, got {_short(value)}")


def _same(value: Any, option: Any) -> bool:
    return bool(value == option) and isinstance(value, bool) == isinstance(option, bool)


def _check_combined(schema: Schema, value: Any, path: str, root: Schema) -> None:
    for part in schema.get("allOf", ()):
        _check(part, value, path, root)
    for keyword in ("anyOf", "oneOf"):
        parts = schema.get(keyword, ())
        if not parts:
            continue
        errors = [error for error in (_error(part, value, path, root) for part in parts) if error is not None]
        if len(errors) == len(parts):
            raise max(errors, key=lambda error: len(error.key))  # the one that got furthest


def _error(schema: Any, value: Any, path: str, root: Schema) -> BadPayload | None:
    try:
        _check(schema, value, path, root)
    except BadPayload as error:
        return error
    return None


def _check_object(schema: Schema, value: Mapping[str, Any], path: str, root: Schema) -> None:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            raise _wrong(_join(path, name), "missing; it is required")
    others = schema.get("additionalProperties", True)
    for name, item in value.items():
        if name in properties:
            _check(properties[name], item, _join(path, name), root)
        elif others is False:
            raise _wrong(_join(path, name), f"unknown; known are {', '.join(properties) or 'none'}")
        else:
            _check(others, item, _join(path, name), root)


def _check_items(schema: Schema, value: Sequence[Any], path: str, root: Schema) -> None:
    first = schema.get("prefixItems", ())
    for position, item in enumerate(value):
        part = first[position] if position < len(first) else schema.get("items", True)
        _check(part, item, _join(path, str(position)), root)
    if schema.get("uniqueItems") and any(item in value[:position] for position, item in enumerate(value)):
        raise _wrong(path, "expected no item twice")


def _check_text(schema: Schema, value: str, path: str) -> None:
    _check_sizes(schema, len(value), path, "Length")
    pattern = schema.get("pattern")
    if pattern is not None and not re.search(pattern, value):
        raise _wrong(path, f"expected a text like {pattern}, got {_short(value)}")


def _check_sizes(schema: Schema, size: int, path: str, what: str) -> None:
    for keyword in (f"min{what}", f"max{what}"):
        if keyword in schema and not _SIZES[keyword][0](size, schema[keyword]):
            raise _wrong(path, f"expected {_SIZES[keyword][1].format(schema[keyword])}, got {size}")


def _check_number(schema: Schema, value: float, path: str) -> None:
    if not math.isfinite(value):
        raise _wrong(path, f"{value} is not a finite number")
    for keyword, (holds, words) in _BOUNDS.items():
        if keyword in schema and not holds(value, schema[keyword]):
            raise _wrong(path, f"expected {words.format(schema[keyword])}, got {_short(value)}")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"  # noqa: PLR2004 - that fits in a line


def _wrong(path: str, what: str) -> BadPayload:
    return BadPayload(f"{path}: {what}" if path else what, key=path)
