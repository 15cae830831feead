"""The dialog that submits a job: a file, what to make of it, and the settings of that."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st
from pydantic import JsonValue

from callboard_console.web.farm import FarmApi, JobType
from callboard_console.web.pages.shared import form
from callboard_console.web.sessions import Session
from callboard_console.web.views import jobs as view
from callboard_console.web.views import schema
from callboard_console.web.views.words import plain
from callboard_core.artifacts import HttpArtifacts
from callboard_core.errors import CallboardError

__all__ = ["submit_dialog"]

#: Asked for first, in this order; the other settings fold away.
_FIRST = ("frames", "frame", "width", "height", "format")
#: The job type that is offered first.
_USUAL = "render"


@st.dialog("Submit a job", width="large")
def submit_dialog(session: Session) -> None:
    """Ask for a file and settings, upload the file and submit the job."""
    try:
        types = FarmApi(session.api).types()
    except CallboardError as error:
        st.error(plain(str(error)))
        return
    files = st.file_uploader(
        "Files (the first is the one to open)", accept_multiple_files=True, key="submit_files"
    )
    labels = {each.name: each for each in sorted(types, key=lambda each: each.name != _USUAL)}
    chosen = st.selectbox(
        "What to do", list(labels), format_func=lambda name: plain(labels[name].label), key="submit_type"
    )
    gather = _settings(labels[chosen]) if chosen else dict
    left, middle, right = st.columns(3)
    name = left.text_input("Name (optional)", key="submit_name")
    project = middle.text_input("Project (optional)", key="submit_project")
    priority = right.slider("Priority", 0, 100, 50, key="submit_priority")
    if not st.button("Submit", type="primary", key="submit_go"):
        return
    try:
        settings = gather()
        with st.spinner("Uploading …"):
            inputs: list[JsonValue] = [_upload(session, each.name, each.getvalue()) for each in files]
        request: dict[str, JsonValue] = {
            "type": chosen,
            "settings": settings,
            "inputs": inputs,
            "priority": priority,
            **({"name": name} if name else {}),
            **({"project": project} if project else {}),
        }
        job = FarmApi(session.api).submit(request)
    except CallboardError as error:
        st.error(plain(str(error)))
        return
    st.switch_page("pages/job.py", query_params={"job": job})


def _settings(kind: JobType) -> Callable[[], dict[str, JsonValue]]:
    simple, rest = view.expressible(kind.settings)
    properties = simple["properties"]
    wanted = [*simple["required"], *(name for name in _FIRST if name not in simple["required"])]
    first = {name: properties[name] for name in wanted if name in properties}
    more = {name: properties[name] for name in properties if name not in first}
    gather = form(f"submit:{kind.name}", {**simple, "properties": first})
    with st.expander("More settings"):
        others = form(f"submit:{kind.name}:more", {"type": "object", "properties": more})
        text = ""
        if rest:
            text = st.text_area(
                f"{', '.join(rest)} (JSON)",
                "{}",
                key=f"submit:{kind.name}:rest",
                help="An object with these keys",
            )

    def collected() -> dict[str, JsonValue]:
        return gather() | others() | schema.parse_args(text or "")

    return collected


def _upload(session: Session, name: str, content: bytes) -> dict[str, JsonValue]:
    ref = HttpArtifacts(session.api.url, session.credential).put(content, type="application/octet-stream")
    return {"name": name, "artifact": ref.model_dump(mode="json")}
