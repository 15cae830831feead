"""Topics: everything that is retained, and a box to publish commands for those who may."""

from __future__ import annotations

import streamlit as st

from callboard_console.web import runtime
from callboard_console.web.live import live
from callboard_console.web.pages.shared import timezone
from callboard_console.web.sessions import Session
from callboard_console.web.views import node as node_view
from callboard_console.web.views import topics as view
from callboard_console.web.views.markup import tag
from callboard_console.web.views.parts import heading
from callboard_console.web.views.words import plain
from callboard_core.errors import BadRequest

_TREE = "topic_tree"


def _opened() -> frozenset[str]:
    site = runtime.current().site
    kept: frozenset[str] = st.session_state.get("topics_opened", frozenset({site}))
    return kept


def _clicked() -> None:
    verb, _, topic = (st.session_state[_TREE].act or "").partition(":")
    if verb == "open":
        st.session_state["topics_opened"] = view.toggle(_opened(), topic)
    if topic in runtime.current().source.topics().held:
        st.session_state["topics_chosen"] = topic
        _suggest(topic)


def _suggest(topic: str) -> None:
    target = view.suggestion(topic)
    if target:
        st.session_state["publish_topic"] = target
        st.session_state["publish_args"] = view.example(runtime.current().source.snapshot(), target)


@st.fragment(run_every=1.0)
def _tree() -> None:
    topics = runtime.current().source.topics()
    chosen: str | None = st.session_state.get("topics_chosen")
    query = st.session_state.get("topics_query") or ""
    acted = live(view.tree(topics, query=query, opened=_opened(), chosen=chosen), key=_TREE, on_act=_clicked)
    if acted is not None:
        st.rerun()


@st.fragment(run_every=1.0)
def _payload() -> None:
    source = runtime.current().source
    chosen: str | None = st.session_state.get("topics_chosen")
    held = source.topics().held.get(chosen) if chosen is not None else None
    live(view.payload(chosen, held, source.snapshot().t, timezone()), key="payload")


def _publish(session: Session) -> None:
    live(tag("div", tag("h2", "Publish a command"), class_="cb-section"), key="publish_heading")
    st.session_state.setdefault("publish_topic", "")
    st.session_state.setdefault("publish_args", "{}")
    placeholder = f"{runtime.current().site}/NODE/command/KIND/NAME"
    topic = st.text_input("Topic", key="publish_topic", placeholder=placeholder)
    text = st.text_area("Arguments (JSON)", key="publish_args", height=100)
    if st.button("Publish", key="publish_send", type="primary"):
        try:
            order = view.order(runtime.current().source.snapshot(), topic or "", text or "")
        except BadRequest as error:
            st.error(plain(str(error)))
        else:
            _send(order, session)
    _orders()


def _send(order: view.Order, session: Session) -> None:
    if order.confirm is None:
        session.send(order.address, order.title, order.args, timeout=order.timeout)
        return

    @st.dialog("Are you sure?")
    def ask() -> None:
        st.markdown(f"**{plain(order.confirm or '')}**")
        st.caption(plain(f"{order.title} · {order.address}"))
        go, back = st.columns(2)
        if go.button("Publish", type="primary", width="stretch", key="confirm_publish"):
            session.send(order.address, order.title, order.args, timeout=order.timeout)
            st.rerun()
        if back.button("Cancel", width="stretch", key="cancel_publish"):
            st.rerun()

    ask()


@st.fragment(run_every=1.0)
def _orders() -> None:
    session = runtime.session()
    if session is not None:
        now = runtime.current().source.snapshot().t
        live(node_view.orders(session.ledger.orders(), now), key="topic_orders")


@st.fragment(run_every=10.0)
def _sweep() -> None:
    runtime.current().source.sweep()


def _page() -> None:
    _sweep()
    live(
        heading("Topics", "What the broker has retained: the cards, and the last value of everything."),
        key="topics_heading",
    )
    st.text_input(
        "Search",
        key="topics_query",
        placeholder="Search topics and payloads",
        label_visibility="collapsed",
        live=True,
        width=420,
    )
    left, right = st.columns([0.52, 0.48], gap="large")
    with left:
        _tree()
    with right:
        _payload()
        session = runtime.session()
        if session is not None and session.may_command:
            _publish(session)


_page()
