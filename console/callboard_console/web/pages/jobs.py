"""Jobs: what was asked of the farm, what is to become of it, and asking for more."""

from __future__ import annotations

from functools import partial

import streamlit as st

from callboard_console.web import runtime
from callboard_console.web.farm import FarmApi, Page
from callboard_console.web.live import live
from callboard_console.web.pages.shared import ask_next, ask_now, attempt, follow, show_trouble, timezone
from callboard_console.web.pages.submit import submit_dialog
from callboard_console.web.sessions import Session
from callboard_console.web.views import jobs as view
from callboard_console.web.views import parts
from callboard_console.web.views.markup import EMPTY
from callboard_console.web.views.words import count, plain
from callboard_core.errors import CallboardError

_KEY, _ASKED = "jobs", "jobs_asked"
_LABELS = {
    "pause": "Pause",
    "resume": "Resume",
    "cancel": "Cancel",
    "requeue": "Requeue failed",
    "delete": "Delete",
}


def _picked() -> frozenset[str]:
    kept: frozenset[str] = st.session_state.get("jobs_picked", frozenset())
    return kept


def _clicked() -> None:
    verb, _, what = (st.session_state[_KEY].act or "").partition(":")
    if verb == "pick":
        st.session_state["jobs_picked"] = _picked() ^ {what}


def _find(session: Session) -> Page:
    group = st.session_state.get("jobs_group") or "All"
    text = st.session_state.get("jobs_query") or ""
    return FarmApi(session.api).jobs(states=[each.value for each in view.GROUPS[group]], text=text)


@st.fragment(run_every=1.0)
def _table() -> None:
    session = runtime.session()
    if session is None:
        live(EMPTY, key="jobs_summary")
        return
    try:
        page = _find(session)
    except CallboardError as error:
        live(parts.empty("The board does not tell about its jobs.", str(error)), key="jobs_summary")
        return
    show_trouble()
    filtered = (
        bool(st.session_state.get("jobs_query")) or (st.session_state.get("jobs_group") or "All") != "All"
    )
    shown = view.table(page, _picked(), timezone(), filtered=filtered, may_command=session.may_command)
    follow(live(shown, key=_KEY, on_act=_clicked))
    live(view.summary(page), key="jobs_summary")
    if session.may_command:
        _mass(session, page)


def _mass(session: Session, page: Page) -> None:
    picked = [job for job in page.items if job.job in _picked()]
    if not picked:
        return
    st.caption(f"With the {count(len(picked), 'picked job')}:")
    columns = st.columns(len(_LABELS))
    for column, (do, label) in zip(columns, _LABELS.items(), strict=True):
        ids = view.allowed(do, picked)
        if column.button(label, key=f"jobs_{do}", disabled=not ids, width="stretch"):
            if do in {"cancel", "delete"}:
                ask_next(_ASKED, partial(_sure, session, do, ids))
            else:
                _do(session, do, ids)


def _do(session: Session, do: str, ids: list[str], **more: str) -> None:
    if attempt(lambda: FarmApi(session.api).act(ids, do, **more)):
        st.session_state["jobs_picked"] = frozenset()
        st.rerun()


def _sure(session: Session, do: str, ids: list[str]) -> None:
    @st.dialog(_LABELS[do])
    def ask() -> None:
        verb = "Delete" if do == "delete" else "Cancel"
        st.markdown(f"**{verb} {plain(count(len(ids), 'job'))}?**")
        remove = do == "delete" and st.toggle("Remove the files they made, too", key="jobs_remove")
        go, back = st.columns(2)
        if go.button(f"{verb} them", type="primary", width="stretch", key="jobs_go"):
            _do(session, do, ids, **({"files": "remove"} if remove else {}))
        if back.button("Back", width="stretch", key="jobs_back"):
            st.rerun()

    ask()


def _page() -> None:
    live(parts.heading("Jobs", "What was asked of the farm, the newest first."), key="jobs_heading")
    session = runtime.session()
    left, middle, right = st.columns([0.3, 0.5, 0.2], vertical_alignment="center")
    left.text_input(
        "Search",
        key="jobs_query",
        placeholder="Search name, note or id",
        label_visibility="collapsed",
        live=True,
        bind="query-params",
    )
    middle.segmented_control(
        "Show", list(view.GROUPS), default="All", key="jobs_group", label_visibility="collapsed"
    )
    if (
        session is not None
        and session.may_command
        and right.button("Submit a job", type="primary", width="stretch")
    ):
        submit_dialog(session)
    _table()
    ask_now(_ASKED)


_page()
