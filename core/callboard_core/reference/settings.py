"""The page on settings, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from callboard_core.reference.schemas import key_type
from callboard_core.reference.topics import table
from callboard_core.settings import Settings, variable

__all__ = ["settings_page"]

_INTRODUCTION = """\
# Settings

Made from the code by `make docs`; a test compares the two.

Each setting has a default and can be set in a TOML file, in the environment, and (the common ones) by a flag; the later
one wins. An unknown key, in the file or among the `CALLBOARD_` variables, is an error. `callboard doctor` prints what is
in force and where each value came from.

The file is `$CALLBOARD_CONFIG`, or else `$XDG_CONFIG_HOME/callboard/callboard.toml` (`~/.config/callboard/callboard.toml`).
In it, `mqtt.port` is the key `port` of the section `[mqtt]`; `sensors` and `controls` are written as `[[sensor]]` and
`[[control]]` tables. In the environment, lists are written `a,b` or as JSON, tables as JSON.
"""


def settings_page() -> str:
    """The whole page."""
    schema = Settings.model_json_schema()
    rows = (_row(key, held, schema["$defs"]) for key, held in _walk(schema, schema["$defs"]))
    return "\n".join([_INTRODUCTION, table(("Setting", "Variable", "Holds", "Default", ""), rows)])


def _walk(
    section: dict[str, Any], parts: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, held in section["properties"].items():
        if "$ref" in held:
            yield from _walk(parts[held["$ref"].rsplit("/", 1)[-1]], parts, f"{prefix}{name}.")
        else:
            yield prefix + name, held


def _row(key: str, held: dict[str, Any], parts: dict[str, Any]) -> tuple[str, ...]:
    default = held.get("default")
    shown = (
        ""
        if default in (None, "", ".")
        else f"`{default if isinstance(default, str) else json.dumps(default)}`"
    )
    return f"`{key}`", f"`{variable(key)}`", key_type(held, parts), shown, held.get("description", "")
