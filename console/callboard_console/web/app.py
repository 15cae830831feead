"""The console's frame: theme, navigation, who is logged in. Run by Streamlit for every browser."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import streamlit as st

from callboard_console.web import runtime
from callboard_console.web.live import leave, live
from callboard_console.web.sessions import Session
from callboard_console.web.views import parts, words

if TYPE_CHECKING:
    from streamlit.navigation.page import StreamlitPage

_STATIC = files("callboard_console.web") / "static"


def main() -> None:
    """Draw the frame and the page that was asked for."""
    console, session = runtime.current(), runtime.session()
    st.set_page_config(page_title=f"{console.site} · Callboard", page_icon=_svg("favicon.svg"), layout="wide")
    st.html(f"<style>{(_STATIC / 'console.css').read_text(encoding='utf-8')}</style>")
    st.logo(_svg("logo.svg"), size="medium")
    chosen = st.navigation(
        [
            st.Page("pages/overview.py", title="Overview", default=True),
            st.Page("pages/node.py", title="Node", url_path="node"),
            st.Page("pages/workers.py", title="Workers", url_path="workers"),
            st.Page("pages/farm.py", title="Farm", url_path="farm"),
            st.Page("pages/jobs.py", title="Jobs", url_path="jobs"),
            st.Page("pages/job.py", title="Job", url_path="job"),
            st.Page("pages/updates.py", title="Updates", url_path="updates"),
            st.Page("pages/topics.py", title="Topics", url_path="topics"),
            st.Page("pages/refused.py", title="Refused", url_path="refused"),
            st.Page("pages/add_node.py", title="Add node", url_path="add-node"),
            *_for_admins(session),
        ],
        position="top",
    )
    if session is None:
        leave()
        st.stop()
    st.html(parts.user_box(session.username, session.role, session.leaving))
    _banner()
    chosen.run()


def _for_admins(session: Session | None) -> list[StreamlitPage]:
    if session is None or not session.may_admin:
        return []
    return [
        st.Page("pages/people.py", title="People", url_path="people"),
        st.Page("pages/audit.py", title="Audit", url_path="audit"),
    ]


@st.fragment(run_every=2.0)
def _banner() -> None:
    live(parts.banner(runtime.current().source.snapshot(), words.zone(st.context.timezone)), key="banner")


def _svg(name: str) -> str:
    return (_STATIC / name).read_text(encoding="utf-8")


main()
