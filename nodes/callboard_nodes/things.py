"""What a node offers: sensors, controls and actions, each a card plus the function behind it. No I/O."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from callboard_core.cards import ActionCard, Card, ControlCard, SensorCard
from callboard_core.errors import BadRequest
from callboard_core.messages import Value, describe
from callboard_core.topics import Kind, check_id, slug
from callboard_nodes.parameters import Parameters
from callboard_nodes.values import Shape, ValueType, annotation_of, check_type, shape_of

__all__ = ["Action", "Control", "Handler", "Sensor", "Thing", "Things", "action", "control", "sensor"]

Handler = Callable[..., Any]

#: Seconds after which a sensor that has not returned is shown as failing, unless it ticks more slowly.
PATIENCE = 30.0

_SENSOR_TYPES: tuple[ValueType, ...] = ("number", "text", "boolean", "enum")
_CONTROL_TYPES: tuple[ValueType, ...] = ("number", "boolean", "enum", "text", "colour")


@dataclass(frozen=True)
class Sensor:
    """Something that is read every so often, or pushed when ``read`` is ``None``."""

    card: SensorCard
    read: Handler | None
    timeout: float
    kind = Kind.SENSOR


@dataclass(frozen=True)
class Control:
    """Something that is set. ``apply`` may return the value that is really in force."""

    card: ControlCard
    apply: Handler
    initial: Value | None
    persist: bool
    kind = Kind.CONTROL


@dataclass(frozen=True)
class Action:
    """Something that is done when called."""

    card: ActionCard
    run: Handler
    parameters: Parameters
    kind = Kind.ACTION


Thing = Sensor | Control | Action


def sensor(
    function: Handler | None,
    *,
    type: str | None = None,  # noqa: A002 - the field's own name
    timeout: float | None = None,
    **card: Any,
) -> Sensor:
    """Define a sensor; the type comes from ``type``, from ``options`` or from the return annotation.

    Raises:
        BadRequest: a setting is wrong; the message names it.
    """
    details = details_of(function, card)
    kind, details["options"] = _shape(type, details.get("options"), function, "return", _SENSOR_TYPES)
    found = card_of(SensorCard, details, type=kind)
    return Sensor(found, function, timeout or max(PATIENCE, 3 * (found.every or 0.0)))


def control(
    function: Handler,
    *,
    type: str | None = None,  # noqa: A002 - the field's own name
    initial: Value | None = None,
    persist: bool = True,
    **card: Any,
) -> Control:
    """Define a control; the type comes from ``type``, from ``options`` or from the parameter's annotation.

    Raises:
        BadRequest: a setting is wrong, or the function does not take exactly one value.
    """
    details = details_of(function, card)
    parameter = _only_parameter(function)
    kind, details["options"] = _shape(type, details.get("options"), function, parameter, _CONTROL_TYPES)
    found = card_of(ControlCard, details, type=kind)
    if initial is not None:
        try:
            found.check(initial)
        except ValueError as error:
            raise BadRequest(f"control {found.name!r}: initial {error}") from None
    return Control(found, function, initial, persist)


def action(function: Handler, *, interruptible: bool | None = None, **card: Any) -> Action:
    """Define an action; its parameters come from the function's signature.

    ``interruptible`` is true by default for what can be interrupted: an ``async`` function, or one that takes
    the request.

    Raises:
        BadRequest: a setting or the signature is wrong.
    """
    parameters = Parameters.of(function)
    if interruptible is None:
        interruptible = is_async(function) or parameters.request is not None
    details = {**details_of(function, card), "parameters": parameters.schema, "interruptible": interruptible}
    return Action(card_of(ActionCard, details), function, parameters)


def is_async(function: Handler) -> bool:
    """Tell whether calling the function gives something to await."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
    )


class Things:
    """A node's things, each under its kind and name."""

    def __init__(self) -> None:
        self._all: dict[tuple[Kind, str], Thing] = {}

    def add(self, thing: Thing) -> None:
        """Add a thing.

        Raises:
            BadRequest: there is one of that kind and name already.
        """
        key = (thing.kind, thing.card.name)
        if key in self._all:
            raise BadRequest(
                f"there are two {thing.kind}s called {thing.card.name!r}; give one another name="
            )
        self._all[key] = thing

    def __iter__(self) -> Iterator[Thing]:
        return iter(list(self._all.values()))

    def __contains__(self, key: tuple[Kind, str]) -> bool:
        return key in self._all

    def sensors(self) -> Iterable[Sensor]:
        """Return the sensors in order of definition."""
        return [thing for thing in self if isinstance(thing, Sensor)]

    def controls(self) -> Iterable[Control]:
        """Return the controls in order of definition."""
        return [thing for thing in self if isinstance(thing, Control)]

    def actions(self) -> Iterable[Action]:
        """Return the actions in order of definition."""
        return [thing for thing in self if isinstance(thing, Action)]


_C = TypeVar("_C", bound=Card)


def card_of(model: type[_C], details: Mapping[str, Any], **more: Any) -> _C:
    wanted = {key: value for key, value in {**details, **more}.items() if value is not None}
    kind = model.model_fields["kind"].default
    unknown = sorted(set(wanted) - set(model.model_fields))
    if unknown:
        raise BadRequest(f"{kind} {details['name']!r}: unknown setting {unknown[0]!r}")
    try:
        return model.model_validate({"epoch": 0, **wanted})
    except ValidationError as error:
        raise BadRequest(f"{kind} {details['name']!r}: {describe(error).message}") from None


def details_of(function: Handler | None, card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the card's settings with the name and the description filled in from the function."""
    details = dict(card)
    if details.get("name") is None:
        if function is None:
            raise BadRequest("a sensor without a function needs a name")
        details["name"] = slug(getattr(function, "__name__", function.__class__.__name__))
    check_id(details["name"], "name")
    if details.get("description") is None and (inspect.isfunction(function) or inspect.ismethod(function)):
        details["description"] = (inspect.getdoc(function) or "").partition("\n")[0] or None
    details["tags"] = list(details.get("tags") or ())
    return details


def _shape(
    kind: str | None,
    options: Iterable[str] | None,
    function: Handler | None,
    parameter: str,
    allowed: tuple[ValueType, ...],
) -> Shape:
    """Settle a type and its options: what is said outright wins over what the annotation says."""
    hint = shape_of(annotation_of(function, parameter)) if function is not None else None
    if kind is None and options is not None:
        kind = "enum"
    if kind is None:
        kind = hint[0] if hint is not None else "number"
    if options is None and hint is not None and kind == "enum":
        options = hint[1]
    return check_type(kind, allowed), list(options) if options is not None else None


def _only_parameter(function: Handler) -> str:
    name = getattr(function, "__name__", "the control")
    try:
        names = list(inspect.signature(function).parameters)
    except ValueError:
        return ""  # a built-in function such as list.append does not tell
    if len(names) != 1:
        raise BadRequest(f"{name}() must take exactly one parameter, the value to set; it takes {len(names)}")
    return names[0]
