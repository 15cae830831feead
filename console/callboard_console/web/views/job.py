"""The page of one job: its frames by state or time, pictures, steps, attempts, and why it is not running. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, tzinfo

from callboard_console.web.farm import Attempt, Frames, Job, Step, Why, file_path
from callboard_console.web.views import jobs, parts, words
from callboard_console.web.views.farm import bar, eta
from callboard_console.web.views.markup import EMPTY, Markup, join, node_link, tag
from callboard_core.farm.frames import parse_frames
from callboard_core.farm.states import FrameState, JobState, TaskState

__all__ = [
    "CELLS",
    "attempts",
    "chosen",
    "heading",
    "may_be_made_again",
    "missing",
    "pictures",
    "steps",
    "strip",
    "why",
]

#: Cells of the strip; a job of more frames shows several in one.
CELLS = 1200
#: Pictures below the strip.
PICTURES = 24
_TONES = {
    FrameState.WAITING: "none",
    FrameState.ASSIGNED: "info",
    FrameState.RENDERING: "accent",
    FrameState.DONE: "ok",
    FrameState.FAILED: "bad",
    FrameState.CANCELLED: "idle",
}
#: What a cell of several frames shows: what needs most to be seen.
_URGENCY = (
    FrameState.FAILED,
    FrameState.RENDERING,
    FrameState.ASSIGNED,
    FrameState.WAITING,
    FrameState.CANCELLED,
    FrameState.DONE,
)
_TASK_TONES = {
    TaskState.WAITING: "idle",
    TaskState.READY: "info",
    TaskState.ASSIGNED: "info",
    TaskState.RUNNING: "accent",
    TaskState.DONE: "ok",
    TaskState.FAILED: "bad",
    TaskState.CANCELLED: "idle",
}


def missing(job: str) -> Markup:
    """Return what is shown for a job that is not there (any more)."""
    return parts.empty(f"There is no job {job}.", "It was deleted, or never was.")


def heading(job: Job, now: float, tz: tzinfo = UTC) -> Markup:
    """Return what the job is and how far it has come."""
    counts = job.frames
    facts = [
        ("Type", job.type),
        ("Owner", job.owner),
        ("Project", " / ".join(name for name in (job.project, job.shot) if name)),
        ("Priority", f"{job.priority}" + (f", tier {job.tier}" if job.tier != 1 else "")),
        ("Tags", ", ".join(job.tags)),
        ("Submitted", words.moment(job.created, tz)),
        ("Took", words.duration((job.ended or now) - job.started) if job.started is not None else ""),
    ]
    listed = tag("dl", *(tag("div", tag("dt", name), tag("dd", said)) for name, said in facts if said))
    said = f"{counts.done} of {words.count(counts.total, 'frame')} done"
    left = " · ".join(
        text for text in (said, f"{counts.failed} failed" if counts.failed else "", eta(job.eta)) if text
    )
    return join(
        tag("div", tag("h1", job.name), jobs.state(job.state), listed, class_="cb-facts"),
        bar(job.progress, tone=jobs.TONES[job.state]),
        tag("p", left, class_="cb-quiet"),
        tag("p", job.reason, class_="cb-bad cb-figure") if job.reason else None,
        tag("p", job.note) if job.note else None,
        _downloads(job),
        _last(job),
    )


def _last(job: Job) -> Markup:
    """The picture that came last, while more are coming."""
    if not job.frames.done or job.state is JobState.DONE or not _has_pictures(job, job.steps[0].name):
        return EMPTY
    # The number of frames that are done makes the browser ask for the picture anew.
    source = f"{file_path(job.job, 'last')}?what=thumbnail&done={job.frames.done}"
    return tag(
        "figure",
        tag("img", src=source, alt="the picture that was rendered last"),
        tag("figcaption", "Rendered last"),
        class_="cb-last",
    )


def _downloads(job: Job) -> Markup:
    if not job.frames.done:
        return EMPTY
    links = [tag("a", "All files (zip)", href=file_path(job.job, "files.zip"), download=True)]
    video = next((step for step in job.steps if step.type == "encode" and step.state is TaskState.DONE), None)
    if video is not None:
        links.append(tag("a", "Video", href=file_path(job.job, "video"), download=True))
    return tag("p", *(join(link, " ") for link in links), class_="cb-downloads")


def strip(frames: Frames, picked: int | None, *, by: str = "State") -> Markup:
    """Return one cell for each frame, coloured by its state or by how long it took; a click picks a frame."""
    many = len(frames.frames)
    if not many:
        return EMPTY
    size = -(-many // CELLS)
    slowest = max((took for took in frames.seconds if took is not None), default=0.0)
    cells = (
        _cell(frames, start, min(start + size, many), picked, slowest if by == "Time" else None)
        for start in range(0, many, size)
    )
    legend = _times(slowest) if by == "Time" else _legend(frames)
    return join(tag("div", *cells, class_="cb-frames", data_key=f"strip-{by}"), legend)


def _cell(frames: Frames, start: int, end: int, picked: int | None, slowest: float | None) -> Markup:
    states = set(frames.states[start:end])
    shown = next(state for state in _URGENCY if state in states)
    took = [each for each in frames.seconds[start:end] if each is not None]
    first, last = frames.frames[start], frames.frames[end - 1]
    name = f"frame {first}" if end - start == 1 else f"frames {first}-{last}"
    said = [name, shown.value, *([f"{sum(took) / len(took):.2f} s"] if took else [])]
    if node := frames.nodes[start]:
        said.append(node)
    style = None
    if slowest is not None:
        share = (sum(took) / len(took)) / slowest if took and slowest else 0.0
        style = f"--share:{share:.2f}" if took else None
    return tag(
        "i",
        class_=f"cb-cell cb-{_TONES[shown] if slowest is None else 'heat' if took else 'none'}"
        + (" cb-chosen" if picked is not None and first <= picked <= last else ""),
        style=style,
        title=" · ".join(said),
        data_act=f"frame:{first}",
        data_key=f"f{first}",
        data_state=shown.value,
    )


def _legend(frames: Frames) -> Markup:
    counted = ((state, frames.states.count(state)) for state in FrameState)
    said = (
        tag("span", tag("i", class_=f"cb-cell cb-{_TONES[state]}"), f" {count} {state.value}")
        for state, count in counted
        if count
    )
    return tag("p", *said, class_="cb-frames-legend")


def _times(slowest: float) -> Markup:
    return tag("p", f"The darker the slower; the slowest took {slowest:.2f} s.", class_="cb-frames-legend")


def pictures(job: Job, frames: Frames) -> Markup:
    """Return thumbnails of the frames that are done, the last ones of the sequence."""
    done = [
        number for number, state in zip(frames.frames, frames.states, strict=True) if state is FrameState.DONE
    ]
    if not done or not _has_pictures(job, frames.step):
        return EMPTY
    shown = done[-PICTURES:]
    drawn = (
        tag(
            "figure",
            tag(
                "img",
                src=file_path(job.job, "frames", number, "thumbnail"),
                alt=f"frame {number}",
                loading="lazy",
            ),
            tag("figcaption", str(number)),
            data_act=f"frame:{number}",
            data_key=f"p{number}",
        )
        for number in shown
    )
    return tag("div", *drawn, class_="cb-pictures")


def _has_pictures(job: Job, step: str) -> bool:
    return any(one.name == step and one.work == "frames" and one.engine != "simulated" for one in job.steps)


def chosen(job: Job, frames: Frames, number: int, tried: Sequence[Attempt]) -> Markup:
    """Return what is known of one frame: its picture when it is done, and the logs of who worked on it."""
    if number not in frames.frames:
        return EMPTY
    at = frames.frames.index(number)
    state, took, node = frames.states[at], frames.seconds[at], frames.nodes[at]
    facts = [
        ("State", state.value),
        ("Tries", str(frames.tries[at])),
        ("Took", f"{took:.2f} s" if took is not None else ""),
        ("Node", node or ""),
    ]
    listed = tag("dl", *(tag("div", tag("dt", name), tag("dd", said)) for name, said in facts if said))
    picture: Markup | None = None
    if state is FrameState.DONE and _has_pictures(job, frames.step):
        source = file_path(job.job, "frames", number, "image")
        small = file_path(job.job, "frames", number, "thumbnail")
        image = tag("img", src=small, alt=f"frame {number}")
        picture = join(
            tag("a", image, href=source, target="_blank"),
            tag("p", tag("a", "Whole picture", href=source, download=True), class_="cb-downloads"),
        )
    return tag(
        "div", tag("h3", f"Frame {number}"), listed, picture, _logs(number, tried), class_="cb-facts cb-frame"
    )


def may_be_made_again(job: Job, frames: Frames, number: int) -> bool:
    """Tell whether a frame can be put back in the queue: nobody works on it, and it is not there already."""
    states = dict(zip(frames.frames, frames.states, strict=True))
    over = {FrameState.DONE, FrameState.FAILED, FrameState.CANCELLED}
    return states.get(number) in over and bool(jobs.allowed("requeue", [job]))


def _logs(number: int, tried: Sequence[Attempt]) -> Markup:
    mine = [one for one in tried if one.frames and number in parse_frames(one.frames)]
    links = (
        tag(
            "a",
            f"Log of {one.node} / {one.slot}, {one.state.value}",
            role="button",
            tabindex="0",
            data_act=f"log:{one.id}@{number}",
        )
        for one in mine
    )
    return tag("p", *links, class_="cb-downloads") if mine else EMPTY


def steps(job: Job) -> Markup:
    """Return the parts of the job; nothing when there is only one and nothing is wrong with it."""
    if len(job.steps) == 1 and not job.steps[0].failure and not job.steps[0].blocked:
        return EMPTY
    return tag("div", tag("h2", "Steps"), *(_step(one) for one in job.steps), class_="cb-runs")


def _step(step: Step) -> Markup:
    needs = f"after {', '.join(step.depends)}" if step.depends else None
    pace = f"{step.frame_seconds:.2f} s a frame" if step.frame_seconds is not None else None
    blocked = f"not on {', '.join(step.blocked)} any more" if step.blocked else None
    counts = step.counts
    held = step.held if step.state in {TaskState.WAITING, TaskState.READY} else None
    said = " · ".join(
        text for text in (step.engine, f"{counts.done} of {counts.total}", needs, pace, blocked, held) if text
    )
    state = tag("span", step.state.value, class_=f"cb-status cb-{_TASK_TONES[step.state]}")
    return tag(
        "div",
        tag("b", step.name),
        " ",
        state,
        tag("p", said, class_="cb-quiet"),
        tag("p", step.failure, class_="cb-figure cb-bad") if step.failure else None,
        class_="cb-run",
        data_key=step.name,
    )


def why(job: Job, found: Sequence[Why]) -> Markup:
    """Return why the job is not running, in the scheduler's own words."""
    said = [(one.step, reason) for one in found for reason in one.reasons]
    if job.state not in {JobState.HELD, JobState.QUEUED, JobState.PAUSED} or not said:
        return EMPTY
    several = len(job.steps) > 1
    lines = (
        tag("li", tag("b", f"{step}: ") if several else None, reason.text, data_key=f"{step}-{reason.code}")
        for step, reason in said
    )
    return tag("div", tag("h2", "Why is it not running?"), tag("ul", *lines), class_="cb-why")


def attempts(found: Sequence[Attempt], opened: str | None, tz: tzinfo = UTC) -> Markup:
    """Return who worked on the job and how that ended; a click opens an attempt's log."""
    if not found:
        return EMPTY
    captions = ("When", "Where", "What", "How it is", "Took", "")
    head = tag("tr", *(tag("th", caption) for caption in captions))
    rows = (_attempt(one, one.id == opened, tz) for one in found)
    drawn = tag("table", tag("thead", head), tag("tbody", *rows), class_="cb-table cb-jobs")
    return join(tag("div", tag("h2", "Attempts"), class_="cb-section"), tag("section", drawn))


def _attempt(one: Attempt, opened: bool, tz: tzinfo) -> Markup:
    took = (
        f"{one.ended - one.started:.1f} s"
        if one.ended is not None and one.started is not None
        else eta(one.eta)
    )
    what = f"frames {one.frames}" if one.frames else one.step
    state = tag("span", one.state.value, class_=f"cb-status cb-{_TASK_TONES[one.state]}")
    blame = tag("small", f"{one.message} (the {one.fault}'s fault)" if one.fault else one.message)
    log = tag("a", "Hide log" if opened else "Log", role="button", tabindex="0", data_act=f"log:{one.id}")
    return tag(
        "tr",
        tag("td", words.moment(one.made, tz)),
        tag("td", node_link(one.node, one.node), f" / {one.slot}"),
        tag("td", what),
        tag("td", state, blame if one.message else None),
        tag("td", took),
        tag("td", log),
        data_key=one.id,
    )
