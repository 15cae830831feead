"""Everything that can be set, with its default. Both the board's and the node's settings live here."""

from __future__ import annotations

import ipaddress
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from callboard_core.addresses import join_address, split_address
from callboard_core.errors import BadRequest
from callboard_core.settings.broker import BrokerDurability, BrokerLimits
from callboard_core.settings.farm import Farm
from callboard_core.settings.loader import Flag, Loaded, Secret, TomlName, load
from callboard_core.topics import check_id, slug

__all__ = [
    "Artifacts",
    "AuditLog",
    "BrokerDurability",
    "BrokerLimits",
    "Console",
    "Database",
    "Discovery",
    "History",
    "Http",
    "Lan",
    "LaneSettings",
    "Mqtt",
    "NodeFarm",
    "NodeSettings",
    "Registry",
    "Settings",
    "default_config_file",
    "default_state_dir",
    "load_settings",
    "read_secret",
]

#: Names the settings file.
CONFIG_VARIABLE = "CALLBOARD_CONFIG"
#: What the command line logs in with; no settings either.
LOGIN_VARIABLES = ("CALLBOARD_USERNAME", "CALLBOARD_PASSWORD_FILE")
#: Variables of ours that are no settings: that one, and who a person is who uses the command line.
NO_SETTINGS = frozenset(
    {CONFIG_VARIABLE, "CALLBOARD_USERNAME", "CALLBOARD_PASSWORD_FILE", "CALLBOARD_INSTALLED"}
)


def default_state_dir(env: Mapping[str, str] = os.environ) -> Path:
    """``$CALLBOARD_STATE``, ``$XDG_STATE_HOME/callboard`` or ``~/.local/state/callboard``."""
    if env.get("CALLBOARD_STATE"):
        return Path(env["CALLBOARD_STATE"])
    return _xdg(env, "XDG_STATE_HOME", ".local/state") / "callboard"


def default_config_file(env: Mapping[str, str] = os.environ) -> Path:
    """``$XDG_CONFIG_HOME/callboard/callboard.toml`` or ``~/.config/callboard/callboard.toml``."""
    return _xdg(env, "XDG_CONFIG_HOME", ".config") / "callboard" / "callboard.toml"


def read_secret(file: Path) -> str:
    """Return the first line of a password file.

    Raises:
        BadRequest: the file cannot be read or is empty.
    """
    try:
        found = file.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"cannot read the password file {file}: {error}; name another one") from None
    if not found:
        raise BadRequest(f"the password file {file} is empty; write the password on its first line")
    return found


def _xdg(env: Mapping[str, str], variable: str, fallback: str) -> Path:
    # The XDG base directory specification says to ignore relative paths.
    given = Path(env.get(variable, ""))
    return given if given.is_absolute() else Path.home() / fallback


def _hostname_id() -> str:
    try:
        return slug(platform.node().split(".")[0])
    except BadRequest:
        return "node"


def _checked_id(value: str) -> str:
    try:
        return check_id(value)
    except BadRequest as error:
        raise ValueError(error.message) from None


def _absolute(path: Path) -> Path:
    # Child processes may run elsewhere.
    return path.expanduser().absolute()


def _engine(value: str) -> str:
    if value in {"embedded", "mosquitto"} or value.startswith(("mqtt://", "mqtts://")):
        return value
    raise ValueError("should be embedded, mosquitto, or the mqtt:// or mqtts:// URL of a broker")


def _board_url(value: str) -> str:
    if not value or value.startswith(("mqtt://", "mqtts://")) or "://" not in value:
        return value
    raise ValueError("should be mqtt://host[:port], mqtts://host[:port] or host[:port]; empty to discover it")


def _http_url(value: str) -> str:
    if not value or value.startswith(("http://", "https://")):
        return value
    raise ValueError("should be http://host:port or https://host:port; empty for where the board says it is")


def _ip_address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError("should be an IP address; 0.0.0.0 for all of this machine's") from None


def _host(value: str) -> str:
    try:
        return split_address(join_address(value, 1))[0]
    except BadRequest:
        raise ValueError("should be host names or IP addresses, as in board.example.org") from None


Id = Annotated[str, AfterValidator(_checked_id)]
Folder = Annotated[Path, AfterValidator(_absolute)]
#: A TCP port to listen on.
_PORT = "a TCP port from 1 to 65535, or 0 for any free one"
Port = Annotated[int, Field(ge=0, le=65535, description=_PORT)]
Tables = list[dict[str, JsonValue]]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Mqtt(_Section):
    """The broker."""

    bind: str = Field(default="127.0.0.1", description="address to listen on")
    port: Port = 1883
    engine: Annotated[str, Flag("--engine"), AfterValidator(_engine)] = Field(
        default="embedded", description="embedded, mosquitto, or the URL of an existing broker"
    )
    username: str | None = Field(default=None, description="for an existing broker")
    password_file: Folder | None = Field(default=None, description="for an existing broker; one line")
    sys_interval: int = Field(
        default=10,
        ge=1,
        le=3_600,
        description="seconds between two reports under $SYS (embedded and mosquitto)",
    )
    amqtt: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="further listeners (TLS, WebSocket) and plugins of the embedded engine, written as for amqtt",
    )
    limits: BrokerLimits = Field(default_factory=BrokerLimits)
    durability: BrokerDurability = Field(default_factory=BrokerDurability)


class Http(_Section):
    """The HTTP API."""

    bind: str = Field(default="127.0.0.1", description="address to listen on")
    port: Port = 8470


class Console(_Section):
    """The web console."""

    enabled: Annotated[bool, Flag("--no-console")] = Field(default=True, description="true or false")
    bind: str = Field(default="127.0.0.1", description="address to listen on")
    port: Port = 8471


class Lan(_Section):
    """What other machines connect to, all of it encrypted; the listeners above stay as they are."""

    enabled: Annotated[bool, Flag("--lan")] = Field(default=False, description="true or false")
    bind: Annotated[str, AfterValidator(_ip_address)] = Field(
        default="0.0.0.0", description="IP address to listen on"
    )
    mqtt_port: Port = Field(default=8883, description=f"MQTT over TLS; {_PORT}")
    ws_port: Port = Field(default=8884, description=f"MQTT over WebSocket and TLS; {_PORT}")
    http_port: Port = Field(default=8443, description=f"the HTTP API; {_PORT}")
    console_port: Port = Field(default=8444, description=f"the web console; {_PORT}")
    names: list[Annotated[str, AfterValidator(_host)]] = Field(
        default_factory=list,
        description="further names and addresses of this machine, as a router or name server gives them",
    )


class Database(_Section):
    """Where the board keeps nodes, history and logs."""

    url: Annotated[str, Flag("--database")] = Field(
        default="", repr=False, description="a SQLAlchemy URL; empty for sqlite in the state folder"
    )


class History(_Section):
    """How long readings are kept, and how they are written."""

    raw_days: float = Field(default=7, gt=0, description="days to keep every reading")
    minute_days: float = Field(default=90, gt=0, description="days to keep 1-minute figures")
    hour_days: float = Field(default=3650, gt=0, description="days to keep 1-hour figures")
    flush_seconds: float = Field(default=0.5, gt=0, le=60, description="seconds between two writes")
    buffer_readings: int = Field(default=1_000_000, ge=1000, description="readings held while writing stalls")
    min_free_mb: float = Field(
        default=128, ge=0, description="MiB of free disk; below, the oldest readings make room for new ones"
    )


class Artifacts(_Section):
    """Content too large for messages, which the board keeps."""

    limit_mb: int = Field(default=1024, ge=1, le=1024, description="MiB of the largest one")
    keep_mb: int = Field(
        default=20_480,
        ge=1,
        description="MiB for all; beyond, those that nothing refers to and that were used least lately go",
    )
    keep_days: float = Field(
        default=30,
        gt=0,
        description="days after its last use that one is removed, unless something refers to it",
    )
    min_free_mb: float = Field(
        default=1024, ge=0, description="MiB of free disk; below, nothing more is taken in"
    )


class Registry(_Section):
    """The board's list of nodes."""

    forget_after_days: float = Field(
        default=90, gt=0, description="days after which forgetting an offline node is offered"
    )


class AuditLog(_Section):
    """How long the audit log is kept."""

    days: float = Field(default=365, gt=0, description="days to keep who did what")
    records: int = Field(
        default=1_000_000,
        ge=1000,
        description="records kept at most; beyond, the oldest go first, of what was refused before what was done",
    )


class Discovery(_Section):
    """How nodes find the board without being told its address."""

    enabled: bool = Field(default=True, description="true or false")
    port: int = Field(default=18831, ge=1, le=65535, description="a UDP port, the same on board and nodes")
    mdns: bool = Field(default=True, description="true or false")


class NodeFarm(_Section):
    """What this machine does for the farm."""

    slots: Annotated[str, Flag("--slots")] = Field(
        default="auto",
        description="auto: as [[slot]] tables say, else one for each engine found; none; or blender=2,povray=1",
    )
    shared: list[Folder] = Field(
        default_factory=list,
        description="shared folders that jobs may read and write; nothing else is touched",
    )
    variables: dict[str, str] = Field(
        default_factory=dict, description="path variables as this machine has them; they win over a job's"
    )
    scripts: bool = Field(default=False, description="whether jobs may run the scripts in their files")
    cache_mb: float = Field(default=20_480, ge=0, description="MiB of jobs' inputs kept on this machine")
    min_free_mb: float = Field(default=256, ge=0, description="MiB of free disk below which no task is begun")


def _bind(value: str) -> str:
    if value in {"auto", ""}:
        return value
    try:
        ipaddress.ip_address(value)
    except ValueError:
        raise ValueError("should be auto, an IP address, or empty for this host only") from None
    return value


class LaneSettings(_Section):
    """Calls that go straight to a worker's process, past the broker; by this node, and to it."""

    enabled: bool = Field(default=True, description="true or false")
    bind: Annotated[str, AfterValidator(_bind)] = Field(
        default="auto",
        description="address to listen on for callers on other hosts; auto: the one by which the broker is reached, "
        "unless that is on this host; empty: for callers on this host only",
    )
    port: Port = 0


class NodeSettings(_Section):
    """The node agent on this machine."""

    id: Id = Field(default_factory=_hostname_id, description="a-z, 0-9 and '-'; the host's name when not set")
    label: str | None = Field(default=None, description="what people read")
    tags: list[str] = Field(default_factory=list)
    board: Annotated[str, AfterValidator(_board_url)] = Field(
        default="", description="the board's mqtt://host:port; empty to discover it"
    )
    http: Annotated[str, AfterValidator(_http_url)] = Field(
        default="",
        description="the board's HTTP API, http://host:port, where it is not on the broker's machine",
    )
    username: str | None = None
    password: Annotated[str | None, Secret()] = Field(default=None, repr=False)
    password_file: Folder | None = Field(default=None, description="one line; used when password is not set")
    join_file: Folder | None = Field(
        default=None, description="a file with a join code; used once, and emptied or removed then"
    )
    keepalive: int = Field(default=10, ge=1, le=3600, description="seconds; lost after 1.5 times this")
    allow: list[Literal["restart", "reboot", "shutdown", "update", "push", "log", "diagnose"]] = Field(
        default=["restart", "update", "push", "log", "diagnose"],
        description="which of restart, reboot, shutdown, update, push, log and diagnose the board's operators may do",
    )
    files: list[Folder] = Field(
        default_factory=list,
        description="folders besides STATE/files into which operators may push files",
    )
    builtin_sensors: bool = Field(default=True, description="true or false")
    state: Folder = Field(default=Path(), description="a folder; STATE/nodes/ID when not set")
    outbox_limit: int = Field(default=100_000, ge=1, description="readings kept on disk while offline")
    lane: LaneSettings = Field(default_factory=LaneSettings)
    farm: NodeFarm = Field(default_factory=NodeFarm)


class Settings(BaseModel):
    """All settings. Change one with ``model_copy(update=…)``."""

    model_config = ConfigDict(extra="forbid")

    site: Id = Field(default="callboard", description="first topic level: a-z, 0-9 and '-'")
    state: Folder = Field(default_factory=default_state_dir, description="a folder only its owner can read")
    mqtt: Mqtt = Field(default_factory=Mqtt)
    http: Http = Field(default_factory=Http)
    console: Console = Field(default_factory=Console)
    lan: Lan = Field(default_factory=Lan)
    database: Database = Field(default_factory=Database)
    history: History = Field(default_factory=History)
    artifacts: Artifacts = Field(default_factory=Artifacts)
    registry: Registry = Field(default_factory=Registry)
    audit: AuditLog = Field(default_factory=AuditLog)
    discovery: Discovery = Field(default_factory=Discovery)
    farm: Farm = Field(default_factory=Farm)
    node: NodeSettings = Field(default_factory=NodeSettings)
    sensors: Annotated[Tables, TomlName("sensor")] = Field(default_factory=list)
    controls: Annotated[Tables, TomlName("control")] = Field(default_factory=list)
    slots: Annotated[Tables, TomlName("slot")] = Field(default_factory=list)
    commands: Annotated[Tables, TomlName("command")] = Field(default_factory=list)

    @model_validator(mode="after")
    def _derive(self) -> Settings:
        """Fill what depends on the state folder."""
        if not self.database.url:
            url = f"sqlite:///{self.state / 'board.db'}"
            self.database = self.database.model_copy(update={"url": url})
        if self.node.state == Path():
            self.node = self.node.model_copy(update={"state": self.state / "nodes" / self.node.id})
        return self


def load_settings(
    *,
    file: Path | None = None,
    env: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    called: Mapping[str, str] | None = None,
) -> Loaded[Settings]:
    """Load :class:`Settings` as every command does.

    Args:
        file: a TOML file that must exist; when ``None``, ``$CALLBOARD_CONFIG`` or, if there is one, the default file.
        env: the environment; this process's own when ``None``.
        flags: dotted key → value; ``None`` values are flags that were not given.
        called: dotted key → the flag's name at this command, where it is another than usual.

    Raises:
        BadRequest: a key is unknown or a value is wrong; the message names it, its source and the remedy.
    """
    env = os.environ if env is None else env
    if file is None and env.get(CONFIG_VARIABLE):
        file = Path(env[CONFIG_VARIABLE])
    if file is None:
        usual = default_config_file(env)
        file = usual if usual.exists() else None
    defaults = {"state": default_state_dir(env)}
    return load(
        Settings, file=file, env=env, flags=flags, called=called, defaults=defaults, env_ignored=NO_SETTINGS
    )
