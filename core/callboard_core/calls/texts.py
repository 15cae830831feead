"""Arguments that people and URLs give as texts, read as a worker's JSON Schema wants them. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

__all__ = ["ArgumentReader", "read_arguments", "resolved"]

Schema = Mapping[str, Any]

#: Words people use for booleans.
_BOOLEANS = {
    "true": True,
    "on": True,
    "yes": True,
    "1": True,
    "false": False,
    "off": False,
    "no": False,
    "0": False,
}
_WHOLE = re.compile(r"[+-]?\d+")
#: References followed from one schema to the next; more go in a circle.
_DEEPEST = 32
#: Alternatives that are tried.
_MOST = 64
_ABSENT = object()
_ANYTHING: list[Schema] = [{}]
_NO_TYPES: frozenset[str] = frozenset()


class ArgumentReader:
    """Reads arguments as one schema says; what it has found out about a name it remembers.

    Args:
        schema: JSON Schema of the arguments' object; of what it does not describe, JSON is taken as such, else text.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        properties = resolved(schema, schema).get("properties", {})
        #: The names that the schema knows.
        self.names: frozenset[str] = frozenset(properties if isinstance(properties, Mapping) else ())
        self._choices = {name: _choices(properties[name], schema) for name in self.names}

    def read(self, texts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Read arguments; several texts are a list's items.

        A text that cannot be read as what is wanted stays one, so that the check names it.
        """
        return {name: self._read(name, given) for name, given in texts.items()}

    def _read(self, name: str, given: Sequence[str]) -> Any:
        options = self._choices.get(name, _ANYTHING)
        if len(given) == 1:
            return _read(options, given[0], self.schema)
        items: Any = next((one.get("items", {}) for one in options if "array" in _types(one)), {})
        return [_read(_choices(items, self.schema), text, self.schema) for text in given]


def read_arguments(schema: Schema, texts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Read arguments as a schema says; see :class:`ArgumentReader`."""
    return ArgumentReader(schema).read(texts)


def resolved(schema: Any, root: Schema) -> Schema:
    """Return a schema itself where it is only a reference into ``root``; what is none, or a circle, is empty."""
    for _ in range(_DEEPEST):
        if not isinstance(schema, Mapping):
            return {}
        if "$ref" not in schema:
            return schema
        found: Any = root
        for part in str(schema["$ref"]).removeprefix("#").strip("/").split("/"):
            if part and isinstance(found, Mapping):
                found = found.get(part.replace("~1", "/").replace("~0", "~"), {})
        schema = found
    return {}


def _choices(schema: Any, root: Schema) -> list[Schema]:
    """The schemas among which a value may choose; of very many the first ones."""
    return list(islice(_options(schema, root), _MOST))


def _options(schema: Any, root: Schema, depth: int = 0) -> Iterable[Schema]:
    found = resolved(schema, root)
    parts = [part for key in ("anyOf", "oneOf", "allOf") for part in _listed(found.get(key))]
    if not parts or depth > _DEEPEST:
        yield found
        return
    for part in parts:
        yield from _options(part, root, depth + 1)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _types(schema: Schema) -> frozenset[str]:
    wanted = schema.get("type")
    if isinstance(wanted, str):
        return frozenset((wanted,))
    return frozenset(one for one in wanted if isinstance(one, str)) if isinstance(wanted, list) else _NO_TYPES


def _read(options: list[Schema], text: str, root: Schema) -> Any:
    for option in options:
        for value in (
            _listed(option["enum"]) if "enum" in option else [option["const"]] if "const" in option else []
        ):
            if text == value or text == json.dumps(value):
                return value
    types = _NO_TYPES.union(*map(_types, options))
    if not types and not any("enum" in one or "const" in one for one in options):
        return _from_json(text, text)
    for kind in ("null", "boolean", "integer", "number", "object"):
        if kind in types and (value := _READERS[kind](text)) is not _ABSENT:
            return value
    if "array" in types and (value := _read_list(options, text, root)) is not _ABSENT:
        return value
    return text


def _read_list(options: list[Schema], text: str, root: Schema) -> Any:
    found = _from_json(text, _ABSENT)
    if isinstance(found, list):
        return found
    if any("string" in _types(one) for one in options):
        return _ABSENT
    items: Any = next((one.get("items", {}) for one in options if "array" in _types(one)), {})
    return [_read(_choices(items, root), part, root) for part in text.split(",")] if text else []


def _read_null(text: str) -> Any:
    return None if text in {"null", "none", "None"} else _ABSENT


def _read_boolean(text: str) -> Any:
    return _BOOLEANS.get(text.lower(), _ABSENT)


def _read_whole(text: str) -> Any:
    if _WHOLE.fullmatch(text) and len(text) <= 400:  # noqa: PLR2004 - digits; longer ones are no number anybody means
        return int(text)
    return _ABSENT


def _read_number(text: str) -> Any:
    if (whole := _read_whole(text)) is not _ABSENT:
        return whole
    try:
        value = float(text)
    except ValueError:
        return _ABSENT
    return value if math.isfinite(value) else _ABSENT


def _read_object(text: str) -> Any:
    found = _from_json(text, _ABSENT)
    return found if isinstance(found, dict) else _ABSENT


_READERS = {
    "null": _read_null,
    "boolean": _read_boolean,
    "integer": _read_whole,
    "number": _read_number,
    "object": _read_object,
}


def _from_json(text: str, otherwise: Any) -> Any:
    try:
        return json.loads(text, parse_constant=lambda _: text)
    except (ValueError, RecursionError):
        return otherwise
