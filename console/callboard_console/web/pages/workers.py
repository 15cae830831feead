"""Workers: what can be called, who answers and how busy they are, calling it, and who calls whom."""

from __future__ import annotations

import streamlit as st
from pydantic import JsonValue

from callboard_console.web import runtime
from callboard_console.web.live import live
from callboard_console.web.pages.shared import follow, form, timezone
from callboard_console.web.sessions import Session
from callboard_console.web.views import node as node_view
from callboard_console.web.views import workers as view
from callboard_console.web.views.markup import tag
from callboard_console.web.views.words import plain
from callboard_core.cards import WorkerCard
from callboard_core.errors import BadRequest
from callboard_core.topics import BOARD, Address, Kind, Leaf

_KEY = "services"
#: Seconds a node has to say that it drains a worker.
_DRAIN_TIMEOUT = 10.0


def _opened() -> frozenset[str]:
    kept: frozenset[str] = st.session_state.get("workers_opened", frozenset())
    return kept


def _clicked() -> None:
    verb, _, what = (st.session_state[_KEY].act or "").partition(":")
    match verb:
        case "open":
            st.session_state["workers_opened"] = view.toggle(_opened(), what)
        case "call":
            st.session_state["workers_service"] = what
        case "drain" | "enable":
            _drain(what, on=verb == "drain")


def _drain(member: str, *, on: bool) -> None:
    session = runtime.session()
    node, _, name = member.partition("/")
    if session is not None and session.may_command:
        address = Address(runtime.current().site, node, Leaf.COMMAND, Kind.ACTION, "drain-worker")
        title = f"{'Drain' if on else 'Enable'} {name} on {node}"
        session.send(address, title, {"worker": name, "on": on}, timeout=_DRAIN_TIMEOUT)


@st.fragment(run_every=1.0)
def _summary() -> None:
    live(view.summary(runtime.current().source.snapshot()), key="workers_summary")


@st.fragment(run_every=1.0)
def _table() -> None:
    session, snapshot = runtime.session(), runtime.current().source.snapshot()
    query = st.session_state.get("workers_query") or ""
    shown = view.table(snapshot, query, _opened(), may_command=session is not None and session.may_command)
    act = live(shown, key=_KEY, on_act=_clicked)
    follow(act)
    if (act or "").startswith("call:"):
        st.rerun()


@st.fragment(run_every=1.0)
def _sessions() -> None:
    act = live(view.sessions(runtime.current().source.snapshot(), timezone()), key="sessions")
    follow(act)


def _call(session: Session) -> None:
    live(tag("div", tag("h2", "Call a service"), class_="cb-section"), key="call_heading")
    snapshot = runtime.current().source.snapshot()
    names = view.callable_services(snapshot)
    kept = st.session_state.get("workers_service")
    if kept is not None and kept not in names:
        names = [*names, kept]
    chosen = st.selectbox(
        "Service",
        names,
        index=None,
        key="workers_service",
        placeholder="Choose what to call",
        format_func=str,
    )
    card = view.card_of(snapshot, chosen) if chosen else None
    if chosen and card is None:
        st.caption("Nobody offers it at the moment.")
    elif chosen and card is not None:
        _ask(session, chosen, card)
    _orders()


def _ask(session: Session, service: str, card: WorkerCard) -> None:
    if card.description:
        st.caption(plain(card.description))
    gather = form(f"call:{service}", card.parameters)
    if not st.button("Call", type="primary", key="workers_call"):
        return
    try:
        args = gather()
    except BadRequest as error:
        st.error(plain(str(error)))
        return
    address = Address(runtime.current().site, BOARD, Leaf.COMMAND, Kind.WORKER, "call")
    wanted: dict[str, JsonValue] = {"service": service, "args": args, "timeout": card.timeout}
    session.send(address, service, wanted, timeout=card.timeout + 1.0)


@st.fragment(run_every=1.0)
def _orders() -> None:
    session = runtime.session()
    if session is not None:
        orders = [one for one in session.ledger.orders() if one.address.name in {"call", "drain-worker"}]
        live(node_view.orders(orders, runtime.current().source.snapshot().t), key="workers_orders")


def _page() -> None:
    _summary()
    st.text_input(
        "Search",
        key="workers_query",
        placeholder="Search service, node or tag",
        label_visibility="collapsed",
        live=True,
        bind="query-params",
        width=360,
    )
    session = runtime.session()
    if session is None or not session.may_command:
        _table()
        _sessions()
        return
    left, right = st.columns([0.7, 0.3], gap="large")
    with left:
        _table()
        _sessions()
    with right:
        _call(session)


_page()
