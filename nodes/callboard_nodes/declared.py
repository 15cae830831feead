"""What is declared in an agent's class: methods, attributes, timers, and events it hears. No I/O."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from callboard_core.errors import BadRequest
from callboard_nodes.events import Heard

__all__ = [
    "Attribute",
    "Hears",
    "Method",
    "Timed",
    "after",
    "attribute",
    "attributes_of",
    "every",
    "marked",
    "method",
    "on",
    "positive",
]

_F = TypeVar("_F", bound=Callable[..., Any])

#: Where a decorated function keeps what was said about it.
_MARKS = "__callboard__"


@dataclass(frozen=True)
class Method:
    """A method that is offered."""

    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Timed:
    """A method that is run by the clock."""

    seconds: float
    repeat: bool


@dataclass(frozen=True)
class Hears:
    """A method that is run with events."""

    event: str
    node: str
    where: Callable[[Heard], object] | None


@overload
def method(function: _F, /) -> _F: ...
@overload
def method(**settings: Any) -> Callable[[_F], _F]: ...
def method(function: Any = None, /, **settings: Any) -> Any:
    """Offer a method of an agent to everybody, as the service ``NAME:METHOD``.

    Args:
        function: set when the decorator is used without parentheses.
        settings: as for :meth:`Node.worker`.
    """
    mark = _mark(Method(settings))
    return mark if function is None else mark(function)


def every(seconds: float) -> Callable[[_F], _F]:
    """Run a method of an agent every so many seconds, without drift; ticks that come while it runs are skipped.

    Raises:
        BadRequest: not more than 0 seconds.
    """
    return _mark(Timed(positive(seconds), repeat=True))


def after(seconds: float) -> Callable[[_F], _F]:
    """Run a method of an agent once, so many seconds after its start.

    Raises:
        BadRequest: less than 0 seconds.
    """
    return _mark(Timed(positive(seconds, zero=True), repeat=False))


def on(event: str, *, node: str = "*", where: Callable[[Heard], object] | None = None) -> Callable[[_F], _F]:
    """Run a method of an agent with every event that a node publishes.

    Args:
        event: name of the event, or ``*``.
        node: whose, or ``*``.
        where: only those for which this is true.
    """
    return _mark(Hears(event, node, where))


def attribute(default: Any = None, *, settable: bool = False, description: str | None = None) -> Any:
    """Declare an attribute of an agent: everybody may read it, and set it if it is settable.

    ``exposure: float = attribute(0.1, settable=True)``; its type is the annotation's.

    Args:
        default: the value at the start; a mutable one is shared by all agents of the class.
        settable: whether others may set it.
        description: one sentence about it.
    """
    return Attribute(default, settable, description)


class Attribute:
    """The descriptor behind :func:`attribute`."""

    def __init__(self, default: Any, settable: bool, description: str | None) -> None:
        self.default, self.settable, self.description = default, settable, description
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, agent: object | None, owner: type) -> Any:
        return self if agent is None else agent.__dict__.get(self.name, self.default)

    def __set__(self, agent: object, value: Any) -> None:
        agent.__dict__[self.name] = value


def _mark(mark: object) -> Callable[[_F], _F]:
    def decorate(function: _F) -> _F:
        setattr(function, _MARKS, (*getattr(function, _MARKS, ()), mark))
        return function

    return decorate


_M = TypeVar("_M")


def marked(agent: object, kind: type[_M]) -> Iterator[tuple[str, _M, Callable[..., Any]]]:
    """The agent's methods that bear a mark, in order of definition."""
    names = dict.fromkeys(name for owner in reversed(type(agent).__mro__) for name in vars(owner))
    for name in names:
        function = inspect.getattr_static(agent, name)
        for mark in getattr(function, _MARKS, ()):
            if isinstance(mark, kind):
                yield name, mark, getattr(agent, name)


def attributes_of(owner: type) -> list[Attribute]:
    """The attributes that a class and its bases declare, in order of definition."""
    found = {
        name: value
        for one in reversed(owner.__mro__)
        for name, value in vars(one).items()
        if isinstance(value, Attribute)
    }
    return list(found.values())


def positive(seconds: float, *, zero: bool = False) -> float:
    """Return seconds that are more than zero (or zero, if that will do).

    Raises:
        BadRequest: they are not.
    """
    if seconds > 0 or (zero and seconds == 0):
        return float(seconds)
    raise BadRequest(f"{seconds} seconds: use {'0 or ' if zero else ''}more than 0")
