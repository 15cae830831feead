"""Hardware declared in TOML: ``[[sensor]]`` and ``[[control]]`` tables become sensors and controls.

Drivers are imported only when a table names them, and what they drive only when it is first read.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import JsonValue, ValidationError

from callboard_core.errors import BadRequest
from callboard_core.messages import describe
from callboard_nodes.things import Thing

__all__ = ["things"]

_PACKAGE = "callboard_nodes.hardware"
#: Driver → module, for each kind of table. A module offers the ``Table`` of its settings and ``things(table)``.
_DRIVERS: dict[str, dict[str, str]] = {
    "sensor": {
        "bme280": "bme280",
        "mcp9808": "mcp9808",
        "ads1115": "ads1115",
        "ds18b20": "ds18b20",
        "gpio": "gpio_input",
    },
    "control": {"gpio": "gpio_output"},
}


def things(
    sensors: Iterable[Mapping[str, JsonValue]] = (), controls: Iterable[Mapping[str, JsonValue]] = ()
) -> list[Thing]:
    """Make sensors and controls of the tables of a settings file.

    Args:
        sensors: the ``[[sensor]]`` tables, in order.
        controls: the ``[[control]]`` tables, in order.

    Raises:
        BadRequest: a table is wrong; the message names the table, its driver and the key.
    """
    found: list[Thing] = []
    for kind, tables in (("sensor", sensors), ("control", controls)):
        for number, table in enumerate(tables, 1):
            found += _of_table(kind, number, dict(table))
    return found


def _of_table(kind: str, number: int, table: dict[str, Any]) -> list[Thing]:
    driver = table.get("driver")
    where = f"[[{kind}]] number {number}"
    if driver is None:
        raise BadRequest(f"{where}: driver is missing; one of {', '.join(_DRIVERS[kind])}")
    if not isinstance(driver, str) or driver not in _DRIVERS[kind]:
        raise BadRequest(
            f"{where}: driver: {driver!r} is not one of {', '.join(_DRIVERS[kind])}{_hint(driver, _DRIVERS[kind])}"
        )
    module = importlib.import_module(f"{_PACKAGE}.{_DRIVERS[kind][driver]}")
    for key in table.keys() - module.Table.model_fields.keys():
        hint = _hint(key, module.Table.model_fields)
        raise BadRequest(f"{where} (driver {driver!r}): {key}: unknown key{hint}")
    try:
        made: list[Thing] = module.things(module.Table.model_validate(table))
    except ValidationError as error:
        raise BadRequest(f"{where} (driver {driver!r}): {describe(error).message}") from None
    except BadRequest as error:
        raise BadRequest(f"{where} (driver {driver!r}): {error.message}") from None
    return made


def _hint(given: object, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(given).lower(), list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else ""
