"""Fill a settings model from several layers and remember where each value came from.

Knows nothing of what is set; a setting is a *key* such as ``mqtt.port``: the path to a field of nested models.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from callboard_core.errors import BadRequest

__all__ = ["ENV_PREFIX", "Flag", "Loaded", "Row", "Secret", "TomlName", "load", "variable"]

ENV_PREFIX = "CALLBOARD_"

#: The password in ``scheme://user:password@host``.
_URL_PASSWORD = re.compile(r"(?<=://)([^/@:\s]*):([^/\s]*)@")
_HIDDEN = "********"

_M = TypeVar("_M", bound=BaseModel)


@dataclass(frozen=True)
class Secret:
    """Marks a field whose value is never shown."""


@dataclass(frozen=True)
class Flag:
    """Marks a field whose flag is not simply ``--`` and the key with dashes."""

    name: str


@dataclass(frozen=True)
class TomlName:
    """Marks a field that is called otherwise in TOML (``[[sensor]]`` fills ``sensors``)."""

    name: str


_Mark = TypeVar("_Mark", Secret, Flag, TomlName)


@dataclass(frozen=True)
class Row:
    """One setting as people are shown it; secrets are masked."""

    key: str
    shown: str
    source: str


@dataclass(frozen=True)
class Loaded(Generic[_M]):
    """A filled model, and for each key the source of its value.

    A source reads ``default``, ``file PATH``, ``environment CALLBOARD_…`` or ``flag --…``.
    """

    value: _M
    sources: dict[str, str]

    def rows(self) -> list[Row]:
        """Every setting in force, in the model's order."""
        keys = _keys(type(self.value))
        return [
            Row(key, _shown(info, _pick(self.value, key)), self.sources[key]) for key, info in keys.items()
        ]


@dataclass(frozen=True)
class _Given:
    """One value from one layer."""

    key: str
    value: Any
    source: str
    remedy: str


@dataclass
class _Names:
    """What each layer calls the keys of a model."""

    keys: dict[str, FieldInfo]
    env: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, model: type[BaseModel]) -> _Names:
        keys = _keys(model)
        return cls(keys, {variable(key): key for key in keys})


def variable(key: str) -> str:
    """``mqtt.port`` → ``CALLBOARD_MQTT_PORT``."""
    return ENV_PREFIX + key.upper().replace(".", "_")


def load(
    model: type[_M],
    *,
    file: Path | None = None,
    env: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
    env_ignored: Iterable[str] = (),
    called: Mapping[str, str] | None = None,
) -> Loaded[_M]:
    """Fill ``model``; later layers win, key by key: defaults < file < environment < flags.

    Args:
        model: nested pydantic models; every leaf is one setting.
        file: a TOML file that must exist.
        env: variables; those that start with ``CALLBOARD_`` must each name a key.
        flags: dotted key → value; a value of ``None`` means that the flag was not given.
        defaults: defaults that are only known at run time, dotted key → value.
        env_ignored: ``CALLBOARD_`` variables that are no settings.
        called: dotted key → the flag's name at this command, where it is another than usual.

    Raises:
        BadRequest: a key is unknown or a value is wrong; the message names the key, the file, variable or flag
            it came from, and what to do.
    """
    names = _Names.of(model)
    given = {
        item.key: item
        for layer in (
            (_Given(key, value, "default", "Change it") for key, value in (defaults or {}).items()),
            _from_file(model, file) if file is not None else (),
            _from_env(names, env or {}, frozenset(env_ignored)),
            _from_flags(names, flags or {}, called or {}),
        )
        for item in layer
    }
    try:
        value = model.model_validate(_nest(given))
    except ValidationError as error:
        raise _explain(error, names, given) from None
    return Loaded(value, {key: given[key].source if key in given else "default" for key in names.keys})


def _keys(model: type[BaseModel], prefix: str = "") -> dict[str, FieldInfo]:
    found: dict[str, FieldInfo] = {}
    for name, info in model.model_fields.items():
        section = _section(info)
        if section is None:
            found[prefix + name] = info
        else:
            found |= _keys(section, f"{prefix}{name}.")
    return found


def _section(info: FieldInfo) -> type[BaseModel] | None:
    kind = info.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _mark(info: FieldInfo, kind: type[_Mark]) -> _Mark | None:
    return next((mark for mark in info.metadata if isinstance(mark, kind)), None)


def _from_file(model: type[BaseModel], file: Path) -> Iterator[_Given]:
    for path, key, value in _walk(model, _read_toml(file), file):
        yield _Given(key, value, f"file {file}", f"Change {path} in {file}")


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_bytes().decode())
    except OSError as error:
        raise BadRequest(
            f"cannot read the settings file {file}: {error.strerror}; name another one"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"{file} is not valid TOML: {error}; correct it there") from None


def _walk(
    model: type[BaseModel], table: Mapping[str, Any], file: Path, path: str = "", prefix: str = ""
) -> Iterator[tuple[str, str, Any]]:
    fields = {_toml_name(name, info): (name, info) for name, info in model.model_fields.items()}
    for name, value in table.items():
        here = path + name
        if name not in fields:
            raise BadRequest(
                f"unknown key {here!r} in {file}{_did_you_mean(here, _toml_paths(model, path))}; "
                "correct or remove it"
            )
        attribute, info = fields[name]
        section = _section(info)
        if section is None:
            yield here, prefix + attribute, value
        elif isinstance(value, dict):
            yield from _walk(section, value, file, f"{here}.", f"{prefix}{attribute}.")
        else:
            raise BadRequest(f"{here!r} in {file} is a section; write [{here}] and its keys below it")


def _toml_name(name: str, info: FieldInfo) -> str:
    mark = _mark(info, TomlName)
    return mark.name if mark else name


def _toml_paths(model: type[BaseModel], path: str) -> list[str]:
    found = []
    for name, info in model.model_fields.items():
        here, section = path + _toml_name(name, info), _section(info)
        found.append(here)
        if section is not None:
            found += _toml_paths(section, f"{here}.")
    return found


def _from_env(names: _Names, env: Mapping[str, str], ignored: frozenset[str]) -> Iterator[_Given]:
    for name, text in env.items():
        if not name.startswith(ENV_PREFIX) or name in ignored:
            continue
        key = names.env.get(name)
        if key is None:
            hint = _did_you_mean(name, names.env)
            raise BadRequest(f"unknown setting {name} in the environment{hint}; correct or unset it")
        value = _from_text(names.keys[key], text, name)
        yield _Given(key, value, f"environment {name}", f"Change or unset {name}")


def _from_text(info: FieldInfo, text: str, name: str) -> Any:
    """Lists are written ``a,b`` or as JSON, tables as JSON; the rest is left to the model."""
    kind = get_origin(info.annotation)
    if kind is list and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    if kind in {list, dict}:
        try:
            return json.loads(text)
        except ValueError as error:
            raise BadRequest(f"{name} is not valid JSON: {error}; change or unset it") from None
    return text


def _from_flags(names: _Names, flags: Mapping[str, Any], called: Mapping[str, str]) -> Iterator[_Given]:
    for key, value in flags.items():
        if value is None:
            continue
        if key not in names.keys:
            raise BadRequest(f"unknown setting {key!r}{_did_you_mean(key, names.keys)}; correct or remove it")
        flag = called.get(key) or _flag(key, names.keys[key])
        yield _Given(key, value, f"flag {flag}", f"Change {flag}")


def _flag(key: str, info: FieldInfo) -> str:
    mark = _mark(info, Flag)
    return mark.name if mark else "--" + re.sub(r"[._]", "-", key)


def _nest(given: Mapping[str, _Given]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, item in given.items():
        *sections, name = key.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[name] = item.value
    return tree


def _explain(error: ValidationError, names: _Names, given: Mapping[str, _Given]) -> BadRequest:
    """One sentence for the first thing wrong: key, value, what is expected, where to change it."""
    first, *more = error.errors(include_url=False)
    path = ".".join(str(part) for part in first["loc"])
    key = next((key for key in given if path == key or path.startswith(f"{key}.")), "")
    what = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not key:
        return BadRequest(f"{path}: {what}" if path else what)
    info, item = names.keys[key], given[key]
    hint = f" ({info.description})" if info.description else ""
    others = f" {len(more)} more values are wrong." if more else ""
    shown = _shown(info, item.value) or "''"
    return BadRequest(f"{path} = {shown}: {what}. {item.remedy}{hint}.{others}")


def _did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Suggest keys that look alike, and keys of the same last part in another section."""
    known = list(known)
    close = difflib.get_close_matches(wrong, known, n=2)
    last = wrong.rsplit(".", 1)[-1]
    close += [key for key in known if key.rsplit(".", 1)[-1] == last and key not in close]
    return f"; did you mean {' or '.join(close[:3])}?" if close else ""


def _pick(value: Any, key: str) -> Any:
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _shown(info: FieldInfo, value: Any) -> str:
    if _mark(info, Secret) and value:
        return _HIDDEN
    text = value if isinstance(value, str) else _plain(value)
    return _URL_PASSWORD.sub(rf"\1:{_HIDDEN}@", text)


def _plain(value: Any) -> str:
    return "" if value is None else json.dumps(value, default=str, ensure_ascii=False).strip('"')
