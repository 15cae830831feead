"""Node: one machine, its readings and their history, its controls and actions, and what it did."""

from __future__ import annotations

import time
from urllib.parse import quote

import streamlit as st

from callboard_console.web import runtime
from callboard_console.web.live import live
from callboard_console.web.pages.shared import action_dialog, control, timezone
from callboard_console.web.snapshot import NodeView, Thing
from callboard_console.web.views import history, parts, updates
from callboard_console.web.views import node as view
from callboard_console.web.views.markup import Markup, join, tag
from callboard_console.web.views.words import plain
from callboard_core.cards import ActionCard, ControlCard
from callboard_core.errors import CallboardError
from callboard_core.topics import Address, Kind, Leaf
from callboard_core.updates import UPDATE

_DAY = 86_400.0
_CUSTOM = "Custom"
#: Updates that are shown of a node.
_UPDATES = 10
#: Actions that programs call: there is nothing that a person could type into them, or read of their answer.
_NOT_FOR_PEOPLE = frozenset({UPDATE, "log", "diagnose"})


def _node(node_id: str) -> NodeView | None:
    return runtime.current().source.snapshot().nodes.get(node_id)


def _shape(node: NodeView | None) -> tuple[object, ...]:
    """What of a node decides which widgets the page has."""
    if node is None:
        return ()
    cards = [thing.card for kind in (Kind.ACTION, Kind.CONTROL) for thing in node.of_kind(kind)]
    return (node.live, *cards, *(thing.name for thing in node.of_kind(Kind.SENSOR)))


def _pick() -> str | None:
    """Let the operator choose a node; the address of the page says which one it is."""
    snapshot = runtime.current().source.snapshot()
    chosen = st.query_params.get("node")
    known = sorted(snapshot.nodes, key=lambda each: snapshot.nodes[each].title.lower())
    options = known if chosen is None or chosen in snapshot.nodes else [chosen, *known]
    if not options:
        return None
    chosen = chosen or next((each.id for each in snapshot.guests), options[0])
    key = f"node_picker:{chosen}"
    st.query_params["node"] = chosen
    st.selectbox(
        "Node",
        options,
        options.index(chosen),
        key=key,
        format_func=lambda each: snapshot.nodes[each].title if each in snapshot.nodes else each,
        label_visibility="collapsed",
        on_change=lambda: st.query_params.update(node=st.session_state[key]),
    )
    return chosen


@st.fragment(run_every=1.0)
def _identity(node_id: str, shape: tuple[object, ...]) -> None:
    node, snapshot = _node(node_id), runtime.current().source.snapshot()
    live(view.identity(node, snapshot.t, timezone()) if node else view.absent(node_id), key="identity")
    if _shape(node) != shape:
        st.rerun()


@st.fragment(run_every=10.0)
def _presence(node_id: str) -> None:
    node, session = _node(node_id), runtime.session()
    if node is None or session is None:
        return
    end = time.time()
    try:
        changes = session.api.statuses(node_id, end - _DAY, end)
    except CallboardError:
        changes = []
    stretches = view.spans(changes, end - _DAY, end, now_status=node.status, now_since=node.since)
    live(view.strip(stretches, timezone()), key="presence")


@st.fragment(run_every=5.0)
def _updates(node_id: str) -> None:
    session = runtime.session()
    if session is None:
        return
    try:
        found = session.api.get(f"/api/v1/updates/nodes/{quote(node_id, safe='')}", limit=_UPDATES)["items"]
    except CallboardError:
        found = []
    live(updates.of_node(found, timezone()), key="updates")


@st.fragment(run_every=1.0)
def _readings(node_id: str) -> None:
    node = _node(node_id)
    if node is not None:
        live(view.readings(node, runtime.current().source.snapshot().t), key="readings")


def _history(node: NodeView) -> None:
    things = [thing for kind in (Kind.SENSOR, Kind.CONTROL) for thing in node.of_kind(kind)]
    drawable = {f"{thing.kind}/{thing.name}": thing for thing in things if history.chartable(thing.card)}
    if not drawable:
        return
    live(_heading("History"), key="history_heading")
    with st.container(horizontal=True, vertical_alignment="center", key="history_pick"):
        chosen = st.selectbox(
            "Reading",
            list(drawable),
            format_func=lambda each: drawable[each].title if each in drawable else each,
            key=f"history_thing:{node.id}",
            label_visibility="collapsed",
            width=260,
        )
        window = st.segmented_control(
            "Range",
            [*history.RANGES, _CUSTOM],
            default="15 min",
            required=True,
            key="history_range",
            label_visibility="collapsed",
        )
        if window == _CUSTOM:
            st.datetime_input("From", key="history_from", label_visibility="collapsed", width=200)
            st.datetime_input("To", key="history_to", label_visibility="collapsed", width=200)
    if chosen in drawable:
        _chart(node.id, drawable[chosen], window or "15 min")


def _window(window: str) -> tuple[float, float]:
    now = time.time()
    if window != _CUSTOM:
        return now - history.RANGES[window], now
    tz = timezone()
    start, end = (
        st.session_state[key].replace(tzinfo=tz).timestamp() for key in ("history_from", "history_to")
    )
    return (start, end) if start < end else (end - 3600.0, end)


@st.fragment(run_every=5.0)
def _chart(node_id: str, thing: Thing, window: str) -> None:
    session = runtime.session()
    if session is None:
        return
    start, end = _window(window)
    try:
        series = session.api.history(node_id, thing.kind, thing.name, start, end)
    except CallboardError as error:
        live(parts.empty("The history is not available.", str(error)), key="chart_trouble")
        return
    boolean = getattr(thing.card, "type", "") == "boolean"
    spec = history.chart(series, title=thing.title, start=start, end=end, boolean=boolean)
    st.echarts_chart(spec, height=300, key="chart", alt=f"History of {thing.title}")
    st.caption(plain(history.caption(series)))


@st.fragment(run_every=1.0)
def _controls(node_id: str) -> None:
    node, session = _node(node_id), runtime.session()
    if node is None or session is None:
        return
    for thing in node.of_kind(Kind.CONTROL):
        if isinstance(thing.card, ControlCard):
            control(node, thing, thing.card, session)


def _actions(node: NodeView) -> None:
    session, site = runtime.session(), runtime.current().site
    for thing in node.of_kind(Kind.ACTION):
        if not isinstance(thing.card, ActionCard) or session is None or thing.name in _NOT_FOR_PEOPLE:
            continue
        address = Address(site, node.id, Leaf.COMMAND, Kind.ACTION, thing.name)
        about = thing.card.description or ("" if node.live else f"{node.title} is away")
        pressed = st.button(
            plain(thing.title),
            key=f"action:{node.id}:{thing.name}",
            help=plain(about) or None,
            disabled=not node.live,
            width="stretch",
        )
        if pressed and (thing.card.confirm or thing.card.parameters.get("properties")):
            action_dialog(address, thing.card, session)
        elif pressed:
            session.send(address, thing.title, {}, timeout=thing.card.timeout)


@st.fragment(run_every=1.0)
def _orders(node_id: str) -> None:
    session = runtime.session()
    if session is None:
        return
    now = runtime.current().source.snapshot().t
    orders = [order for order in session.ledger.orders() if order.address.node == node_id]
    live(view.orders([order for order in orders if order.address.kind is Kind.ACTION], now), key="orders")


@st.fragment(run_every=2.0)
def _log(node_id: str) -> None:
    snapshot = runtime.current().source.snapshot()
    live(join(_heading("Events"), view.events(snapshot.events, node_id, timezone())), key="log")


def _heading(text: str) -> Markup:
    return tag("div", tag("h2", text), class_="cb-section")


def _operate(node: NodeView) -> None:
    if node.of_kind(Kind.CONTROL):
        live(_heading("Controls"), key="controls_heading")
        _controls(node.id)
    session = runtime.session()
    if node.of_kind(Kind.ACTION) and session is not None and session.may_command:
        live(_heading("Actions"), key="actions_heading")
        _actions(node)
        _orders(node.id)


def _page() -> None:
    about, picker = st.columns([0.76, 0.24], gap="medium")
    with picker:
        chosen = _pick()
    if chosen is None:
        live(parts.empty("No node has signed in yet.", "The Overview page says how to add one."), key="none")
        return
    node = _node(chosen)
    with about:
        _identity(chosen, _shape(node))
    if node is None:
        return
    _presence(chosen)
    operable = bool(node.of_kind(Kind.CONTROL) or node.of_kind(Kind.ACTION))
    left, right = st.columns([0.68, 0.32], gap="large") if operable else (st.container(), None)
    with left:
        _readings(chosen)
        _history(node)
    if right is not None:
        with right:
            _operate(node)
    _updates(chosen)
    _log(chosen)


_page()
