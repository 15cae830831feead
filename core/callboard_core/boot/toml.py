"""Writes TOML: what the standard library reads (``tomllib``) and cannot write. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from callboard_core.errors import BadRequest

__all__ = ["dump"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def dump(table: Mapping[str, JsonValue]) -> str:
    """Return a table as TOML text.

    Raises:
        BadRequest: a value is null, which TOML does not have.
    """
    return "".join(_lines(table, ())).lstrip("\n")


def _lines(table: Mapping[str, JsonValue], path: tuple[str, ...]) -> Iterator[str]:
    # A plain value after a table's header would belong to that table.
    for key, value in table.items():
        if not isinstance(value, dict) and not _is_tables(value):
            yield f"{_key(key)} = {_value(value, (*path, key))}\n"
    for key, value in table.items():
        here = (*path, key)
        if isinstance(value, dict):
            yield f"\n[{_dotted(here)}]\n"
            yield from _lines(value, here)
        elif isinstance(value, list) and _is_tables(value):
            for each in value:
                yield f"\n[[{_dotted(here)}]]\n"
                yield from _lines(each, here)  # type: ignore[arg-type]  # _is_tables has looked


def _is_tables(value: JsonValue) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(map(_key, path))


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _string(key)


def _value(value: JsonValue, path: tuple[str, ...]) -> str:
    match value:
        case None:
            raise BadRequest(f"{'.'.join(path)} is null; leave it out")
        case str():
            return _string(value)
        case list():
            return f"[{', '.join(_value(each, path) for each in value)}]"
        case dict():
            return f"{{{', '.join(f'{_key(key)} = {_value(each, path)}' for key, each in value.items())}}}"
        case _:
            return json.dumps(value)


def _string(text: str) -> str:
    # JSON's strings are TOML's, but for the one control character that JSON lets through.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
