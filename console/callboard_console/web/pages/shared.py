"""What several pages do alike: following a click, the browser's time zone, controls and action dialogs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import tzinfo
from typing import Any

import streamlit as st
from pydantic import JsonValue

from callboard_console.web import runtime
from callboard_console.web.live import live
from callboard_console.web.sessions import Session
from callboard_console.web.snapshot import NodeView, Thing
from callboard_console.web.views import controls, schema, words
from callboard_console.web.views import node as view
from callboard_console.web.views.words import plain
from callboard_core.cards import ActionCard, ControlCard
from callboard_core.errors import BadRequest, CallboardError
from callboard_core.topics import Address, Kind, Leaf

__all__ = [
    "action_dialog",
    "ask_next",
    "ask_now",
    "attempt",
    "control",
    "follow",
    "form",
    "show_trouble",
    "timezone",
]

#: Seconds a control has to answer.
_CONTROL_TIMEOUT = 10.0
#: Where a refusal is kept for the page's next runs, and for how many seconds it is shown.
_TROUBLE = "trouble"
_SHOWN = 8.0


def follow(act: str | None) -> None:
    """Go where a click leads: ``node:ID`` and ``job:ID`` to their pages, ``page:NAME`` to another page."""
    verb, _, what = (act or "").partition(":")
    if verb == "node" and what:
        st.switch_page("pages/node.py", query_params={"node": what})
    if verb == "job" and what:
        st.switch_page("pages/job.py", query_params={"job": what})
    if verb == "page" and what in {"topics", "refused", "add_node"}:
        st.switch_page(f"pages/{what}.py")


def attempt(work: Callable[[], object]) -> bool:
    """Do something that the board may refuse; tells whether it was done. What it said instead is shown next."""
    try:
        work()
    except CallboardError as error:
        st.session_state[_TROUBLE] = (time.monotonic(), error.message)
        return False
    st.session_state.pop(_TROUBLE, None)
    return True


def ask_next(key: str, dialog: Callable[[], None]) -> None:
    """Have the whole page open a dialog: one that a live region opened would close at the region's next run."""
    st.session_state[key] = dialog
    st.rerun()


def ask_now(key: str) -> None:
    """Open the dialog that was asked for, once."""
    dialog: Callable[[], None] | None = st.session_state.pop(key, None)
    if dialog is not None:
        dialog()


def show_trouble() -> None:
    """Show why what was tried last could not be done, for as long as it takes to read."""
    since, said = st.session_state.get(_TROUBLE, (0.0, ""))
    if said and time.monotonic() - since < _SHOWN:
        st.error(plain(said))


def timezone() -> tzinfo:
    """Return the browser's time zone."""
    return words.zone(st.context.timezone)


def control(node: NodeView, thing: Thing, card: ControlCard, session: Session) -> None:
    """Draw one control: its widget for those who may command, and what is in force for everybody."""
    value = thing.state.v if thing.state is not None else None
    address = Address(runtime.current().site, node.id, Leaf.COMMAND, Kind.CONTROL, thing.name)
    if not session.may_command:
        live(view.in_force(thing), key=f"in-force:{thing.name}")
        return
    order, now = session.ledger.last(address), time.time()
    held_key = f"held:{node.id}:{thing.name}"
    before: controls.Held | None = st.session_state.get(held_key)
    held = controls.hold(
        before,
        st.session_state.get(_key(node, thing, before), before.born.value if before else None),
        controls.widget(card, value),
        received=thing.received or 0.0,
        order=order,
        now=now,
    )
    st.session_state[held_key] = held
    key = _key(node, thing, held)

    def moved() -> None:
        wanted = st.session_state[key]
        if wanted is not None:
            session.send(address, thing.title, {"value": wanted}, timeout=_CONTROL_TIMEOUT)

    label = plain(f"{thing.title} ({card.unit})" if card.unit else thing.title)
    with st.container(gap="xxsmall"):
        _WIDGETS[held.born.shape](
            label, held.born, {"key": key, "on_change": moved, "disabled": not node.live}
        )
        live(view.control_line(node, thing, order, now), key=f"line:{node.id}:{thing.name}")


def _key(node: NodeView, thing: Thing, held: controls.Held | None) -> str:
    return f"control:{node.id}:{thing.name}:{held.life if held is not None else 0}"


def _range(spec: controls.Widget) -> dict[str, Any]:
    return {"min_value": spec.minimum, "max_value": spec.maximum, "value": spec.value, "step": spec.step}


def _slider(label: str, spec: controls.Widget, common: dict[str, Any]) -> None:
    st.slider(label, **_range(spec), **common)


def _number(label: str, spec: controls.Widget, common: dict[str, Any]) -> None:
    st.number_input(label, **_range(spec), **common)


def _select(label: str, spec: controls.Widget, common: dict[str, Any]) -> None:
    index = spec.options.index(str(spec.value)) if spec.value is not None else None
    st.selectbox(label, spec.options, index, **common)


_WIDGETS: dict[str, Callable[[str, controls.Widget, dict[str, Any]], object]] = {
    "slider": _slider,
    "number": _number,
    "toggle": lambda label, spec, common: st.toggle(label, bool(spec.value), **common),
    "segments": lambda label, spec, common: st.segmented_control(
        label, spec.options, default=spec.value, format_func=plain, **common
    ),
    "select": _select,
    "text": lambda label, spec, common: st.text_input(label, str(spec.value), spec.max_length, **common),
    "colour": lambda label, spec, common: st.color_picker(label, str(spec.value), **common),
}


def action_dialog(address: Address, card: ActionCard, session: Session) -> None:
    """Ask for an action's parameters and for a person's consent, then send it."""

    @st.dialog(plain(card.title))
    def ask() -> None:
        if card.confirm:
            st.markdown(f"**{plain(card.confirm)}**")
        if card.description:
            st.caption(plain(card.description))
        gather = form(str(address), card.parameters)
        go, back = st.columns(2)
        if go.button("Run", type="primary", width="stretch", key="dialog_run"):
            try:
                args = gather()
            except BadRequest as error:
                st.error(plain(str(error)))
                return
            session.send(address, card.title, args, timeout=card.timeout)
            st.rerun()
        if back.button("Cancel", width="stretch", key="dialog_cancel"):
            st.rerun()

    ask()


def form(prefix: str, parameters: Mapping[str, Any]) -> Callable[[], dict[str, JsonValue]]:
    """Draw fields for the parameters that a JSON Schema describes; return what gathers the arguments.

    The latter raises ``BadRequest`` when something is missing or wrong; the message names it.
    """
    fields = schema.fields(parameters)
    if fields is None:
        text = st.text_area("Arguments (JSON)", "{}", key=f"{prefix}:json")
        return lambda: schema.parse_args(text or "")
    given = {field.name: _input(f"{prefix}:{field.name}", field) for field in fields}
    return lambda: schema.collect(fields, given)


def _input(key: str, field: schema.Field) -> JsonValue:
    label = plain(field.title if field.required else f"{field.title} (optional)")
    common: dict[str, Any] = {"key": key, "help": plain(field.description or "") or None}
    match field.shape:
        case "boolean":
            return st.toggle(label, value=bool(field.default), **common)
        case "choice":
            index = field.options.index(field.default) if field.default in field.options else None
            chosen: JsonValue = st.selectbox(label, field.options, index=index, **common)
            return chosen
        case "text":
            written: JsonValue = st.text_input(label, value=str(field.default or ""), **common)
            return written
        case "free":
            common["help"] = common["help"] or "JSON, or a plain text"
            typed: JsonValue = st.text_area(label, value=field.written, height=68, **common)
            return typed
        case "integer" | "number":
            filled: JsonValue = st.number_input(label, **schema.limits(field), **common)
            return filled
