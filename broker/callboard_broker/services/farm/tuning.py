"""Settings of the farm that are changed while it runs: by dotted name, checked like those of the settings file. Pure."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, JsonValue, ValidationError

from callboard_core.errors import BadRequest
from callboard_core.messages import describe
from callboard_core.settings import Farm as FarmSettings

__all__ = ["changed", "leaves", "value_of", "with_changes"]

_log = logging.getLogger(__name__)


def leaves(model: type[BaseModel], before: str = "") -> dict[str, str]:
    """Return every setting's dotted name and description."""
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= leaves(kind, f"{before}{name}.")
        else:
            found[before + name] = field.description or ""
    return found


def value_of(settings: BaseModel, name: str) -> JsonValue:
    """Return a setting's value by its dotted name."""
    found: Any = settings
    for part in name.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]  # settings are JSON values


def changed(settings: FarmSettings, changes: Mapping[str, JsonValue]) -> FarmSettings:
    """Return settings with some of them changed.

    Raises:
        BadRequest: there is no such setting, or it cannot have this value.
    """
    document = settings.model_dump()
    for name, value in changes.items():
        *path, last = name.split(".")
        part = document
        for step in path:
            part = part.get(step, {})
        if last not in part or name not in leaves(FarmSettings):
            raise BadRequest(f"setting {name!r} is unknown; there are {', '.join(leaves(FarmSettings))}")
        part[last] = value
    try:
        return FarmSettings.model_validate(document)
    except ValidationError as error:
        raise BadRequest(describe(error).message) from None


def with_changes(settings: FarmSettings, rows: Iterable[Any]) -> FarmSettings:
    """Return settings with stored changes; one that does not fit this version any more is left out."""
    for row in rows:
        try:
            settings = changed(settings, {row.name: json.loads(row.value)})
        except (BadRequest, ValueError) as error:
            _log.warning("the stored setting %s of the farm is left out: %s", row.name, error)
    return settings
