"""Values as they leave a handler: which type a Python annotation stands for, and checks of what was returned."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable
from enum import Enum
from typing import Any, Literal, SupportsFloat, Union, cast

from callboard_core.errors import BadRequest
from callboard_core.messages import Value

__all__ = ["Shape", "ValueType", "annotation_of", "check_type", "number", "shape_of", "to_value"]

ValueType = Literal["number", "text", "boolean", "enum", "colour"]

#: A type and, for an enum, its options.
Shape = tuple[ValueType, list[str] | None]

_SIMPLE: dict[Any, ValueType] = {bool: "boolean", int: "number", float: "number", str: "text"}


def shape_of(annotation: Any) -> Shape | None:
    """Return what values of an annotation look like, or ``None`` when it does not say.

    ``bool``, ``int``, ``float`` and ``str`` are themselves, a ``Literal`` of texts or an ``Enum`` is an enum,
    and ``X | None`` is ``X``.
    """
    if annotation in _SIMPLE:
        return _SIMPLE[annotation], None
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "enum", [str(member.value) for member in annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return shape_of(arguments[0])
    if origin is Literal and all(isinstance(option, str) for option in arguments):
        return "enum", list(arguments)
    if origin in {Union, types.UnionType}:
        rest = [argument for argument in arguments if argument is not type(None)]
        return shape_of(rest[0]) if len(rest) == 1 else None
    return None


def annotation_of(function: Callable[..., Any], name: str) -> Any:
    """Return the resolved annotation of a parameter or of ``return``; ``None`` when there is none."""
    try:
        return typing.get_type_hints(function, include_extras=True).get(name)
    except (NameError, TypeError):  # a forward reference that exists only for the type checker
        return None


def number(value: object) -> float | int:
    """Return a finite number.

    Raises:
        ValueError: it is none, or NaN or infinite.
    """
    if isinstance(value, bool) or not isinstance(value, SupportsFloat):
        raise ValueError(f"expected a number, got {value!r}")  # noqa: TRY004 - cards check alike
    try:
        found = float(value)
    except OverflowError:
        raise ValueError("expected a number, got one that is too large") from None
    if not math.isfinite(found):
        raise ValueError(f"expected a number, got {value!r}")
    return value if isinstance(value, int) else found


def to_value(kind: str, value: object, *, options: list[str] | None = None) -> Value:
    """Return what a sensor's function gave as a value of its declared type.

    Args:
        kind: ``number``, ``text``, ``boolean`` or ``enum``.
        value: what was returned; members of an ``Enum`` count as their value.
        options: the values of an enum.

    Raises:
        ValueError: the value is not of that type; the message says what was expected.
    """
    if isinstance(value, Enum):
        value = value.value
    if kind == "number":
        return number(value)
    expected = bool if kind == "boolean" else str
    if not isinstance(value, expected):
        raise ValueError(f"expected {_WORDS[kind]}, got {value!r}")  # noqa: TRY004 - cards check alike
    if kind == "enum" and value not in (options or []):
        raise ValueError(f"{value!r} is not one of {', '.join(options or [])}")
    return cast("Value", value)


_WORDS = {"boolean": "True or False", "text": "a text", "enum": "a text"}


def check_type(kind: str, allowed: tuple[ValueType, ...]) -> ValueType:
    """Return ``kind`` if it is allowed.

    Raises:
        BadRequest: it is not; the message lists what is.
    """
    for one in allowed:
        if one == kind:
            return one
    raise BadRequest(f"type: {kind!r} is not one of {', '.join(allowed)}")
