"""The Farm page: every slot with what it does now, and how the farm as a whole goes. Pure."""

from __future__ import annotations

from callboard_console.web.farm import Farm, Slot, file_path
from callboard_console.web.views import parts, words
from callboard_console.web.views.markup import EMPTY, Markup, join, node_link, tag
from callboard_core.farm.states import JobState, SlotState

__all__ = ["bar", "choose", "eta", "job_link", "slots", "summary"]

#: Colour family of what a slot says it is; the word is always written beside it.
_TONES = {
    SlotState.IDLE.value: "idle",
    SlotState.STARTING.value: "info",
    SlotState.RENDERING.value: "ok",
    SlotState.PAUSED.value: "warn",
    SlotState.DRAINING.value: "info",
    SlotState.DISABLED.value: "idle",
    SlotState.ASLEEP.value: "idle",
    SlotState.ERROR.value: "bad",
    "lost": "bad",
}
_BUSY = {
    SlotState.STARTING.value,
    SlotState.RENDERING.value,
    SlotState.PAUSED.value,
    SlotState.DRAINING.value,
}
#: Slots drawn at most; the search finds the others.
MOST = 400


def eta(seconds: float | None) -> str:
    """Return how long something will still take."""
    return "" if seconds is None else f"{words.duration(seconds)} left"


def bar(progress: float, *, tone: str = "accent") -> Markup:
    """Return a progress bar; ``progress`` from 0 to 1."""
    percent = min(100.0, max(0.0, 100 * progress))
    filled = tag("i", style=f"width:{percent:.1f}%")
    return tag(
        "div",
        filled,
        class_=f"cb-bar cb-{tone}",
        role="progressbar",
        aria_valuenow=f"{percent:.0f}",
        aria_valuemin="0",
        aria_valuemax="100",
    )


def job_link(job: str, *children: str | Markup) -> Markup:
    """Return a link to a job's page."""
    return tag("a", *children, href=f"job?job={job}", data_act=f"job:{job}")


def summary(farm: Farm) -> Markup:
    """Return the farm in a sentence and the figures below it."""
    live = [slot for slot in farm.slots if slot.live]
    busy = [slot for slot in live if slot.state in _BUSY]
    word, tone = _word(farm, len(busy), len(live))
    head = tag(
        "header",
        tag("h1", word, class_=f"cb-word cb-{tone}"),
        tag("p", farm.problem or _sentence(farm)),
        class_="cb-head",
    )
    figures = (
        (words.number(len(busy)), f"of {words.count(len(live), 'slot')} busy"),
        (words.number(farm.jobs.get(JobState.ACTIVE, 0)), "jobs running"),
        (words.number(farm.jobs.get(JobState.QUEUED, 0)), "jobs waiting"),
        (words.number(farm.frames.waiting), "frames waiting"),
        (f"{farm.frames_per_minute:.0f}", "frames a minute"),
        (words.duration(farm.eta) if farm.eta is not None else words.UNKNOWN, "until all is done"),
    )
    tiles = (tag("div", tag("b", figure), tag("span", what), class_="cb-tile") for figure, what in figures)
    return join(head, tag("div", *tiles, class_="cb-tiles"), _last(farm))


def _word(farm: Farm, busy: int, live: int) -> tuple[str, str]:
    if farm.problem:
        return "In trouble", "bad"
    if not live:
        return "No slots", "idle"
    if busy:
        return "Rendering", "ok"
    return ("Waiting", "warn") if farm.frames.waiting else ("Idle", "idle")


def _sentence(farm: Farm) -> str:
    lost = sum(not slot.live for slot in farm.slots)
    away = f"{words.count(lost, 'slot')} away; " if lost else ""
    return away + f"{words.count(farm.frames.done, 'frame')} of the open jobs done"


def _last(farm: Farm) -> Markup:
    found = farm.last
    if not found or not isinstance(found.get("job"), str) or not isinstance(found.get("frame"), int):
        return EMPTY
    picture = tag("img", src=file_path(found["job"], "last"), alt=f"frame {found['frame']}", loading="lazy")
    caption = tag("figcaption", f"Rendered last: frame {found['frame']}")
    return tag("figure", job_link(found["job"], picture), caption, class_="cb-last")


def choose(farm: Farm, query: str) -> list[Slot]:
    """Return the slots in whose names, engines, tags or states every word of the query is."""
    wanted = query.lower().split()
    return [slot for slot in farm.slots if all(word in _haystack(slot) for word in wanted)]


def _haystack(slot: Slot) -> str:
    return " ".join((slot.node, slot.slot, slot.card.engine, slot.state, *slot.tags)).lower()


def slots(farm: Farm, query: str, *, may_command: bool) -> Markup:
    """Return the grid of slots."""
    if not farm.slots:
        return parts.empty(
            "There are no render slots yet.",
            join(
                "A node offers one for each engine that it finds (blender, povray, ffmpeg). ",
                "Without any of them, try ",
                tag("code", "callboard node --slots simulated=2"),
                ".",
            ),
        )
    found = choose(farm, query)
    if not found:
        return parts.empty("No slot passes the filter.", "Clear the search.")
    cards = (_slot(slot, may_command=may_command) for slot in found[:MOST])
    more = f"{len(found) - MOST} more; search for them" if len(found) > MOST else None
    return join(
        tag("div", *cards, class_="cb-slots", data_key="slots"),
        tag("footer", more, class_="cb-pager") if more else None,
    )


def _slot(slot: Slot, *, may_command: bool) -> Markup:
    report = slot.report
    tone = _TONES.get(slot.state, "idle")
    engine = f"{slot.card.engine} {slot.card.version or ''}".rstrip()
    head = tag(
        "div",
        tag("b", node_link(slot.node, slot.node), f" / {slot.slot}"),
        tag("span", slot.state, class_=f"cb-status cb-{tone}"),
        class_="cb-slot-head",
    )
    closed = slot.note or slot.closed or (report.reason if report is not None else None)
    said = tag("p", closed, class_="cb-quiet") if closed and slot.state not in _BUSY else None
    devices = tag("small", " · ".join((engine, *slot.card.devices, *slot.tags)))
    return tag(
        "article",
        head,
        devices,
        _work(slot),
        said,
        _orders(slot) if may_command and slot.live else None,
        class_=f"cb-slot cb-{tone}",
        data_key=f"{slot.node}/{slot.slot}",
    )


def _work(slot: Slot) -> Markup:
    report = slot.report
    if report is None or report.job is None or slot.state not in _BUSY:
        counted = words.count(slot.frames_done, "frame")
        failed = f", {words.count(slot.failures, 'failure')}" if slot.failures else ""
        return tag("p", f"{counted} done{failed}", class_="cb-quiet")
    frame = f"frame {report.frame}" if report.frame is not None else None
    many = f"{report.frames_done} of {report.frames_total}" if report.frames_total else None
    words_ = " · ".join(text for text in (frame, many, eta(report.eta)) if text)
    return join(
        tag("p", job_link(report.job, f"Job {report.job}"), f" · {words_}" if words_ else None),
        bar(report.progress or 0.0),
    )


def _orders(slot: Slot) -> Markup:
    key = f"{slot.node}/{slot.slot}"
    wanted = {"on": ("drain", "disable"), "draining": ("enable", "disable"), "off": ("enable",)}
    offered = list(wanted.get(slot.wanted, ("enable",)))
    if slot.state in {SlotState.STARTING, SlotState.RENDERING}:
        offered.append("pause")
    if slot.state == SlotState.PAUSED:
        offered.append("resume")
    buttons = (
        tag("a", do.capitalize(), role="button", tabindex="0", data_act=f"{do}:{key}") for do in offered
    )
    return tag("footer", *buttons)
