"""The Workers page: services with their members and how busy they are, who calls whom, and what a call needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, tzinfo

from callboard_console.web.snapshot import Snapshot
from callboard_console.web.views import parts, words
from callboard_console.web.views.markup import EMPTY, Markup, join, node_link, tag
from callboard_core.calls.survey import Member, Report, Service, Standing
from callboard_core.cards import WorkerCard
from callboard_core.topics import BOARD

__all__ = [
    "PAGE_SIZE",
    "callable_services",
    "card_of",
    "choose",
    "seconds",
    "sessions",
    "summary",
    "table",
    "toggle",
]

#: Services on a page, and members shown of one.
PAGE_SIZE = 100
MEMBERS = 100
#: Sessions in the list.
SESSIONS = 50

_TONES = {Standing.READY: "ok", Standing.DRAINING: "info", Standing.SILENT: "bad", Standing.AWAY: "idle"}
_COLUMNS = ("Service", "Members", "In flight", "Waiting", "p50", "p95", "Done", "Errors", "")


def choose(snapshot: Snapshot, query: str) -> list[Service]:
    """Return the services whose name, or one of whose members, has every word of the query in it."""
    wanted = query.lower().split()
    found = [service for service in snapshot.services if all(word in _haystack(service) for word in wanted)]
    return sorted(found, key=_is_boards)  # what people run comes first


def toggle(opened: frozenset[str], service: str) -> frozenset[str]:
    """Open a service, or close it."""
    return opened ^ {service}


def callable_services(snapshot: Snapshot) -> list[str]:
    """Return the names of the services that somebody offers now."""
    return [service.name for service in snapshot.services if any(_is_here(one) for one in service.members)]


def card_of(snapshot: Snapshot, service: str) -> WorkerCard | None:
    """Return the card of a member that is here, for what its calls need."""
    for found in snapshot.services:
        if found.name == service:
            return next((one.card for one in found.members if _is_here(one)), None)
    return None


def seconds(value: float | None) -> str:
    """Return a length of time as short as it is exact: ``"0.8 ms"``, ``"45 ms"``, ``"1.2 s"``."""
    if value is None:
        return words.UNKNOWN
    if value < 0.00995:  # noqa: PLR2004 - below it rounds to less than 10 ms
        return f"{value * 1000:.1f} ms"
    return f"{value * 1000:.0f} ms" if value < 0.9995 else f"{value:.1f} s"  # noqa: PLR2004 - it rounds to 1 s


def summary(snapshot: Snapshot) -> Markup:
    """Return the heading: how much is offered and how much is going on."""
    services = snapshot.services
    total = [service.total for service in services]
    said = [
        words.count(len(services), "service"),
        words.count(sum(len(service.members) for service in services), "member"),
        f"{words.number(sum(one.running for one in total))} in flight",
        f"{words.number(sum(one.waiting for one in total))} waiting",
    ]
    return parts.heading("Workers", " · ".join(said))


def table(snapshot: Snapshot, query: str, opened: frozenset[str], *, may_command: bool) -> Markup:
    """Return the services, with the members of those that are opened."""
    if not snapshot.services:
        return parts.empty(
            "Nobody offers a service.",
            join("A node offers one with ", tag("code", "@node.worker"), " over a function."),
        )
    found = choose(snapshot, query)
    if not found:
        return parts.empty("No service passes the filter.", "Clear the search.")
    shown = found[:PAGE_SIZE]
    body = (_rows(service, opened=service.name in opened, may_command=may_command) for service in shown)
    head = tag("tr", *(tag("th", caption) for caption in _COLUMNS))
    drawn = tag("table", tag("thead", head), tag("tbody", *body), class_="cb-table cb-services")
    more = f"{len(found) - len(shown)} more; search for them" if len(found) > len(shown) else None
    return tag(
        "section", drawn, tag("footer", more, class_="cb-pager") if more else None, data_key="services"
    )


def sessions(snapshot: Snapshot, tz: tzinfo = UTC) -> Markup:
    """Return who calls whom at the moment."""
    heading = tag(
        "div",
        tag("h2", "Sessions"),
        tag("small", "who calls whom, over the last seconds"),
        class_="cb-section",
    )
    found = snapshot.sessions[:SESSIONS]
    if not found:
        return join(heading, tag("p", "Nothing is being called.", class_="cb-quiet"))
    services = {
        (member.node, member.name): service.name
        for service in snapshot.services
        for member in service.members
    }
    rows = (
        tag(
            "tr",
            tag("td", _caller(snapshot, one.caller)),
            tag("td", services.get((one.node, one.worker), one.worker)),
            tag("td", node_link(one.node, one.node) if one.node != BOARD else "chosen by the board"),
            tag("td", f"{words.number(float(one.rate))}/s"),
            tag("td", words.clock(one.last, tz)),
            data_key=f"{one.caller} {one.node} {one.worker}",
            data_session=one.caller,
        )
        for one in found
    )
    head = tag("tr", *(tag("th", caption) for caption in ("Caller", "Service", "On", "Calls", "Last")))
    more = len(snapshot.sessions) - len(found)
    footer = tag("footer", f"{more} more", class_="cb-pager") if more else None
    drawn = tag("table", tag("thead", head), tag("tbody", *rows), class_="cb-table")
    return join(heading, tag("section", drawn, footer))


def _rows(service: Service, *, opened: bool, may_command: bool) -> Iterable[Markup]:
    yield _service(service, opened=opened, may_command=may_command)
    if not opened:
        return
    for member in service.members[:MEMBERS]:
        yield _member(member, may_command=may_command)
    if len(service.members) > MEMBERS:
        said = f"{len(service.members) - MEMBERS} more members"
        yield tag(
            "tr", tag("td", said, colspan=len(_COLUMNS), class_="cb-quiet"), data_key=f"{service.name} more"
        )


def _service(service: Service, *, opened: bool, may_command: bool) -> Markup:
    name = tag(
        "a",
        tag("u", "▾" if opened else "▸"),
        service.name,
        href="#",
        data_act=f"open:{service.name}",
        class_="cb-name",
    )
    card = next((member.card for member in service.members), None)
    about = tag("small", card.description) if card is not None and card.description else None
    call = (
        tag("a", "Call", href="#", data_act=f"call:{service.name}") if may_command and service.ready else None
    )
    return tag(
        "tr",
        tag("td", name, about),
        tag("td", _members(service.members)),
        *_figures(service.total if any(one.report for one in service.members) else None),
        tag("td", call),
        data_key=service.name,
        data_service=service.name,
        class_="" if service.ready else "cb-gone",
    )


def _member(member: Member, *, may_command: bool) -> Markup:
    where = " · ".join(filter(None, (member.name, f"pid {member.pid}" if member.pid else "")))
    standing = tag("span", member.standing.value, class_=f"cb-status cb-{_TONES[member.standing]}")
    report = member.report if member.standing is not Standing.AWAY else None
    return tag(
        "tr",
        tag("td", node_link(member.node, member.node), tag("small", where), class_="cb-member"),
        tag("td", standing),
        *_figures(report, f"of {member.card.concurrency}"),
        tag("td", _switch(member) if may_command else None),
        data_key=f"{member.card.service} {member.node}/{member.name}",
        data_member=f"{member.node}/{member.name}",
        class_="cb-gone" if member.standing is Standing.AWAY else "",
    )


def _switch(member: Member) -> Markup | None:
    """What takes a member out of its pools without ending what it does, or puts it back."""
    if member.standing is Standing.AWAY or member.node == BOARD:
        return None
    verb, said = ("enable", "Enable") if member.card.draining else ("drain", "Drain")
    return tag("a", said, href="#", data_act=f"{verb}:{member.node}/{member.name}", role="button")


def _members(members: Sequence[Member]) -> Markup:
    ready = sum(member.standing is Standing.READY for member in members)
    others = [
        tag("span", f"{many} {standing}", class_=f"cb-chip cb-{_TONES[standing]}")
        for standing in (Standing.DRAINING, Standing.SILENT, Standing.AWAY)
        if (many := sum(member.standing is standing for member in members))
    ]
    return join(f"{ready} ready", *(join(" ", one) for one in others))


def _figures(report: Report | None, capacity: str = "") -> list[Markup]:
    if report is None:
        return [tag("td", words.UNKNOWN) for _ in range(6)]
    wrong = report.failed + report.refused
    said = f"{report.failed} failed, {report.refused} refused" if wrong else None
    return [
        tag("td", words.number(report.running), tag("small", " ", capacity) if capacity else EMPTY),
        tag("td", words.number(report.waiting), class_="cb-warn cb-figure" if report.waiting else None),
        tag("td", seconds(report.p50)),
        tag("td", seconds(report.p95)),
        tag("td", words.number(report.done)),
        tag("td", words.number(wrong), title=said, class_="cb-bad cb-figure" if wrong else None),
    ]


def _caller(snapshot: Snapshot, caller: str) -> Markup:
    if caller in snapshot.nodes:
        return node_link(caller, caller)
    return tag("span", "all others" if caller == "*" else caller)


def _is_here(member: Member) -> bool:
    return member.standing in {Standing.READY, Standing.DRAINING}


def _is_boards(service: Service) -> bool:
    return all(member.node == BOARD for member in service.members)


def _haystack(service: Service) -> str:
    return " ".join(
        [service.name, *(f"{one.node} {' '.join(one.card.tags)}" for one in service.members)]
    ).lower()
