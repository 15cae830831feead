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
        BadRequest: the file cannot be read, or holds a private key.
    """
    if text.startswith(("ssh-", "ecdsa-", "sk-")):
        return [text]
    content = _read(Path(text).expanduser())
    if "PRIVATE KEY" in content:
        raise BadRequest(
            f"{text} is a private key, which is nobody else's business; name the public one, {text}.pub"
        )
    lines = content.splitlines()
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


def make_config(values: Mapping[str, Any], called: Mapping[str, str]) -> CardConfig:
    """Return a card's config.

    Args:
        values: fields of the config; and for Wi-Fi ``ssid``, ``passphrase`` and ``hidden``.
        called: what people call these, such as an option.

    Raises:
        BadRequest: values make no sense; the message names each as it is called.
    """
    fields = {key: value for key, value in values.items() if key not in {"ssid", "passphrase", "hidden"}}
    wrong: list[str] = []
    try:
        if values.get("ssid"):
            hidden = bool(values.get("hidden"))
            fields["wifi"] = Wifi.of(values["ssid"], values.get("passphrase") or "", hidden=hidden)
    except BadRequest as error:
        wrong.append(f"{called.get('passphrase', 'passphrase')}: {error.message}")
    except ValidationError as error:
        wrong += _faults(error, called)
    try:
        config = CardConfig(**fields)
    except ValidationError as error:
        wrong += _faults(error, called)
    if wrong:
        raise BadRequest("; ".join(dict.fromkeys(wrong)))
    return config


def _faults(error: ValidationError, called: Mapping[str, str]) -> list[str]:
    """What is wrong with each field."""
    return [
        f"{_called(one['loc'], called)}: {one['msg'].removeprefix('Value error, ')}"
        for one in error.errors(include_url=False)
    ]


def _called(location: tuple[int | str, ...], called: Mapping[str, str]) -> str:
    first = str(location[0]) if location else ""
    return called.get(first) or ".".join(map(str, location)) or "the card"


def read_fleet(text: str, shared: Mapping[str, Any], called: Mapping[str, str]) -> list[CardConfig]:
    """Return the configs of all cards of a table.

    Args:
        text: CSV with a line of column names; an empty cell means what is shared.
        shared: what holds for every card.
        called: what people call that.

    Raises:
        BadRequest: anything is wrong; the message names row and column of everything that is.
    """
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), restkey="")
    columns = [name.strip() for name in reader.fieldnames or []]
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown or "id" not in columns or len(set(columns)) < len(columns):
        many = f"unknown column{'s' if len(unknown) > 1 else ''} {', '.join(map(repr, unknown))}"
        what = many if unknown else "no column id, or one that is there twice"
        raise BadRequest(f"row 1 of the table: {what}; the columns are {', '.join(COLUMNS)}")
    reader.fieldnames = columns
    rows: dict[str, int] = {}
    configs, wrong = [], []
    for row in reader:
        number = reader.line_num
        values, faults = _values(row, shared, number)
        try:
            configs.append(make_config(values, {**called, **_columns(row)}))
        except CallboardError as error:
            faults.append(f"row {number} ({values.get('id') or 'no id'}), {error.message}")
        name = str(values.get("id") or "")
        if name and rows.setdefault(name, number) != number:
            faults.append(f"row {number}, column id: {name} is in row {rows[name]} already")
        wrong += faults
    if wrong:
        raise BadRequest("; ".join(wrong))
    if not configs:
        raise BadRequest("the table has no rows; write one for each card")
    return configs


def _columns(row: Mapping[str, Any]) -> dict[str, str]:
    """What is called a column, as a row says it itself."""
    return {
        COLUMNS[name][0]: f"column {name}" for name, cell in row.items() if name == "id" or (name and cell)
    }


def _values(
    row: Mapping[str, Any], shared: Mapping[str, Any], number: int
) -> tuple[dict[str, Any], list[str]]:
    """Return what a row says, and what is wrong with its cells."""
    values, wrong = dict(shared), []
    if "" in row:
        wrong.append(f"row {number}: it has more cells than there are columns; put quotes around commas")
    for name, cell in row.items():
        if not name or not cell or not cell.strip():
            continue
        field, read = COLUMNS[name]
        try:
            values[field] = read(cell.strip())
        except CallboardError as error:
            wrong.append(f"row {number}, column {name}: {error.message}")
    return values, wrong
