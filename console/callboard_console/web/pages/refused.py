"""Refused: messages that could not be taken, why, and from whom."""

from __future__ import annotations

import streamlit as st

from callboard_console.web import runtime
from callboard_console.web.live import live
from callboard_console.web.pages.shared import follow, timezone
from callboard_console.web.views import refused as view
from callboard_console.web.views.parts import heading
from callboard_core.errors import CallboardError


@st.fragment(run_every=2.0)
def _table() -> None:
    session, own = runtime.session(), runtime.current().source.snapshot().refusals
    if session is None:
        return
    try:
        answer = session.api.refused()
    except CallboardError as error:
        trouble = (
            f"The board's own list is not available ({error}); these are what the console refused itself."
        )
        follow(live(view.render(own, total=len(own), trouble=trouble, tz=timezone()), key="refused"))
        return
    items = view.from_http(answer.get("items", []))
    follow(
        live(
            view.render(items, total=int(answer.get("count", 0)), trouble=None, tz=timezone()), key="refused"
        )
    )


live(
    heading(
        "Refused", "Messages the board could not take. They stop nothing; whoever sent them should know."
    ),
    key="refused_heading",
)
_table()
