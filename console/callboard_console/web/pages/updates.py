"""Updates: what went out to nodes and how it stands; sending a release that was published, pausing, cancelling."""

from __future__ import annotations

import time

import streamlit as st

from callboard_console.web import runtime
from callboard_console.web.live import live
from callboard_console.web.pages.shared import attempt, follow, show_trouble, timezone
from callboard_console.web.sessions import Session
from callboard_console.web.views import parts
from callboard_console.web.views import updates as view
from callboard_core.errors import CallboardError
from callboard_core.topics import BOARD

_KEY = "updates"
_PATH = "/api/v1/updates"
_STEERING = frozenset({"pause", "resume", "cancel"})


def _clicked() -> None:
    verb, _, what = (st.session_state[_KEY].act or "").partition(":")
    session = runtime.session()
    if verb in _STEERING and session is not None and session.may_command:
        attempt(lambda: session.api.post(f"{_PATH}/{what}", {"action": verb}))


@st.fragment(run_every=1.0)
def _table() -> None:
    session = runtime.session()
    if session is None:
        return
    try:
        items = session.api.get(_PATH)["items"]
    except CallboardError as error:
        live(parts.empty("The board does not tell about its updates.", str(error)), key=_KEY)
        return
    show_trouble()
    shown = view.render(items, may_command=session.may_command, now=time.time(), tz=timezone())
    follow(live(shown, key=_KEY, on_act=_clicked))


def _form(session: Session) -> None:
    """Send a release that was published before."""
    try:
        releases = session.api.get(f"{_PATH}/manifests", kind="release", limit=20)["items"]
    except CallboardError:
        return
    if not releases:
        return
    nodes = sorted(each for each in runtime.current().source.snapshot().nodes if each != BOARD)
    with st.expander("Send a release"), st.form("updates_form", border=False):
        chosen = st.selectbox("Release", releases, format_func=view.release)
        some = st.multiselect("Nodes", nodes, placeholder="All nodes", key="updates_nodes")
        share = st.slider("To so many first, in percent", 0, 100, 10, key="updates_canary")
        if st.form_submit_button("Update", type="primary"):
            wish = {
                "number": chosen["number"],
                "nodes": some,
                "all": not some,
                "terms": {"canary": share / 100},
            }
            attempt(lambda: session.api.post(_PATH, wish))
            st.rerun()


def _page() -> None:
    live(
        parts.heading(
            "Updates", "Each node goes back by itself from a version with which it does not get healthy."
        ),
        key="updates_heading",
    )
    session = runtime.session()
    if session is not None and session.may_command:
        _form(session)
    _table()


_page()
