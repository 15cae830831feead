"""Which ports a board listens on: each 0 becomes a free one, and the others are checked before anything starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from callboard_broker.engine import is_outside
from callboard_core.errors import BadRequest
from callboard_core.listening import explain
from callboard_core.processes import check_port, free_port
from callboard_core.settings import Settings

__all__ = ["decide_ports"]


@dataclass(frozen=True)
class _Listener:
    """One listener: the section and key that hold its port, what people call it, and how they change it."""

    section: str
    key: str
    bind: str
    port: int
    what: str
    flag: str


def decide_ports(settings: Settings) -> Settings:
    """Replace every port 0 by a free one, so that it stays the same when a role is restarted; check the others.

    Raises:
        Conflict: a port is taken; the message says by whom.
        BadRequest: two listeners want the same port, or an address is not this machine's.
        Forbidden: a port is only for root.
    """
    wanted = list(_wanted(settings))
    _check_distinct(wanted)
    taken = {one.port for one in wanted if one.port}
    for one in wanted:
        port = _decide(one, frozenset(taken))
        taken.add(port)
        section = getattr(settings, one.section).model_copy(update={one.key: port})
        settings = settings.model_copy(update={one.section: section})
    return settings


def _wanted(settings: Settings) -> Iterator[_Listener]:
    sections = ["http"]
    if not is_outside(settings):
        sections.append("mqtt")
    if settings.console.enabled:
        sections.append("console")
    for name in sections:
        section: Any = getattr(settings, name)
        yield _Listener(name, "port", section.bind, section.port, name, f"--{name}-port")
    if settings.lan.enabled:
        yield from _encrypted(settings, sections)


def _encrypted(settings: Settings, sections: list[str]) -> Iterator[_Listener]:
    keys = {"mqtt_port": "mqtt", "ws_port": "mqtt", "http_port": "http", "console_port": "console"}
    for key, beside in keys.items():
        if beside in sections:
            flag, what = f"lan.{key} in the settings", f"encrypted {key.removesuffix('_port')}"
            yield _Listener("lan", key, settings.lan.bind, getattr(settings.lan, key), what, flag)


def _check_distinct(wanted: list[_Listener]) -> None:
    seen: dict[int, _Listener] = {}
    for one in wanted:
        other = seen.setdefault(one.port, one)
        if one.port and other is not one:
            raise BadRequest(
                f"{one.what} and {other.what} cannot both use port {one.port}; set {one.flag} or {other.flag}"
            )


def _decide(one: _Listener, avoid: frozenset[int]) -> int:
    try:
        if one.port == 0:
            return free_port(one.bind, avoid)
        check_port(one.bind, one.port)
    except OSError as error:
        raise explain(error, one.bind, one.port, what=one.what, flag=one.flag) from None
    return one.port
