"""Settings of the farm as rows; a change holds at once, and over the next start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pydantic import JsonValue

from callboard_broker.services.farm.items.base import Filters, Row, Table, Values
from callboard_broker.services.farm.service import Farm
from callboard_broker.services.farm.tuning import changed, leaves, value_of
from callboard_core.settings import Farm as FarmSettings

__all__ = ["SettingValues", "Settings"]


class SettingValues(Values):
    """A new value."""

    value: JsonValue


class NoValues(Values):
    """Nothing can be given."""


class Settings(Table):
    """All settings of the farm. Deleting one gives it its configured value again.

    Args:
        farm: whose.
        configured: as file, environment and flags have them.
    """

    name = "setting"
    aliases = ("settings",)
    creates = "settings are there; update one"
    updates = SettingValues
    deletes = NoValues
    needs = ()
    fields: Mapping[str, str] = {
        "name": "as below farm. in the settings file",
        "value": "in force",
        "configured": "what it is without changes made here",
        "changed": "it was changed here",
        "description": "for people",
    }

    def __init__(self, farm: Farm, configured: FarmSettings) -> None:
        self._farm = farm
        self._configured = configured

    def rows(self, filters: Filters) -> Iterable[Row]:
        """See :class:`~callboard_broker.services.farm.items.base.Item`."""
        del filters
        current = self._farm.core.settings
        return [self._row(name, text, current) for name, text in leaves(FarmSettings).items()]

    def _row(self, name: str, text: str, current: FarmSettings) -> Row:
        value, configured = value_of(current, name), value_of(self._configured, name)
        return {
            "name": name,
            "value": value,
            "configured": configured,
            "changed": value != configured,
            "description": text,
        }

    def update(self, rows: Sequence[Row], values: SettingValues) -> None:
        """Change settings."""
        core = self._farm.core
        core.settings = changed(core.settings, {row["name"]: values.value for row in rows})
        for row in rows:
            core.ledger.setting(row["name"], values.value)
        core.due = True

    def delete(self, rows: Sequence[Row], values: NoValues) -> None:
        """Give settings their configured values again."""
        del values
        core = self._farm.core
        core.settings = changed(core.settings, {row["name"]: row["configured"] for row in rows})
        for row in rows:
            core.ledger.no_setting(row["name"])
        core.due = True
