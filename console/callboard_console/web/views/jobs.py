"""The Jobs page: what was asked of the farm and how far it is, and what a new job needs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Any

from callboard_console.web.farm import Page
from callboard_console.web.views import parts, schema, words
from callboard_console.web.views.farm import bar, eta, job_link
from callboard_console.web.views.markup import EMPTY, Markup, join, tag
from callboard_core.farm.reports import JobReport
from callboard_core.farm.states import JobState

__all__ = ["GROUPS", "TONES", "allowed", "expressible", "state", "summary", "table"]

#: Which states belong to what people choose between.
GROUPS: Mapping[str, tuple[JobState, ...]] = {
    "All": (),
    "Open": (JobState.HELD, JobState.QUEUED, JobState.ACTIVE, JobState.PAUSED),
    "Done": (JobState.DONE,),
    "Failed": (JobState.FAILED,),
    "Cancelled": (JobState.CANCELLED,),
}
TONES: Mapping[JobState, str] = {
    JobState.HELD: "idle",
    JobState.QUEUED: "info",
    JobState.ACTIVE: "accent",
    JobState.PAUSED: "warn",
    JobState.DONE: "ok",
    JobState.FAILED: "bad",
    JobState.CANCELLED: "idle",
}
_COLUMNS = ("", "Job", "State", "Progress", "Left", "Priority", "Owner", "Submitted")
_OVER = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})
#: What can be done to a job in which state; the rest would be refused.
_ALLOWED: Mapping[str, frozenset[JobState]] = {
    "pause": frozenset({JobState.QUEUED, JobState.ACTIVE}),
    "resume": frozenset({JobState.PAUSED}),
    "release": frozenset({JobState.HELD}),
    "cancel": frozenset(JobState) - _OVER,
    "requeue": frozenset(
        {JobState.ACTIVE, JobState.QUEUED, JobState.FAILED, JobState.CANCELLED, JobState.DONE}
    ),
    "delete": frozenset(JobState),
}


def state(value: JobState) -> Markup:
    """Return a job's state as a dot and its word."""
    return tag("span", value.value, class_=f"cb-status cb-{TONES[value]}")


def allowed(do: str, jobs: Sequence[JobReport]) -> list[str]:
    """Return the ids of the jobs it can be done to."""
    return [job.job for job in jobs if job.state in _ALLOWED[do]]


def summary(page: Page) -> Markup:
    """Return how many jobs there are, for below the table; nothing where there are none."""
    if not page.total:
        return EMPTY
    said = words.count(page.total, "job")
    if len(page.items) < page.total:
        said += f"; the first {len(page.items)} are shown"
    return tag("footer", said, class_="cb-pager")


def table(
    page: Page, picked: frozenset[str], tz: tzinfo = UTC, *, filtered: bool, may_command: bool
) -> Markup:
    """Return the jobs with how far they are; a click in the first column picks one."""
    if not page.items and filtered:
        return parts.empty("No job passes the filter.", "Show all, or clear the search.")
    if not page.items:
        return parts.empty(
            "Nothing has been asked of the farm yet.",
            join(
                "Submit a file here, or from a shell: ",
                tag("code", "callboard job submit scene.blend --frames 1-240"),
            ),
        )
    head = tag("tr", *(tag("th", caption) for caption in (_COLUMNS if may_command else _COLUMNS[1:])))
    rows = (_row(job, job.job in picked, tz, may_command=may_command) for job in page.items)
    return tag("section", tag("table", tag("thead", head), tag("tbody", *rows), class_="cb-table cb-jobs"))


def _row(job: JobReport, picked: bool, tz: tzinfo, *, may_command: bool) -> Markup:
    place = " / ".join(name for name in (job.project, job.shot) if name)
    name = tag("td", job_link(job.job, tag("b", job.name, class_="cb-name")), tag("small", place or job.type))
    box = tag(
        "td",
        tag(
            "span",
            "✓" if picked else "",
            class_="cb-pick",
            role="checkbox",
            tabindex="0",
            aria_checked="true" if picked else "false",
            aria_label=f"Pick {job.name}",
            data_act=f"pick:{job.job}",
        ),
    )
    counts = job.frames
    failed = tag("em", f"{counts.failed} failed", class_="cb-figure cb-bad") if counts.failed else None
    return tag(
        "tr",
        box if may_command else None,
        name,
        tag("td", state(job.state)),
        tag(
            "td",
            bar(job.progress, tone=TONES[job.state]),
            tag("small", f"{counts.done} of {counts.total} ", failed),
        ),
        tag("td", eta(job.eta)),
        tag("td", str(job.priority)),
        tag("td", job.owner),
        tag("td", words.moment(job.created, tz)),
        data_key=job.job,
    )


def expressible(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the part of a job type's settings that a form has fields for, and the names of the others."""
    properties: Mapping[str, Any] = settings.get("properties", {})
    fields = schema.fields({"type": "object", "properties": properties}) or []
    simple = {field.name: properties[field.name] for field in fields if field.shape != "free"}
    required = [name for name in settings.get("required", []) if name in simple]
    rest = [name for name in properties if name not in simple]
    return {"type": "object", "properties": simple, "required": required}, rest
