"""Farm: every slot with what it does now, and how it goes as a whole."""

from __future__ import annotations

import streamlit as st

from callboard_console.web import runtime
from callboard_console.web.farm import Farm, FarmApi
from callboard_console.web.live import live
from callboard_console.web.pages.shared import attempt, follow, show_trouble
from callboard_console.web.views import farm as view
from callboard_console.web.views import parts
from callboard_console.web.views.markup import EMPTY
from callboard_core.errors import CallboardError

_KEY = "slots"
_ORDERS = {"enable", "drain", "disable", "pause", "resume", "sleep", "wake"}


def _clicked() -> None:
    do, _, what = (st.session_state[_KEY].act or "").partition(":")
    session = runtime.session()
    if do not in _ORDERS or session is None or not session.may_command:
        return
    node, _, slot = what.partition("/")
    attempt(lambda: FarmApi(session.api).steer(node, slot, do))


def _ask(region: str) -> Farm | None:
    """Return how the farm is; None when that is not known, which is then said."""
    session = runtime.session()
    try:
        return FarmApi(session.api).farm() if session is not None else None
    except CallboardError as error:
        live(parts.empty("The board does not tell about its farm.", str(error)), key=f"{region}_trouble")
        return None


@st.fragment(run_every=2.0)
def _summary() -> None:
    farm = _ask("farm_summary")
    follow(live(view.summary(farm) if farm is not None else EMPTY, key="farm_summary"))


@st.fragment(run_every=1.0)
def _slots() -> None:
    farm, session = _ask(_KEY), runtime.session()
    show_trouble()
    if farm is None or session is None:
        live(EMPTY, key=_KEY)
        return
    query = st.session_state.get("farm_query") or ""
    shown = view.slots(farm, query, may_command=session.may_command)
    follow(live(shown, key=_KEY, on_act=_clicked))


_summary()
st.text_input(
    "Search",
    key="farm_query",
    placeholder="Search node, engine, tag or state",
    label_visibility="collapsed",
    live=True,
    bind="query-params",
    width=360,
)
_slots()
