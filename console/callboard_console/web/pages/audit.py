"""Audit: who did what, from where, and what came of it; for those who may administer."""

from __future__ import annotations

import time
from typing import Any

import streamlit as st

from callboard_console.web import runtime
from callboard_console.web.live import live
from callboard_console.web.pages.shared import timezone
from callboard_console.web.sessions import Session
from callboard_console.web.views import audit as view
from callboard_console.web.views.parts import heading
from callboard_console.web.views.words import plain
from callboard_core.errors import CallboardError

#: Entries on a page, and the most that the button for older ones shows.
_PAGE, _MOST = 100, 1000


def _wanted() -> dict[str, Any]:
    who, what, result, span, subject = st.columns([2, 2, 2, 2, 3])
    return view.asked(
        who=who.text_input("Who", key="audit_who", placeholder="anybody"),
        what=what.selectbox("What", list(view.WHATS), key="audit_what"),
        result=result.selectbox("Result", list(view.RESULTS), key="audit_result"),
        span=span.selectbox("When", list(view.SPANS), index=1, key="audit_span"),
        subject=subject.text_input(
            "Holds", key="audit_subject", placeholder="a part of a topic, path or name"
        ),
        now=time.time(),
    )


@st.fragment(run_every=2.0)
def _table(session: Session, wanted: dict[str, Any]) -> None:
    limit = int(st.session_state.get("audit_shown", _PAGE))
    try:
        found = session.api.get("/api/v1/audit", **wanted, limit=limit)
    except CallboardError as error:
        st.error(plain(error.message))
        return
    live(view.render(found["items"], tz=timezone()), key="audit")
    if found["next"] is not None and limit < _MOST:
        st.button("Show more", key="audit_more", on_click=_show_more)


def _show_more() -> None:
    st.session_state["audit_shown"] = _MOST


def _export(session: Session, wanted: dict[str, Any]) -> None:
    def read(kind: str) -> bytes:
        with session.api.open("/api/v1/audit/export", **wanted, format=kind) as answer:
            return answer.read()

    left, right, _ = st.columns([1, 1, 4])
    for column, kind, label in ((left, "csv", "Export CSV"), (right, "jsonl", "Export JSON lines")):
        column.download_button(
            label,
            lambda kind=kind: read(kind),  # type: ignore[misc]
            file_name=f"audit.{kind}",
            key=f"audit_{kind}",
            on_click="ignore",
            width="stretch",
        )


def _page() -> None:
    session = runtime.session()
    if session is None:
        return
    live(
        heading("Audit", "Who did what, from where, and what came of it, the newest first."),
        key="audit_heading",
    )
    if not session.may_admin:
        st.info("Only an admin reads the audit log.")
        return
    wanted = _wanted()
    _export(session, wanted)
    _table(session, wanted)


_page()
