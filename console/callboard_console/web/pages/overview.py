"""Overview: how the board is, and every node at a glance."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from callboard_console.web import runtime
from callboard_console.web.live import live
from callboard_console.web.pages.shared import follow
from callboard_console.web.views import overview as view
from callboard_console.web.views.overview import Chosen, Only, turn

_KEY = "overview"


def _chosen() -> Chosen:
    kept: Chosen = st.session_state.get("overview_chosen", Chosen())
    query = st.session_state.get("overview_query") or ""
    only = Only(st.session_state.get("overview_only") or Only.ALL)
    if (query, only) == (kept.query, kept.only):
        return kept
    return replace(kept, query=query, only=only, page=0)


def _clicked() -> None:
    st.session_state["overview_chosen"] = turn(_chosen(), st.session_state[_KEY].act or "")


@st.fragment(run_every=1.0)
def _summary() -> None:
    live(view.summary(runtime.current().source.snapshot()), key="summary")


@st.fragment(run_every=1.0)
def _table(*, empty: bool) -> None:
    console = runtime.current()
    snapshot = console.source.snapshot()
    follow(live(view.table(snapshot, _chosen(), console.joining), key=_KEY, on_act=_clicked))
    if view.is_empty(snapshot) != empty:
        st.rerun()


def _filter() -> None:
    with st.container(horizontal=True, key="filter", vertical_alignment="center"):
        st.text_input(
            "Search",
            key="overview_query",
            placeholder="Search name, tag, host or address",
            label_visibility="collapsed",
            live=True,
            bind="query-params",
            width=360,
        )
        st.segmented_control(
            "Show",
            [only.value for only in Only],
            key="overview_only",
            default=Only.ALL.value,
            required=True,
            label_visibility="collapsed",
        )


def _page() -> None:
    empty = view.is_empty(runtime.current().source.snapshot())
    _summary()
    if not empty:
        _filter()
    _table(empty=empty)


_page()
