"""A table of many cards (CSV), read as a whole before the first card is written. Pure but for the files that cells name."""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from callboard_core.boot import CardConfig, Wifi
from callboard_core.errors import BadRequest, CallboardError

__all__ = ["COLUMNS", "make_config", "read_fleet", "read_keys", "read_settings"]


def read_keys(text: str) -> list[str]:
    """Return public SSH keys: the one given, or those in a file.

    Raises:
        BadRequest: the file cannot be read.
    """
    if text.startswith(("ssh-", "ecdsa-", "sk-")):
        return [text]
    lines = _read(Path(text).expanduser()).splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def read_settings(path: Path) -> dict[str, Any]:
    """Return the agent's settings of a TOML file.

    Raises:
        BadRequest: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise BadRequest(f"{path} is not valid TOML: {error}; correct it there") from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(
            f"cannot read {path}: {getattr(error, 'strerror', None) or error}; name another file"
        ) from None


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


#: What a column's text becomes: a field of the config, or of what :func:`make_config` takes beside.
COLUMNS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "id": ("id", str),
    "label": ("label", str),
    "tags": ("tags", _words),
    "user": ("user", str),
    "ssh_key": ("ssh_keys", read_keys),
    "wifi": ("ssid", str),
    "wifi_password": ("passphrase", str),
    "country": ("country", str),
    "timezone": ("timezone", str),
    "keyboard": ("keyboard", str),
    "buses": ("buses", _words),
    "site": ("site", str),
    "join": ("join", str),
    "settings": ("settings", lambda text: read_settings(Path(text))),
}


def make_config(values: Mapping[str, Any]) -> CardConfig:
    """Return a card's config.

    Args:
        values: fields of the config; and for Wi-Fi ``ssid``, ``passphrase`` and ``hidden``.

    Raises:
        BadRequest: a value makes no sense; the message names its field.
    """
    fields = {key: value for key, value in values.items() if key not in {"ssid", "passphrase", "hidden"}}
    try:
        if values.get("ssid"):
            hidden = bool(values.get("hidden"))
            fields["wifi"] = Wifi.of(values["ssid"], values.get("passphrase") or "", hidden=hidden)
        return CardConfig(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the card"
        raise BadRequest(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None


def read_fleet(text: str, shared: Mapping[str, Any]) -> list[CardConfig]:
    """Return the configs of all cards of a table.

    Args:
        text: CSV with a line of column names; an empty cell means what is shared.
        shared: what holds for every card.

    Raises:
        BadRequest: anything is wrong; the message names row and column.
    """
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), restkey="")
    columns = [name.strip() for name in reader.fieldnames or []]
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown or "id" not in columns or len(set(columns)) < len(columns):
        what = f"unknown column {unknown[0]!r}" if unknown else "no column id, or one that is there twice"
        raise BadRequest(f"row 1 of the table: {what}; the columns are {', '.join(COLUMNS)}")
    reader.fieldnames = columns
    rows: dict[str, int] = {}
    configs = []
    for row in reader:
        config = _config(row, shared, reader.line_num)
        if config.id in rows:
            raise BadRequest(
                f"row {reader.line_num}, column id: {config.id} is in row {rows[config.id]} already"
            )
        rows[config.id] = reader.line_num
        configs.append(config)
    if not configs:
        raise BadRequest("the table has no rows; write one for each card")
    return configs


def _config(row: Mapping[str, Any], shared: Mapping[str, Any], number: int) -> CardConfig:
    if "" in row:
        raise BadRequest(f"row {number}: it has more cells than there are columns; put quotes around commas")
    values = dict(shared)
    for name, cell in row.items():
        field, read = COLUMNS[name]
        try:
            values |= {field: read(cell.strip())} if cell and cell.strip() else {}
        except CallboardError as error:
            raise BadRequest(f"row {number}, column {name}: {error.message}") from None
    try:
        return make_config(values)
    except CallboardError as error:
        raise BadRequest(f"row {number} ({values.get('id') or 'no id'}), {error.message}") from None
