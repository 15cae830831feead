"""Settings: one model, filled from defaults < TOML file < ``CALLBOARD_…`` environment < flags.

``model`` says what can be set, ``loader`` fills any such model and remembers where each value came from.
"""

from callboard_core.settings.farm import Farm, FarmRetry, FarmSchedule
from callboard_core.settings.loader import Flag, Loaded, Row, Secret, TomlName, load, variable
from callboard_core.settings.model import (
    Artifacts,
    AuditLog,
    BrokerDurability,
    BrokerLimits,
    Console,
    Database,
    Discovery,
    History,
    Http,
    Lan,
    LaneSettings,
    Mqtt,
    NodeSettings,
    Registry,
    Settings,
    default_config_file,
    default_state_dir,
    load_settings,
    read_secret,
)

__all__ = [
    "Artifacts",
    "AuditLog",
    "BrokerDurability",
    "BrokerLimits",
    "Console",
    "Database",
    "Discovery",
    "Farm",
    "FarmRetry",
    "FarmSchedule",
    "Flag",
    "History",
    "Http",
    "Lan",
    "LaneSettings",
    "Loaded",
    "Mqtt",
    "NodeSettings",
    "Registry",
    "Row",
    "Secret",
    "Settings",
    "TomlName",
    "default_config_file",
    "default_state_dir",
    "load",
    "load_settings",
    "read_secret",
    "variable",
]
