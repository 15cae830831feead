"""One job: its frames as they land, pictures, attempts with their logs, and what is to become of it."""

from __future__ import annotations

import time
from functools import partial

import streamlit as st

from callboard_console.web import runtime
from callboard_console.web.farm import Attempt, FarmApi, Job
from callboard_console.web.live import live
from callboard_console.web.pages.shared import ask_next, ask_now, attempt, follow, show_trouble, timezone
from callboard_console.web.sessions import Session
from callboard_console.web.views import job as view
from callboard_console.web.views import jobs, parts
from callboard_console.web.views.markup import EMPTY
from callboard_console.web.views.words import plain
from callboard_core.errors import CallboardError, NotFound

_STRIP, _CHOSEN, _ATTEMPTS, _ASKED = "job_strip", "job_chosen", "job_attempts", "job_asked"
#: Bytes of a log that are shown; the rest is in the file.
_LOG_LIMIT = 200_000


def _frame_clicked() -> None:
    verb, _, what = (st.session_state[_STRIP].act or "").partition(":")
    if verb == "frame":
        st.session_state["job_frame"] = int(what)


def _log_clicked(region: str) -> None:
    verb, _, what = (st.session_state[region].act or "").partition(":")
    if verb == "log":
        st.session_state["job_log"] = None if st.session_state.get("job_log") == what else what


@st.fragment(run_every=1.0)
def _live(name: str) -> None:
    session = runtime.session()
    if session is None:
        live(EMPTY, key="job_heading")
        return
    api = FarmApi(session.api)
    try:
        job = api.job(name)
        _draw(session, api, job)
    except NotFound:
        live(view.missing(name), key="job_heading")
    except CallboardError as error:
        live(parts.empty("The board does not answer.", str(error)), key="job_heading")


def _draw(session: Session, api: FarmApi, job: Job) -> None:
    live(view.heading(job, time.time(), timezone()), key="job_heading")
    show_trouble()
    if session.may_command:
        _orders(session, job)
    live(view.why(job, api.why(job.job)), key="job_why")
    tried = api.attempts(job.job)
    _frames(session, api, job, tried)
    live(view.steps(job), key="job_steps")
    opened: str | None = st.session_state.get("job_log")
    follow(
        live(
            view.attempts(tried, opened, timezone()),
            key=_ATTEMPTS,
            on_act=partial(_log_clicked, _ATTEMPTS),
        )
    )
    if opened:
        _log(api, job, opened, tried)


def _frames(session: Session, api: FarmApi, job: Job, tried: list[Attempt]) -> None:
    steps = [step.name for step in job.steps if step.work == "frames"]
    if not steps:
        return
    left, right = st.columns([0.5, 0.5], vertical_alignment="center")
    by = left.segmented_control("Colour by", ["State", "Time"], default="State", key="job_by") or "State"
    step = right.selectbox("Step", steps, key="job_step") if len(steps) > 1 else steps[0]
    frames = api.frames(job.job, step)
    picked: int | None = st.session_state.get("job_frame")
    live(view.strip(frames, picked, by=by), key=_STRIP, on_act=_frame_clicked)
    if picked is not None:
        live(view.chosen(job, frames, picked, tried), key=_CHOSEN, on_act=partial(_log_clicked, _CHOSEN))
        if session.may_command and view.may_be_made_again(job, frames, picked):
            asked = (session, job, frames.step, picked)
            st.button(f"Render frame {picked} again", key="job_frame_again", on_click=_again, args=asked)
    live(view.pictures(job, frames), key="job_pictures")


def _again(session: Session, job: Job, step: str, frame: int) -> None:
    _do(session, job, "requeue", what="frames", frames=str(frame), step=step)


def _log(api: FarmApi, job: Job, opened: str, tried: list[Attempt]) -> None:
    try:
        attempt_id, _, frame = opened.partition("@")
        text = api.log(job.job, attempt_id, int(frame) if frame else None, limit=_LOG_LIMIT)
    except CallboardError as error:
        st.caption(plain(str(error)))
        return
    over = all(one.ended is not None for one in tried if one.id == attempt_id)
    nothing = "Nothing was printed." if over else "Its lines come when it has ended."
    st.code(text or nothing, language=None, height=320)


def _orders(session: Session, job: Job) -> None:
    labels = {
        "pause": "Pause",
        "resume": "Resume",
        "release": "Release",
        "cancel": "Cancel",
        "requeue": "Requeue failed",
        "all": "Requeue all",
        "delete": "Delete",
    }
    offered = [do for do in labels if jobs.allowed("requeue" if do == "all" else do, [job])]
    with st.container(horizontal=True, gap="small"):
        pressed = [do for do in offered if st.button(labels[do], key=f"job_{do}")]
        if st.button("Priority …", key="job_priority"):
            ask_next(_ASKED, partial(_priority, session, job))
    for do in pressed:
        if do in {"cancel", "all", "delete"}:
            ask_next(_ASKED, partial(_sure, session, job, do, labels[do]))
        else:
            _do(session, job, do)


def _do(session: Session, job: Job, do: str, **more: str) -> bool:
    if do == "all":
        do, more = "requeue", {"what": "all"}
    return attempt(lambda: FarmApi(session.api).act([job.job], do, **more))


def _sure(session: Session, job: Job, do: str, label: str) -> None:
    @st.dialog(label)
    def ask() -> None:
        said = {
            "cancel": "What runs is stopped; frames that are done stay.",
            "all": "Every frame is rendered anew.",
            "delete": "The job is forgotten.",
        }
        st.markdown(f"**{label}: {plain(job.name)}?** {said[do]}")
        remove = do == "delete" and st.toggle("Remove the files it made, too", key="job_remove")
        go, back = st.columns(2)
        if go.button(label, type="primary", width="stretch", key="job_go"):
            if _do(session, job, do, **({"files": "remove"} if remove else {})) and do == "delete":
                st.switch_page("pages/jobs.py")
            st.rerun()
        if back.button("Back", width="stretch", key="job_back"):
            st.rerun()

    ask()


def _priority(session: Session, job: Job) -> None:
    @st.dialog("Priority")
    def ask() -> None:
        wanted = st.slider("Higher goes first", 0, 100, job.priority, key="job_priority_value")
        if st.button("Set", type="primary", key="job_priority_go"):
            attempt(lambda: FarmApi(session.api).change(job.job, priority=wanted))
            st.rerun()

    ask()


def _page() -> None:
    name = st.query_params.get("job")
    if not name:
        live(parts.empty("No job was chosen.", "Choose one on the Jobs page."), key="job_heading")
        return
    _live(name)
    ask_now(_ASKED)


_page()
