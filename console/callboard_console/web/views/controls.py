"""Which widget a control gets, and when the widget takes over the value in force."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from callboard_console.web.commands import FINAL, Order, Stage
from callboard_core.cards import ControlCard
from callboard_core.messages import Value

__all__ = ["Held", "Seen", "Widget", "adopt", "hold", "widget"]

#: Up to this many options are all shown at once.
_FEW = 4
#: Seconds after a success within which the control's echo arrives.
_ECHO = 2.0

Shape = Literal["slider", "number", "toggle", "segments", "select", "text", "colour"]


@dataclass(frozen=True, slots=True)
class Widget:
    """A widget and its limits; ``value`` is of the type the widget wants, None when nothing is in force."""

    shape: Shape
    value: Value | None
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    options: tuple[str, ...] = ()
    max_length: int | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What a widget last took notice of: the value in force, and the order whose end it has seen."""

    value: Value | None = None
    order: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """One control in one browser: the life of its widget, and the widget it was born with.

    A new value from outside is a new life, that is a new widget with that value as its default. Setting the
    value of a living widget instead can get lost in a slow browser, which then reports the old value as if
    somebody had chosen it: opening a page would send commands.
    """

    seen: Seen
    born: Widget
    life: int = 0


def widget(card: ControlCard, value: Value | None) -> Widget:
    """Return the widget for a control that holds ``value``."""
    match card.type:
        case "boolean":
            return Widget("toggle", bool(value))
        case "enum":
            options = tuple(card.options or ())
            held = value if isinstance(value, str) and value in options else None
            return Widget("segments" if len(options) <= _FEW else "select", held, options=options)
        case "colour":
            return Widget("colour", value if isinstance(value, str) else "#000000")
        case "text":
            return Widget("text", value if isinstance(value, str) else "", max_length=card.max_length)
        case "number":
            return _number(card, value)


def _number(card: ControlCard, value: Value | None) -> Widget:
    low, high, step = card.minimum, card.maximum, card.step
    held = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if low is not None and high is not None and low < high:
        step = step or _step(low, high)
        inside = min(high, max(low, low if held is None else held))
        whole = all(float(each).is_integer() for each in (low, high, step, inside))
        kind = int if whole else float
        return Widget("slider", kind(inside), kind(low), kind(high), kind(step))
    return Widget(
        "number",
        None if held is None else float(held),
        None if low is None else float(low),
        None if high is None else float(high),
        float(step or 1.0),
    )


def _step(low: float, high: float) -> float:
    span = high - low
    return 1.0 if span >= 20 and float(low).is_integer() and float(high).is_integer() else span / 100  # noqa: PLR2004


def hold(
    held: Held | None,
    shown: Value | None,
    current: Widget,
    *,
    received: float,
    order: Order | None,
    now: float,
) -> Held:
    """Return the widget to draw: the one that lives, or a new one if it must show another value.

    The arguments are those of :func:`adopt`; ``current`` is the widget for the value in force, ``held`` None at
    the first time.
    """
    if held is None:
        return Held(Seen(current.value, order.number if order is not None else 0), current)
    limits = replace(current, value=held.born.value)
    seen, take = adopt(held.seen, shown, current.value, received=received, order=order, now=now)
    if take or limits != held.born:
        return Held(seen, current, held.life + 1)
    return Held(seen, held.born, held.life)


def adopt(
    seen: Seen, shown: Value | None, value: Value | None, *, received: float, order: Order | None, now: float
) -> tuple[Seen, bool]:
    """Decide whether the widget must now show the value in force.

    It must when that value changed, whoever changed it, and when an order of ours failed, so that the widget
    never shows what is not true. It must not while an order is under way or its echo is still to come (the
    hand is on the widget), and need not when it shows the value already.

    Args:
        seen: what this function returned the last time.
        shown: the value the widget holds.
        value: the value in force, as the widget would show it.
        received: when that value arrived, Unix seconds.
        order: the last command to the control.
        now: Unix seconds.
    """
    if order is None:
        return Seen(value, seen.order), value not in {seen.value, shown}
    if order.stage not in FINAL:
        return seen, False
    if order.stage is not Stage.DONE:
        news = order.number != seen.order or value != seen.value
        return Seen(value, order.number), news and value != shown
    if received < order.sent and now - (order.ended or now) < _ECHO:
        return seen, False
    return Seen(value, order.number), value not in {seen.value, shown}
